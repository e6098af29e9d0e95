"""The lean loss of SAC is TorchRL's, number for number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss

from trainers.algorithms.sac import make_loss, make_optimizer, make_target_update
from trainers.config import SACConfig
from trainers.losses.sac import FastSACLoss
from trainers.networks import StateActionValue, TanhNormalActor, critic_ensemble

OBSERVATIONS, ACTIONS, BATCH = 5, 3, 64
UNIT = ([-1.0] * ACTIONS, [1.0] * ACTIONS)
UNEVEN = ([-2.0, -0.5, 1.0], [3.0, 0.5, 9.0])

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "uneven bounds": {"bounds": UNEVEN},
    "smooth_l1": {"loss_function": "smooth_l1"},
    "l1": {"loss_function": "l1"},
    "alpha bounded": {"alpha_init": 0.2, "min_alpha": 0.1, "max_alpha": 0.3},
    "alpha fixed": {"alpha_init": 0.2, "fixed_alpha": True},
    "target entropy": {"target_entropy": -7.5},
    "no target critics": {"delay_qvalue": False},
    "target actor": {"delay_actor": True},
    "separate losses": {"separate_losses": True},
    "one critic": {"num_critics": 1},
    "five critics": {"num_critics": 5},
    "tanh": {"activation": "tanh"},
    "silu, three layers": {"activation": "silu", "hidden": [16, 8, 16]},
    "gamma": {"gamma": 0.5},
}

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


def make(
    loss_class: type[SACLoss],
    bounds: tuple[list[float], list[float]] = UNIT,
    hidden: list[int] | None = None,
    activation: str = "relu",
    **given: Any,
) -> tuple[Any, SACConfig]:
    """A loss whose targets have moved away from their sources."""
    torch.manual_seed(0)
    config = SACConfig(**given)
    spec = Bounded(torch.tensor(bounds[0]), torch.tensor(bounds[1]), (ACTIONS,))
    hidden = hidden or [16, 16]
    actor = TanhNormalActor(OBSERVATIONS, spec, hidden, activation)
    critic = StateActionValue(OBSERVATIONS, ACTIONS, hidden, activation)
    loss = make_loss(actor, critic_ensemble(critic, config.num_critics), spec, config, loss_class)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if name.startswith("target_") and isinstance(tensor, Tensor):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
    return loss, config


def batch(seed: int = 1) -> TensorDict:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator)

    terminated = normal(1) > 1
    return TensorDict(
        {
            "observation": normal(OBSERVATIONS),
            "action": normal(ACTIONS).tanh(),
            "next": {
                "observation": normal(OBSERVATIONS),
                "reward": normal(1),
                "terminated": terminated,
                "done": terminated | (normal(1) > 1),
            },
        },
        [BATCH],
    )


def evaluated(loss: Any) -> tuple[TensorDictBase, TensorDictBase]:
    """The losses of a batch with fixed noise, gradients in place, and the batch."""
    data = batch()
    torch.manual_seed(2)
    losses = loss(data)
    sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
    return losses, data


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry."""
    return bool((one - two).abs().max() <= tolerance * two.abs().max() + 1e-12)


@variants
def test_losses_and_gradients(variant: dict[str, Any]) -> None:
    (ours, _), (theirs, _) = make(FastSACLoss, **variant), make(SACLoss, **variant)
    our_losses, our_batch = evaluated(ours)
    their_losses, their_batch = evaluated(theirs)
    assert set(our_losses.keys()) == set(their_losses.keys())
    for key, value in their_losses.items():
        assert our_losses[key].shape == value.shape, key
        assert near(our_losses[key].detach(), value.detach()), key
    assert our_batch["td_error"].shape == their_batch["td_error"].shape
    assert near(our_batch["td_error"], their_batch["td_error"])
    our_gradients, their_gradients = gradients(ours), gradients(theirs)
    assert our_gradients.keys() == their_gradients.keys()
    assert all(value.abs().max() > 0 for value in their_gradients.values())
    for name, value in their_gradients.items():
        assert near(our_gradients[name], value), name


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


@variants
def test_the_state_is_the_same(variant: dict[str, Any]) -> None:
    (ours, _), (theirs, _) = make(FastSACLoss, **variant), make(SACLoss, **variant)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())


@variants
def test_parameters_after_twenty_updates(variant: dict[str, Any]) -> None:
    ours, theirs = (updated(loss_class, variant) for loss_class in (FastSACLoss, SACLoss))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5, msg=name)


def updated(loss_class: type[SACLoss], variant: dict[str, Any]) -> dict[str, Tensor]:
    """Parameters and targets after the updates that a trainer makes."""
    loss, config = make(loss_class, lr=1e-3, **variant)
    optimizer = make_optimizer(loss, config)
    follow = make_target_update(loss, config) if config.delay_qvalue else None
    before = {k: v.clone() for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    torch.manual_seed(3)
    for update in range(20):
        data = batch(seed=update)
        losses = loss(data)
        optimizer.zero_grad()
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        optimizer.step()
        if follow is not None:
            follow(Counted(update + 1), data, losses)  # type: ignore[arg-type]
    after = {k: v for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    assert any(not torch.equal(before[k], v) for k, v in after.items())
    return after


class Counted:
    """All that a target update asks a trainer for."""

    def __init__(self, updates: int) -> None:
        self.updates = updates


def test_a_loaded_state_counts() -> None:
    """Nothing is computed with tensors from before."""
    (ours, _), (theirs, _) = make(FastSACLoss), make(SACLoss)
    evaluated(ours)
    state = {k: v * 0.5 if isinstance(v, Tensor) else v for k, v in theirs.state_dict().items()}
    for loss in (ours, theirs):
        loss.zero_grad()
        loss.load_state_dict(state)
    our_losses, their_losses = evaluated(ours)[0], evaluated(theirs)[0]
    for key, value in their_losses.items():
        assert near(our_losses[key].detach(), value.detach()), key


def test_it_fits_the_shipped_networks_only() -> None:
    spec = Bounded(-1.0, 1.0, (ACTIONS,))
    actor = TanhNormalActor(OBSERVATIONS, spec, [8], "relu")
    critics = critic_ensemble(StateActionValue(OBSERVATIONS, ACTIONS, [8], "relu"), 2)
    assert FastSACLoss.fits(actor, critics, skip_done_states=False)
    assert not FastSACLoss.fits(actor, critics, skip_done_states=True)

    class Mine(StateActionValue):
        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return super().forward(observation, action) * 2

    mine = Mine(OBSERVATIONS, ACTIONS, [8], "relu")
    plain = nn.Bilinear(OBSERVATIONS, ACTIONS, 1)
    for critic in (mine, plain):
        assert not FastSACLoss.fits(actor, critic_ensemble(critic), skip_done_states=False)
        mixed = [critics[0], ValueOperator(critic, ["observation", "action"])]
        assert not FastSACLoss.fits(actor, mixed, skip_done_states=False)

    net = nn.Sequential(nn.Linear(OBSERVATIONS, 2 * ACTIONS), NormalParamExtractor())
    other = ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=spec,
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    assert not FastSACLoss.fits(other, critics, skip_done_states=False)
