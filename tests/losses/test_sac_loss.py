"""What the lean losses of SAC do besides giving TorchRL's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import SLICED, make_sac
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, ValueEstimators
from transitions import ACTIONS, OBSERVATIONS, batch, near

from trainers.config import SACConfig
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.networks.actors import TanhNormalActor
from trainers.networks.critics import StateActionValue, critic_ensemble

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


def test_losses_are_differentiated_once() -> None:
    loss, _ = make_sac(FastSACLoss)
    losses = loss(batch())
    losses["loss_qvalue"].backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="evaluate them again"):
        losses["loss_actor"].backward()


def test_it_fits_the_shipped_networks_only() -> None:
    spec = Bounded(-1.0, 1.0, (ACTIONS,))
    actor = TanhNormalActor(OBSERVATIONS, spec, [8], "relu")
    critics = critic_ensemble(StateActionValue(OBSERVATIONS, ACTIONS, [8], "relu"), 2)
    assert FastSACLoss.fits(actor, critics, SACConfig())
    for other in (
        SACConfig(skip_done_states=True),
        SACConfig(value_network=True),
        SACConfig(reduction="none", prioritized=True),
        SACConfig(value_estimator="td1", slice_length=8),
    ):
        assert not FastSACLoss.fits(actor, critics, other)
    with pytest.raises(NotImplementedError, match="TD0 only"):
        make_sac(FastSACLoss)[0].make_value_estimator(ValueEstimators.TDLambda)

    class Mine(StateActionValue):
        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return super().forward(observation, action) * 2

    mine = Mine(OBSERVATIONS, ACTIONS, [8], "relu")
    plain = nn.Bilinear(OBSERVATIONS, ACTIONS, 1)
    for critic in (mine, plain):
        assert not FastSACLoss.fits(actor, critic_ensemble(critic), SACConfig())
        mixed = [critics[0], ValueOperator(critic, ["observation", "action"])]
        assert not FastSACLoss.fits(actor, mixed, SACConfig())

    net = nn.Sequential(nn.Linear(OBSERVATIONS, 2 * ACTIONS), NormalParamExtractor())
    other = ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=spec,
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    assert not FastSACLoss.fits(other, critics, SACConfig())


# ----------------------------------------------------------------- value estimators


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("estimator", "lmbda"), [("td1", 1.0), ("td_lambda", 0.7), ("td_lambda", 0.01)]
)
def test_targets_follow_episodes_and_not_beyond(version: int, estimator: str, lmbda: float) -> None:
    """Against a slow recursion, with terminations and truncations in the middle of slices."""
    form: dict[str, Any] = {"value_estimator": estimator, "gamma": 0.9, **SLICED}
    form |= {"lmbda": lmbda} if estimator == "td_lambda" else {}
    loss, _ = make_sac(CriticwiseSACLoss, value_network=version == 1, **form)
    data = batch(length=8)
    following = data["next"]
    inner = following["done"][:, 1:-1]
    assert (inner & following["terminated"][:, 1:-1]).any()
    assert (inner & ~following["terminated"][:, 1:-1]).any()

    next_values = next_values_of(loss, data)
    targets = targets_of(loss, data)
    for row in range(len(data)):
        expected = slow_targets(following[row], next_values[row], 0.9, lmbda)
        assert targets[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def slow_targets(
    following: TensorDictBase, next_values: Tensor, gamma: float, lmbda: float
) -> list[float]:
    """The lambda-return of every frame of a slice; the last one can only look at the next value."""
    targets: list[float] = []
    for step in reversed(range(len(following))):
        reward, value = following["reward"][step].item(), next_values[step].item()
        if following["terminated"][step]:
            target = reward
        elif following["done"][step] or not targets:
            target = reward + gamma * value
        else:
            target = reward + gamma * ((1 - lmbda) * value + lmbda * targets[0])
        targets.insert(0, target)
    return targets


def next_values_of(loss: Any, data: TensorDictBase) -> Tensor:
    """What the networks say of the next states, drawn with the same noise as the targets."""
    torch.manual_seed(4)
    following = data["next"].select("observation")
    with torch.no_grad():
        if loss._version == 1:
            with loss.target_value_network_params.to_module(loss.value_network):
                return loss.value_network(following)["state_value"].squeeze(-1)
        with loss.actor_network_params.to_module(loss.actor_network):
            actor = (
                loss._networks_used[0] if hasattr(loss, "_networks_used") else loss.actor_network
            )
            dist = actor.get_dist(following)
            action = dist.rsample()
            log_prob = dist.log_prob(action)
        values = loss._vmap_qnetworkN0(
            following.set("action", action), loss.target_qvalue_network_params
        )["state_action_value"].squeeze(-1)
        return (values - loss._alpha * log_prob).amin(0)


def targets_of(loss: Any, data: TensorDictBase) -> Tensor:
    torch.manual_seed(4)
    if loss._version == 2:
        return loss._compute_target_v2(data)
    parameters = loss._cached_target_params_actor_value
    return loss.value_estimator.value_estimate(data, target_params=parameters).squeeze(-1)


def test_the_target_of_the_first_version_is_the_value_network_s() -> None:
    loss, _ = make_sac(CriticwiseSACLoss, value_network=True)
    names = {name for name, _ in loss.named_children() if name.startswith("target_")}
    assert names == {"target_value_network_params"}


# ------------------------------------------------------------------ skipped states


def test_what_is_skipped_comes_after_a_termination_and_no_truncation() -> None:
    """Without one, the targets are those of a loss that skips nothing."""
    data = batch()
    following: Any = data["next"]
    following["terminated"].fill_(False)
    assert following["done"].any()
    (skips, _), (asks, _) = (make_sac(CriticwiseSACLoss, skip_done_states=s) for s in (True, False))
    (theirs, _) = make_sac(SACLoss, skip_done_states=True)
    expected = targets_of(asks, data)
    assert near(targets_of(skips, data), expected)
    assert not near(targets_of(theirs, data), expected, 0.01)


def test_nothing_is_asked_after_a_termination() -> None:
    data = batch()
    following: Any = data["next"]
    over = following["terminated"].squeeze(-1)
    following["observation"][over] = torch.nan
    loss, config = make_sac(CriticwiseSACLoss, skip_done_states=True)
    targets = targets_of(loss, data)
    assert torch.equal(targets[over], following["reward"].squeeze(-1)[over])
    states = following[~over]
    expected = states["reward"].squeeze(-1) + config.gamma * next_values_of(loss, data[~over])
    assert near(targets[~over], expected.detach())
    assert loss(data)["loss_qvalue"].isfinite()


def test_every_state_may_be_skipped() -> None:
    data = batch()
    following: Any = data["next"]
    following["terminated"].fill_(True)
    loss, _ = make_sac(CriticwiseSACLoss, skip_done_states=True)
    assert torch.equal(targets_of(loss, data), following["reward"].squeeze(-1))


@pytest.mark.parametrize("estimator", ["td1", "td_lambda"])
def test_slices_are_skipped_in_place(estimator: str) -> None:
    form: dict[str, Any] = {"value_estimator": estimator, "gamma": 0.9, **SLICED}
    data = batch(length=8)
    data["next"]["terminated"].fill_(False)
    (skips, _), (asks, _) = (
        make_sac(CriticwiseSACLoss, skip_done_states=s, **form) for s in (True, False)
    )
    assert near(targets_of(skips, data), targets_of(asks, data))
