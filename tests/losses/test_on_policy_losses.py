"""The losses of A2C and PPO in numpy are TorchRL's, number for number."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields
from typing import Any

import pytest
import torch
from comparing import (
    BATCH,
    OBSERVATIONS,
    SPECS,
    assert_equal,
    assert_through_torchrl,
    batch,
    evaluated,
    gradients,
    near,
    networks_of,
)
from support.algorithms import tiny_ppo
from support.doubles import stub
from support.environments import env_config
from support.states import loss_of
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives import A2CLoss, ClipPPOLoss, KLPENPPOLoss, PPOLoss
from transitions import assert_learnt_alike

from trainers.algorithms import a2c, ppo
from trainers.build import build
from trainers.config import A2CConfig, PPOConfig
from trainers.hooks import AnnealBuffer
from trainers.losses.a2c import FastA2CLoss
from trainers.losses.ppo import FastClipPPOLoss, FastPPOLoss
from trainers.phases import Phase

THEIRS = {"a2c": A2CLoss, "clip": ClipPPOLoss, "plain": PPOLoss}
OURS = {"a2c": FastA2CLoss, "clip": FastClipPPOLoss, "plain": FastPPOLoss}

OF_THE_NETWORKS = ("hidden", "activation", "lower_bound")
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no normaliser": {"normalize_observation": False},
    "relu": {"activation": "relu"},
    "three layers": {"hidden": [8, 16, 8]},
    "entropy": {"entropy_coeff": 0.1},
    "no entropy": {"entropy_bonus": False, "entropy_coeff": 0.1},
    "l1": {"loss_critic_type": "l1"},
    "smooth_l1": {"loss_critic_type": "smooth_l1"},
    "sum": {"reduction": "sum", "entropy_coeff": 0.1},
    "advantages as they are": {"normalize_advantage": False},
    "critic's part": {"critic_coeff": 0.9},
    "a narrow clip": {"clip_epsilon": 0.01},
    "bounds apart": {"clip_epsilon": 0.05, "clip_epsilon_high": 0.3},
    "deviations at their bound": {"lower_bound": 0.8, "entropy_coeff": 0.1},
    "separate losses": {"separate_losses": True},
    "mean in bounds": {"tanh_loc": True},
}

UPDATED: list[dict[str, Any]] = [
    {},
    {"entropy_coeff": 0.1, "activation": "relu"},
    {"optimizer": "adam", "entropy_coeff": 0.1, "tanh_loc": True},
]
NOT_MADE_FOR: list[dict[str, Any]] = [
    {"predict_std": True},
    {"shared_trunk": True},
    {"activation": "silu"},
    {"functional": True},
    {"clip_value": 0.2},
    {"max_importance_ratio": 1.1},
]

kinds = pytest.mark.parametrize("kind", OURS)
spaces = pytest.mark.parametrize("space", SPECS)


def config_of(kind: str, **given: Any) -> Any:
    return A2CConfig(**given) if kind == "a2c" else PPOConfig(loss=kind, **given)


def fits(kind: str, given: dict[str, Any]) -> bool:
    """Whether it is configured by these."""
    if kind == "a2c" and "separate_losses" in given:
        return False  # not without `functional`, where the loss is TorchRL's
    if kind == "plain" and "clip_epsilon" in given:
        return False  # nothing is clipped
    known = {spec.name for spec in fields(config_of(kind))} | set(OF_THE_NETWORKS)
    return given.keys() <= known


def make(
    loss_class: Any, kind: str = "clip", space: str = "gaussian", **given: Any
) -> tuple[Any, Any]:
    """A loss; ``loss_class`` None leaves the choice to `make_loss`."""
    own = {key: given.pop(key) for key in OF_THE_NETWORKS if key in given}
    config = config_of(kind, **given)
    page = a2c if kind == "a2c" else ppo
    return page.make_loss(networks_of(config, space, **own), config, loss_class), config


def optimizer_of(loss: Any, config: Any) -> Any:
    """The one that goes with a loss."""
    page = a2c if isinstance(config, A2CConfig) else ppo
    return page.make_optimizer(loss, config)


def pair(kind: str = "clip", space: str = "gaussian", **given: Any) -> tuple[Any, Any]:
    """Ours, as it is chosen, and TorchRL's."""
    ours, theirs = (make(c, kind, space, **given)[0] for c in (None, THEIRS[kind]))
    assert (type(ours), type(theirs)) == (OURS[kind], THEIRS[kind])
    return ours, theirs


