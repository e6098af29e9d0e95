"""The losses of REINFORCE, with TorchRL's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparing import SPECS, batch, evaluated, gradients, networks_of
from tensordict import TensorDict
from torchrl.objectives import ReinforceLoss

from trainers.config import ReinforceConfig
from trainers.losses.reinforce import BaselineReinforceLoss, PolicyGradientLoss

spaces = pytest.mark.parametrize("space", SPECS)
sizes = pytest.mark.parametrize("size", [(1,), (64,), (8, 5)])
reductions = pytest.mark.parametrize("reduction", ["mean", "sum"])


def theirs(space: str, **given: Any) -> ReinforceLoss:
    networks = networks_of(ReinforceConfig(), space)
    return ReinforceLoss(networks.actor, networks.critic, functional=False, **given)


@spaces
@sizes
@reductions
def test_without_a_baseline_it_is_the_actor_s_part(
    space: str, size: tuple[int, ...], reduction: str
) -> None:
    ours = PolicyGradientLoss(networks_of(ReinforceConfig(), space).actor, reduction)
    other = theirs(space, reduction=reduction)
    data = batch(space, size=size)
    losses, expected = evaluated(ours, data), evaluated(other, data.clone())
    assert set(losses.keys()) == {"loss_actor"}
    assert losses["loss_actor"].shape == ()
    torch.testing.assert_close(losses["loss_actor"], expected["loss_actor"])
    found, theirs_found = gradients(ours), gradients(other)
    assert found.keys() == {name for name in theirs_found if name.startswith("actor")}
    for name, gradient in found.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, theirs_found[name], msg=name)
    assert set(data.keys()) == set(batch(space, size=size).keys())


def test_by_hand() -> None:
    """Two frames, the density of a normal."""
    ours = PolicyGradientLoss(networks_of(ReinforceConfig()).actor)
    data = batch(size=(2,))
    data["advantage"] = torch.tensor([[2.0], [-3.0]])
    with torch.no_grad():
        log_prob = ours.actor_network.get_dist(data.clone()).log_prob(data["action"])
    expected = -(2.0 * log_prob[0] - 3.0 * log_prob[1]) / 2
    torch.testing.assert_close(ours(data)["loss_actor"], expected)


@spaces
@reductions
def test_the_critic_s_loss_has_its_usual_name(space: str, reduction: str) -> None:
    networks = networks_of(ReinforceConfig(), space)
    ours = BaselineReinforceLoss(
        networks.actor, networks.critic, functional=False, reduction=reduction
    )
    other, data = theirs(space, reduction=reduction), batch(space)
    losses, expected = evaluated(ours, data), evaluated(other, data.clone())
    assert set(losses.keys()) == {"loss_actor", "loss_critic"}
    assert torch.equal(losses["loss_actor"], expected["loss_actor"])
    assert torch.equal(losses["loss_critic"], expected["loss_value"])
    for name, gradient in gradients(other).items():
        assert torch.equal(gradients(ours)[name], gradient)


def test_the_batch_is_left_alone() -> None:
    """TorchRL's own writes parameters of the distribution into it, with their graph."""
    networks, data = networks_of(ReinforceConfig()), batch()
    loss = BaselineReinforceLoss(networks.actor, networks.critic, functional=False)
    before: TensorDict = data.clone()
    loss(data)
    assert set(data.keys()) == set(before.keys())
    theirs("gaussian")(before)
    assert set(before.keys()) > set(data.keys())
