"""Target networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.algorithms import tiny_sac
from support.doubles import Constant, stub
from support.states import loss_of
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.objectives import HardUpdate, SACLoss, SoftUpdate

from trainers.algorithms.sac import make_loss as make_sac_loss
from trainers.build import build
from trainers.config import SACConfig
from trainers.hooks import StepUpdater, TargetUpdate
from trainers.networks.actors import TanhNormalActor
from trainers.networks.critics import StateActionValue, critic_ensemble


def make_loss(seed: int = 0) -> SACLoss:
    """A SAC loss whose critics have moved away from their targets."""
    built = build(tiny_sac(seed=seed))
    built.trainer.collector.shutdown()
    loss = loss_of(built.trainer)
    assert isinstance(loss, SACLoss)
    move(loss, seed)
    return loss


def move(loss: SACLoss, seed: int) -> None:
    """What an optimizer's step does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)


def critics(loss: SACLoss, target: bool = False) -> list[torch.Tensor]:
    """Copies of the critics' parameters, or of their targets."""
    name = "target_qvalue_network_params" if target else "qvalue_network_params"
    return [value.detach().clone() for value in getattr(loss, name).values(True, True)]


def step(hook: Any, updates: int) -> None:
    """What the trainer does after an update."""
    hook(stub(updates=updates), TensorDict(), TensorDict())


@pytest.mark.parametrize("tau", [0.005, 0.3, 1.0])
def test_targets_are_a_moving_average(tau: float) -> None:
    loss = make_loss()
    hook = TargetUpdate(loss, tau)
    for update in range(1, 4):
        move(loss, update)
        before, sources = critics(loss, target=True), critics(loss)
        step(hook, update)
        for target, old, source in zip(critics(loss, target=True), before, sources, strict=True):
            torch.testing.assert_close(target, old + tau * (source - old))
            assert not torch.equal(target, old)
        assert all(map(torch.equal, critics(loss), sources))


def test_the_average_is_that_of_torchrl() -> None:
    ours, theirs = make_loss(), make_loss()
    hook, updater = TargetUpdate(ours, 0.01), SoftUpdate(theirs, tau=0.01)
    for update in range(1, 6):
        for loss in (ours, theirs):
            move(loss, update)
        step(hook, update)
        updater.step()
    for mine, other in zip(critics(ours, True), critics(theirs, True), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_a_hard_update_copies_at_its_interval() -> None:
    loss = make_loss()
    hook = TargetUpdate(loss, tau=1.0, interval=3)
    equal = []
    for update in range(1, 7):
        move(loss, update)
        step(hook, update)
        equal.append(all(map(torch.equal, critics(loss, True), critics(loss))))
    assert equal == [False, False, True, False, False, True]


def test_only_targets_move() -> None:
    loss = make_loss()
    hook = TargetUpdate(loss, 0.5)
    before = {k: v.clone() for k, v in loss.state_dict().items() if "target" not in k}
    step(hook, 1)
    after = loss.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_whole_numbers_in_a_network_are_copied() -> None:
    """A batch norm counts its batches, for one."""

    class Counting(StateActionValue):
        def __init__(self) -> None:
            super().__init__(3, 1, [4], "relu")
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    spec = Bounded(-1.0, 1.0, (1,))
    actor = TanhNormalActor(3, spec, [4], "relu")
    critics = critic_ensemble(Counting(), 2)
    loss = make_sac_loss(actor, critics, spec, SACConfig(), SACLoss)
    hook = TargetUpdate(loss, 0.5)
    loss.qvalue_network_params["module", "calls"].fill_(6)
    step(hook, 1)
    assert loss.target_qvalue_network_params["module", "calls"].tolist() == [6, 6]


@pytest.mark.parametrize("make", [lambda loss: SoftUpdate(loss, tau=0.5), HardUpdate])
def test_updaters_of_torchrl_are_stepped_and_resumed(make: Any) -> None:
    loss = make_loss()
    hook = StepUpdater(make(loss))
    before = critics(loss, target=True)
    if isinstance(hook.updater, HardUpdate):
        hook.updater.value_network_update_interval = 1
        step(hook, 1)
        state = hook.state_dict()
        assert state["counter"] == 1
        hook = StepUpdater(make(loss))
        hook.updater.value_network_update_interval = 1
        hook.load_state_dict(state)
    move(loss, 1)
    step(hook, 2)
    assert not any(map(torch.equal, critics(loss, True), before))


@pytest.mark.parametrize(
    ("given", "match"),
    [({"tau": 0.0}, "tau"), ({"tau": 1.1}, "tau"), ({"interval": 0}, "interval")],
)
def test_values_out_of_range_are_refused(given: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TargetUpdate(make_loss(), **given)


def test_a_loss_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="Constant has no target networks"):
        TargetUpdate(Constant())