@spaces
@pytest.mark.parametrize(
    ("kind", "variant"),
    [(kind, name) for kind in OURS for name, given in VARIANTS.items() if fits(kind, given)],
)
def test_losses_and_gradients(kind: str, variant: str, space: str) -> None:
    ours, theirs = pair(kind, space, **VARIANTS[variant])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_equal(ours, theirs, batch(space))


@spaces
@pytest.mark.parametrize("name", [name for name, each in VARIANTS.items() if fits("a2c", each)])
def test_a2c_of_a_rollout_as_it_was_collected(name: str, space: str) -> None:
    assert_equal(*pair("a2c", space, **VARIANTS[name]), batch(space, size=(8, 5)))


@kinds
@spaces
@pytest.mark.parametrize("name", ["loss_objective", "loss_entropy", "loss_critic"])
@pytest.mark.parametrize("in_place", [False, True])
def test_gradients_follow_what_a_hook_makes_of_the_losses(
    kind: str, space: str, name: str, in_place: bool
) -> None:
    ours, theirs = pair(kind, space, entropy_coeff=0.1)

    def scale(losses: TensorDictBase) -> None:
        if in_place:
            losses[name] *= 3.0
        else:
            losses[name] = 3.0 * losses[name]

    evaluated(ours, batch(space))
    before = {name: value.clone() for name, value in gradients(ours).items()}
    ours.zero_grad()
    assert_equal(ours, theirs, batch(space), scale)
    assert any(not near(value, before[name], 1e-3) for name, value in gradients(ours).items())


def test_deviations_below_their_bound_get_no_gradient() -> None:
    ours, theirs = pair(lower_bound=0.8, entropy_coeff=0.1)
    for loss in (ours, theirs):
        log_std = loss.actor_network[0].module[1].to_parameters.state_independent_scale
        log_std.data.copy_(torch.tensor([0.3, 0.9, 0.79]).log())
        evaluated(loss, batch())
        assert (log_std.grad == 0).tolist() == [True, False, True]


@pytest.mark.parametrize("size", [1, 2, 5])
@kinds
def test_small_batches(kind: str, size: int) -> None:
    ours, theirs = pair(kind)
    assert_equal(ours, theirs, batch(size=(size,)))


@spaces
@pytest.mark.parametrize(
    ("kind", "given"),
    [(kind, given) for kind in OURS for given in UPDATED if fits(kind, given)],
    ids=str,
)
def test_parameters_after_twenty_updates(kind: str, space: str, given: dict[str, Any]) -> None:
    """With the optimizers that go with the losses."""
    ours, theirs = (updated(c, kind, space, **given) for c in (None, THEIRS[kind]))
    assert_learnt_alike(ours, theirs)


def updated(loss_class: Any, kind: str, space: str, **given: Any) -> dict[str, Tensor]:
    """Parameters after twenty updates; all of them moved."""
    loss, config = make(loss_class, kind, space, lr=1e-3, **given)
    phase = Phase(loss, optimizer_of(loss, config))
    before = {name: p.detach().clone() for name, p in loss.named_parameters()}
    for update in range(20):
        phase.backward(loss(batch(space, seed=update)))
        phase.step()
    after = {name: p.detach() for name, p in loss.named_parameters()}
    assert not any(torch.equal(before[name], value) for name, value in after.items())
    return after


# --------------------------------------------------------------------- which loss


@pytest.mark.parametrize(
    ("kind", "given"),
    [(kind, given) for kind in OURS for given in NOT_MADE_FOR if fits(kind, given)],
    ids=str,
)
def test_what_it_was_not_made_for_is_torchrl_s(kind: str, given: dict[str, Any]) -> None:
    loss, _ = make(None, kind, **given)
    assert type(loss) is THEIRS[kind]
    evaluated(loss, batch().set("state_value", torch.zeros(BATCH, 1)))


def test_the_loss_with_a_kl_penalty_is_torchrl_s() -> None:
    assert type(make(None, "kl")[0]) is KLPENPPOLoss


