"""The lean losses of TD3 and DDPG in two parts, and their noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, SLICED, both, make_deterministic
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import Actor
from torchrl.objectives import DDPGLoss, TD3Loss, ValueEstimators
from transitions import (
    ACTIONS,
    BATCH,
    EXTRAS,
    OBSERVATIONS,
    UNEVEN,
    UNIT,
    assert_near,
    batch,
    differentiate,
    gradients,
    near,
)

from trainers.config import TD3Config
from trainers.losses.deterministic import actor_part, critics_part
from trainers.losses.fast_td3 import FastDDPGLoss, FastTD3Loss, fits
from trainers.networks.actors import TanhActor
from trainers.networks.critics import StateActionValue, critic_ensemble

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

OURS = {"td3": FastTD3Loss, "ddpg": FastDDPGLoss}
THEIRS = {"td3": TD3Loss, "ddpg": DDPGLoss}
VARIANTS = [(algo, variant) for algo in OURS for variant in CASES[algo].variants]
extras = pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
algorithms = pytest.mark.parametrize("algo", list(OURS))


def test_ddpg_is_td3_with_one_critic_and_no_noise() -> None:
    """Both are drawn from the same numbers."""
    one, _ = make_deterministic(DDPGLoss)
    two, _ = make_deterministic(TD3Loss, num_critics=1, policy_noise=0.0)
    for part, name in ((critics_part, "loss_qvalue"), (actor_part, "loss_actor")):
        assert near(part(two, batch())[name], part(one, batch())[name]), name


@pytest.mark.parametrize(("algo", "variant"), VARIANTS)
@extras
def test_parts_and_their_gradients(algo: str, variant: str, extra: tuple[str, ...]) -> None:
    """Each leaves what the other trains alone."""
    ours, theirs = both(algo, variant)
    number = getattr(theirs, "num_qvalue_nets", 1)
    each = {f"qvalue_{index}" for index in range(number)} if number > 1 else set()
    for part, trained in ((critics_part, "value_network_params"), (actor_part, "actor_network")):
        results = []
        for loss in (ours, theirs):
            loss.zero_grad()
            data = batch(extra=extra)
            torch.manual_seed(2)
            results.append((part(loss, data), data))
            differentiate(results[-1][0])
        (our_losses, our_batch), (their_losses, their_batch) = results
        assert set(our_losses.keys()) == set(their_losses.keys())
        for key, value in their_losses.items():
            assert our_losses[key].shape == value.shape == (), key
            assert near(our_losses[key], value), key
        assert all(value.abs().max() > 0 for value in gradients(theirs).values())
        assert_near(gradients(ours), gradients(theirs))
        assert all(trained in name for name in gradients(theirs))
        assert set(our_batch.keys()) == set(their_batch.keys())
        if part is critics_part:
            assert set(their_losses.keys()) == {"loss_qvalue"} | each
            assert near(our_batch["td_error"], their_batch["td_error"])
            check_errors(theirs, their_losses, their_batch, each)
        else:
            assert set(their_losses.keys()) == {"loss_actor"}


def check_errors(loss: Any, losses: Any, data: Any, each: set[str]) -> None:
    """They are sizes, not squares; the critics' own losses sum up to the loss."""
    brought = tuple(key for key in EXTRAS["weights and steps"] if data.get(key, None) is not None)
    whole = batch(extra=brought)
    torch.manual_seed(2)
    loss(whole)
    assert near(data["td_error"].square(), whole["td_error"].detach(), 1e-4)
    if each:
        total = torch.stack([losses[key] for key in each]).sum()
        assert near(total.detach(), losses["loss_qvalue"].detach())
        assert not any(losses[key].requires_grad for key in each)


OTHER_FORMS: dict[str, dict[str, Any]] = {
    "none": {"reduction": "none", "prioritized": True},
    "td1": {"value_estimator": "td1", **SLICED},
    "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
}


@algorithms
@pytest.mark.parametrize("form", OTHER_FORMS.values(), ids=list(OTHER_FORMS))
def test_parts_of_torchrl_s_other_forms(algo: str, form: dict[str, Any]) -> None:
    loss, config = make_deterministic(THEIRS[algo], **form)
    length = config.slice_length
    data = batch(length=length)
    losses = critics_part(loss, data)
    expected = [BATCH] if config.reduction == "none" else []
    assert {tuple(value.shape) for value in losses.values()} == {tuple(expected)}
    assert data["td_error"].shape == data.batch_size
    assert (data["td_error"] >= 0).all()
    differentiate(losses)
    differentiate(actor_part(loss, data))
    assert len(gradients(loss)) >= 8


@pytest.mark.parametrize("bounds", [UNIT, UNEVEN], ids=["unit", "uneven"])
def test_the_noise_is_in_units_of_the_range_and_the_action_in_bounds(bounds: Any) -> None:
    """What the targets' critics are asked about."""
    loss, _ = make_deterministic(FastTD3Loss, bounds=bounds, policy_noise=0.3, noise_clip=0.4)
    spread = loss.max_action - loss.min_action
    rows, taken = 20_000, torch.zeros(20_000, ACTIONS)
    action = (loss.min_action + 0.5 * spread + taken).numpy()

    class Passes:
        xp, device = np, torch.device("cpu")

    smoothed = torch.from_numpy(loss._smoothed(action, Passes()))
    unit = (smoothed - torch.from_numpy(action)) / (spread / 2)
    assert unit.abs().max().item() == pytest.approx(0.4, abs=1e-5)
    assert unit.abs().median(0).values.tolist() == pytest.approx([0.3 * 0.6745] * 3, rel=0.05)
    beyond = torch.from_numpy(loss._smoothed((loss.max_action + taken).numpy(), Passes()))
    assert (beyond <= loss.max_action).all()
    assert (beyond == loss.max_action).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert len(smoothed) == rows


@algorithms
def test_what_is_told_of_a_batch_stays(algo: str) -> None:
    """It is no view of the memory."""
    loss, _ = make_deterministic(OURS[algo])
    _, about = loss.value_loss(batch(1))
    kept = {key: value.clone() for key, value in about.items()}
    with torch.no_grad():
        loss.value_loss(batch(2))
    assert all(torch.equal(value, kept[key]) for key, value in about.items())


def test_they_fit_the_shipped_networks_only() -> None:
    spec = Bounded(-1.0, 1.0, (ACTIONS,))
    actor = TanhActor(OBSERVATIONS, spec, [8], "relu")
    critics = critic_ensemble(StateActionValue(OBSERVATIONS, ACTIONS, [8], "relu"), 2)
    assert fits(actor, critics, TD3Config())
    for other in (
        TD3Config(reduction="none", prioritized=True),
        TD3Config(value_estimator="td1", slice_length=8),
    ):
        assert not fits(actor, critics, other)
    for loss_class in OURS.values():
        with pytest.raises(NotImplementedError, match="knows TD0 only"):
            make_deterministic(loss_class)[0].make_value_estimator(ValueEstimators.TDLambda)

    class Mine(StateActionValue):
        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return super().forward(observation, action) * 2

    mine = critic_ensemble(Mine(OBSERVATIONS, ACTIONS, [8], "relu"))
    assert not fits(actor, mine, TD3Config())
    assert not fits(actor, [critics[0], mine[0]], TD3Config())
    other_actor = Actor(nn.Linear(OBSERVATIONS, ACTIONS), spec=spec)
    assert not fits(other_actor, critics, TD3Config())
