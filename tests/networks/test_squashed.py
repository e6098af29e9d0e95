"""Squashed Gaussians, by themselves and against TorchRL's, in numpy and in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded

from trainers import arrays
from trainers.arrays import as_array, as_tensor
from trainers.networks.actors import TanhActor, TanhNormalActor
from trainers.networks.squashed import Drawn, SquashedGaussian, SquashedMean

UNIT = Bounded(-1.0, 1.0, (2,))
WIDE = Bounded(torch.tensor([-2.0, 1.0]), torch.tensor([3.0, 9.0]), (2,))
specs = pytest.mark.parametrize("spec", [UNIT, WIDE], ids=["unit", "wide"])


def actor_of(spec: Any) -> TanhNormalActor:
    torch.manual_seed(0)
    return TanhNormalActor(3, spec, [8], "relu")


def in_torch(actor: TanhNormalActor, monkeypatch: pytest.MonkeyPatch) -> SquashedGaussian:
    """As it would be on another device."""
    monkeypatch.setattr(arrays, "on_host", lambda tensor: False)
    return SquashedGaussian(actor)


@specs
def test_actions_and_log_probabilities_are_the_distribution_s(spec: Any) -> None:
    actor = actor_of(spec)
    data = TensorDict({"observation": 3 * torch.randn(500, 3)}, [500])
    distribution: Any = actor.get_dist(data)
    with torch.no_grad():
        outputs = as_array(actor.net(data["observation"]))
    gaussian = SquashedGaussian(actor)
    mode = as_tensor(gaussian.action(outputs, None))
    torch.testing.assert_close(mode, distribution.deterministic_sample)
    noise = torch.randn(500, 2).numpy()
    drawn = gaussian.draw(outputs, noise)
    assert np.array_equal(drawn.action, gaussian.action(outputs, noise))
    action, log_prob = as_tensor(drawn.action), as_tensor(drawn.log_prob)[:, 0]
    assert action.dtype == log_prob.dtype == torch.float32
    assert spec.is_in(action)
    low, high = spec.space.low, spec.space.high
    inside = ((action - low) > 1e-2).all(-1) & ((high - action) > 1e-2).all(-1)
    assert inside.sum() > 100
    expected = distribution.log_prob(action)
    torch.testing.assert_close(log_prob[inside], expected[inside], rtol=1e-3, atol=1e-3)


def by_autograd(gaussian: SquashedGaussian, outputs: Tensor, noise: Tensor) -> tuple[Drawn, Tensor]:
    """What is drawn, and the outputs' gradients of some sum of it."""
    outputs = outputs.clone().requires_grad_()
    drawn = gaussian.draw(outputs, noise)
    (1.5 * drawn.action.sum() - 0.7 * drawn.log_prob.sum()).backward()
    assert outputs.grad is not None
    return drawn, outputs.grad


@specs
def test_gradients_are_autograd_s_in_numpy_and_in_torch(
    spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = actor_of(spec)
    outputs, noise = torch.randn(50, 4), torch.randn(50, 2)
    in_numpy = SquashedGaussian(actor)
    drawn = in_numpy.draw(outputs.numpy(), noise.numpy())
    ours = in_numpy.gradient(drawn, np.full((50, 2), 1.5, np.float32), np.float32(-0.7))
    theirs = in_torch(actor, monkeypatch)
    expected, gradient = by_autograd(theirs, outputs, noise)
    for one, two in zip(drawn, expected, strict=True):
        torch.testing.assert_close(as_tensor(one), two.detach())
    torch.testing.assert_close(torch.from_numpy(np.concatenate(ours, -1)), gradient)
    detached = Drawn(*(tensor.detach() for tensor in expected))
    written_out = theirs.gradient(detached, torch.full((50, 2), 1.5), torch.tensor(-0.7))
    torch.testing.assert_close(torch.cat(written_out, -1), gradient)


def test_all_stays_finite_where_the_actor_saturates(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = actor_of(UNIT)
    outputs, noise = 200 * torch.randn(200, 4), torch.randn(200, 2)
    drawn = SquashedGaussian(actor).draw(outputs.numpy(), noise.numpy())
    assert np.abs(drawn.action).max() < 1
    assert np.isfinite(drawn.log_prob).all()
    _, gradient = by_autograd(in_torch(actor, monkeypatch), outputs, noise)
    assert gradient.isfinite().all()


@specs
def test_a_mean_and_its_gradient(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    actor = TanhActor(3, spec, [8], "relu")
    data = TensorDict({"observation": 3 * torch.randn(50, 3)}, [50])
    outputs = actor.net(data["observation"]).detach().requires_grad_()
    expected = actor.module[1](outputs)
    assert torch.equal(expected, actor(data)["action"])
    weights = torch.randn(50, 2)
    (weights * expected).sum().backward()
    ours = SquashedMean(actor)
    action, squashed = ours.draw(outputs.detach().numpy())
    assert np.array_equal(ours.action(outputs.detach().numpy(), None), action)
    gradient = as_tensor(ours.gradient(squashed, weights.numpy()))
    assert outputs.grad is not None
    torch.testing.assert_close(as_tensor(action), expected.detach())
    torch.testing.assert_close(gradient, outputs.grad)
    monkeypatch.setattr(arrays, "on_host", lambda tensor: False)
    theirs = SquashedMean(actor)  # as it would be on another device
    action, squashed = theirs.draw(outputs.detach())
    torch.testing.assert_close(action, expected.detach())
    torch.testing.assert_close(theirs.gradient(squashed, weights), outputs.grad)