@pytest.mark.parametrize("kind", ["clip", "plain", "kl"])
def test_torchrl_s_own_can_be_asked_for(kind: Any) -> None:
    config = {"loss": kind, "loss_module": "torchrl"}
    trainer = build(tiny_ppo(env_config("CartPole-v1"), config)).trainer
    expected = KLPENPPOLoss if kind == "kl" else THEIRS[kind]
    assert type(loss_of(trainer)) is expected
    trainer.train()
    assert trainer.frames == 48


# ------------------------------------------------------------- through TorchRL's forward


@pytest.mark.parametrize("kind", ["clip", "plain"])
def test_rollouts_with_advantages(kind: str) -> None:
    ours, theirs = pair(kind)
    data = batch(size=(4, 16))
    assert_through_torchrl(ours, theirs, data)


@kinds
@pytest.mark.parametrize("size", [(BATCH,), (4, 16)])
def test_batches_without_advantages(kind: str, size: tuple[int, ...]) -> None:
    ours, theirs = pair(kind)
    data = batch(size=size).exclude("advantage", "value_target")
    following = batch(seed=2, size=size)
    done = torch.zeros(*size, 1, dtype=torch.bool)
    reward = following["advantage"]
    data["next"] = {"observation": following["observation"], "reward": reward, "done": done}
    data["next", "terminated"] = done.clone()
    assert_through_torchrl(ours, theirs, data)


@kinds
def test_a_single_frame_without_a_batch(kind: str) -> None:
    ours, theirs = pair(kind, entropy_coeff=0.1)
    assert_through_torchrl(ours, theirs, batch(size=(1,))[0])


# ---------------------------------------------------------------------------- keys


@kinds
@spaces
def test_renamed_keys(kind: str, space: str) -> None:
    ours, theirs = pair(kind, space)
    data = batch(space)
    names: dict[str, Any] = {
        "advantage": "gain",
        "value_target": ("critic", "goal"),
        "sample_log_prob": ("old", "log_prob"),
    }
    for loss in (ours, theirs):
        loss.set_keys(**names)
    data["gain"] = data["advantage"] + data["value_target"]
    data["critic", "goal"] = 2.0 * data["value_target"]
    data["old", "log_prob"] = data["action_log_prob"] - 0.1
    assert_equal(ours, theirs, data.exclude("advantage", "value_target", "action_log_prob"))


@pytest.mark.parametrize("kind", ["clip", "plain"])
def test_an_action_of_another_name(kind: str) -> None:
    ours, theirs = pair(kind)
    data = batch()
    data["deed"] = data["action"].flip(0)
    for loss in (ours, theirs):
        loss.set_keys(action="deed")
    plain, _ = pair(kind)
    assert not near(evaluated(plain, data)["loss_objective"], ours(data)["loss_objective"])
    assert ours(data)["kl_approx"] == pytest.approx(
        float((data["action_log_prob"] - log_prob(ours, data, "deed")).mean()), rel=1e-5
    )


def log_prob(loss: Any, data: TensorDictBase, action: str) -> Tensor:
    """Of an action, by the actor itself."""
    with torch.no_grad():
        return loss.actor_network.get_dist(data.clone()).log_prob(data[action])


@pytest.mark.parametrize("key", ["value_target", "action_log_prob", "action"])
def test_a_missing_entry_is_named(key: str) -> None:
    ours, _ = pair()
    with pytest.raises(KeyError, match=key):
        ours(batch().exclude(key))


# --------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "key", ["observation", "action", "action_log_prob", "advantage", "value_target"]
)
@kinds
def test_what_is_not_finite_shows(kind: str, key: str, bad: float) -> None:
    """Wherever it does with TorchRL's loss; and no warning of numpy's comes before the error."""
    given = {} if kind == "clip" else {"normalize_observation": False, "activation": "relu"}
    found = []
    for loss in pair(kind, **given):
        phase = Phase(loss, torch.optim.SGD(loss.parameters(), 0.1))
        data = batch()
        data[key].view(-1)[5] = bad
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            losses = loss(data)
            total = phase.backward(losses)
        found.append((phase.is_finite(total), finite(losses)))
    assert found[0] == found[1]
    used = kind != "a2c" or key != "action_log_prob"  # nothing is weighed by a ratio there
    assert not (used and math.isnan(bad) and found[0][0])


