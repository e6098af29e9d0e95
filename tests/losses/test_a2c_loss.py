"""The loss of A2C in numpy is TorchRL's, number for number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import (
    BATCH,
    SPECS,
    assert_equal,
    assert_through_torchrl,
    batch,
    evaluated,
    gradients,
    near,
    networks_of,
)
from helpers import sac_loss, tiny_a2c
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import A2CLoss

from trainers.algorithms.a2c import make_loss, make_optimizer
from trainers.build import build
from trainers.config import A2CConfig
from trainers.losses.a2c import FastA2CLoss
from trainers.phases import Phase

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no normaliser": {"normalize_observation": False},
    "relu": {"activation": "relu"},
    "three layers": {"hidden": [8, 16, 8]},
    "entropy": {"entropy_coeff": 0.1},
    "l1": {"loss_critic_type": "l1"},
    "smooth_l1": {"loss_critic_type": "smooth_l1"},
    "sum": {"reduction": "sum", "entropy_coeff": 0.1},
    "critic's part": {"critic_coeff": 0.9},
    "deviations at their bound": {"lower_bound": 0.8, "entropy_coeff": 0.1},
}

spaces = pytest.mark.parametrize("space", SPECS)


def make(loss_class: Any, space: str = "gaussian", **given: Any) -> tuple[Any, A2CConfig]:
    """A loss; ``loss_class`` None leaves the choice to `make_loss`."""
    own = {key: given.pop(key) for key in ("hidden", "activation", "lower_bound") if key in given}
    config = A2CConfig(**given)
    return make_loss(networks_of(config, space, **own), config, loss_class), config


def pair(space: str = "gaussian", **given: Any) -> tuple[Any, Any]:
    """Ours, as it is chosen, and TorchRL's."""
    ours, theirs = (make(loss_class, space, **given)[0] for loss_class in (None, A2CLoss))
    assert (type(ours), type(theirs)) == (FastA2CLoss, A2CLoss)
    return ours, theirs


@spaces
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("size", [(BATCH,), (8, 5)])
def test_losses_and_gradients(variant: dict[str, Any], space: str, size: tuple[int, ...]) -> None:
    """Of frames, and of a rollout as it was collected."""
    ours, theirs = pair(space, **variant)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_equal(ours, theirs, batch(space, size=size))


@spaces
@pytest.mark.parametrize("name", ["loss_objective", "loss_entropy", "loss_critic"])
def test_gradients_follow_what_a_hook_makes_of_the_losses(space: str, name: str) -> None:
    ours, theirs = pair(space, entropy_coeff=0.1)

    def scale(losses: TensorDictBase) -> None:
        losses[name] = 3.0 * losses[name]

    evaluated(ours, batch(space))
    before = {key: value.clone() for key, value in gradients(ours).items()}
    ours.zero_grad()
    assert_equal(ours, theirs, batch(space), scale)
    assert any(not near(value, before[key], 1e-3) for key, value in gradients(ours).items())


@spaces
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_parameters_after_twenty_updates(space: str, optimizer: str) -> None:
    ours, theirs = (updated(c, space, optimizer) for c in (None, A2CLoss))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


def updated(loss_class: Any, space: str, optimizer: Any) -> dict[str, Tensor]:
    """Parameters after twenty updates; all of them moved."""
    loss, config = make(loss_class, space, optimizer=optimizer, lr=1e-3, entropy_coeff=0.1)
    phase = Phase(loss, make_optimizer(loss, config))
    before = {name: p.detach().clone() for name, p in loss.named_parameters()}
    for update in range(20):
        phase.backward(loss(batch(space, seed=update, size=(8, 5))))
        phase.step()
    after = {name: p.detach() for name, p in loss.named_parameters()}
    assert not any(torch.equal(before[name], value) for name, value in after.items())
    return after


@pytest.mark.parametrize("name", ["entropy_coeff", "critic_coeff"])
def test_coefficients_may_be_set_later(name: str) -> None:
    ours, theirs = pair(entropy_coeff=0.1)
    evaluated(ours, batch())
    ours.zero_grad()
    for loss in (ours, theirs):
        getattr(loss, name).fill_(0.77)
    assert_equal(ours, theirs, batch())


def test_renamed_keys() -> None:
    ours, theirs = pair()
    data = batch()
    for loss in (ours, theirs):
        loss.set_keys(advantage="gain", value_target=("critic", "goal"), action="deed")
    data["gain"] = data["advantage"] + data["value_target"]
    data["critic", "goal"] = 2.0 * data["value_target"]
    data["deed"] = data["action"].flip(0)
    assert_equal(ours, theirs, data.exclude("advantage", "value_target", "action"))


@pytest.mark.parametrize(
    "given", [{"predict_std": True}, {"activation": "silu"}, {"functional": True}], ids=str
)
def test_what_it_was_not_made_for_is_torchrl_s(given: dict[str, Any]) -> None:
    loss, _ = make(None, **given)
    assert type(loss) is A2CLoss
    evaluated(loss, batch())


def test_a_shared_trunk_is_torchrl_s() -> None:
    loss, _ = make(None, shared_trunk=True)
    assert type(loss) is A2CLoss


def test_torchrl_s_own_can_be_asked_for() -> None:
    trainer = build(tiny_a2c(algo={"loss_module": "torchrl"})).trainer
    assert type(sac_loss(trainer)) is A2CLoss
    trainer.train()
    assert trainer.updates == 3


def test_batches_without_advantages_and_single_frames_go_through_torchrl() -> None:
    ours, theirs = pair(entropy_coeff=0.1)
    assert_through_torchrl(ours, theirs, batch(size=(1,))[0])
    data = batch(size=(4, 16)).exclude("advantage", "value_target")
    following = batch(seed=2, size=(4, 16))
    done = torch.zeros(4, 16, 1, dtype=torch.bool)
    reward = following["advantage"]
    data["next"] = {"observation": following["observation"], "reward": reward, "done": done}
    data["next", "terminated"] = done.clone()
    for loss in (ours, theirs):
        loss.zero_grad()
    assert_through_torchrl(ours, theirs, data)