def finite(losses: TensorDictBase) -> dict[str, bool]:
    """Which of the losses are."""
    return {key: bool(value.isfinite()) for key, value in losses.items() if key.startswith("loss_")}


# -------------------------------------------------------------------- what may change


def test_an_annealed_clip_is_followed() -> None:
    ours, theirs = pair(normalize_advantage=False)
    seen = set()
    for frames in (0, 50, 90, 100):
        for loss in (ours, theirs):
            loss.zero_grad()
            AnnealBuffer(loss.clip_epsilon, 0.2)(stub(frames=frames), TensorDict())
        our_losses, their_losses = evaluated(ours, batch()), evaluated(theirs, batch())
        for key, value in their_losses.items():
            assert near(our_losses[key], value.squeeze()), key
        for name, value in gradients(theirs).items():
            assert near(gradients(ours)[name], value), name
        seen.add((our_losses["loss_objective"].item(), float(our_losses["clip_fraction"])))
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["entropy_coeff", "critic_coeff"])
@kinds
def test_coefficients_may_be_set_later(kind: str, name: str) -> None:
    ours, theirs = pair(kind, entropy_coeff=0.1)
    evaluated(ours, batch())
    ours.zero_grad()
    for loss in (ours, theirs):
        getattr(loss, name).fill_(0.77)
    assert_equal(ours, theirs, batch())


@spaces
def test_loaded_parameters_are_used(space: str) -> None:
    ours, theirs = pair(space=space)
    evaluated(ours, batch(space))
    state = {
        key: 0.5 * value if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in theirs.state_dict().items()
    }
    for loss in (ours, theirs):
        loss.zero_grad()
        loss.load_state_dict(state)
    assert_equal(ours, theirs, batch(space))


@pytest.mark.parametrize("which", ["all", "the last"])
def test_parameters_in_another_place_are_used(which: str) -> None:
    ours, theirs = pair()
    evaluated(ours, batch())
    for loss in (ours, theirs):
        loss.zero_grad()
        parameters = list(loss.actor_network.parameters())[:-1]  # all but the deviations
        for parameter in parameters if which == "all" else parameters[-1:]:
            parameter.data = 1.5 * parameter.data + 0.1
    assert_equal(ours, theirs, batch())


def test_an_optimizer_made_later_moves_what_is_used() -> None:
    ours, config = make(None)
    theirs, _ = make(ClipPPOLoss)
    evaluated(ours, batch())  # has seen the parameters where they were
    optimizers = optimizer_of(ours, config), torch.optim.Adam(theirs.parameters(), 3e-4, eps=1e-5)
    for loss, optimizer in zip((ours, theirs), optimizers, strict=True):
        phase = Phase(loss, optimizer)
        for _ in range(3):
            phase.backward(loss(batch()))
            phase.step()
        optimizer.zero_grad()
    assert_equal(ours, theirs, batch())
    assert not near(ours(batch())["loss_critic"], make(None)[0](batch())["loss_critic"])


def test_statistics_of_the_observations_are_followed() -> None:
    ours, theirs = pair()
    evaluated(ours, batch())
    ours.zero_grad()
    observation = 10.0 + torch.randn(100, OBSERVATIONS)
    for loss in (ours, theirs):
        loss.actor_network[0].module[0][0].update(observation)  # the critic's as well
    assert_equal(ours, theirs, batch())


@pytest.mark.parametrize("freeze", [False, True])
def test_gradients_that_were_asked_for_stay_as_they_are(freeze: bool) -> None:
    ours, _ = pair()
    parameters = list(ours.parameters())
    if freeze:
        evaluated(ours, batch())
        parameters.pop(0).requires_grad_(False)
    first, second = (ours(batch(seed=seed)) for seed in (1, 2))
    kept = torch.autograd.grad(total(first), parameters)
    copies = [gradient.clone() for gradient in kept]
    later = torch.autograd.grad(total(second), parameters)
    for gradient, copy, other in zip(kept, copies, later, strict=True):
        assert torch.equal(gradient, copy)
        assert not torch.equal(gradient, other)


def total(losses: TensorDictBase) -> Tensor:
    return losses["loss_objective"] + losses["loss_entropy"] + losses["loss_critic"]
