"""The lean losses of TD3 and DDPG are TorchRL's, number for number, whole and in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import Actor
from torchrl.objectives import DDPGLoss, TD3Loss, ValueEstimators

from trainers.algorithms import ddpg, td3
from trainers.algorithms.off_policy import make_target_update
from trainers.config import DDPGConfig, TD3Config
from trainers.losses.deterministic import actor_part, critics_part
from trainers.losses.fast_td3 import FastDDPGLoss, FastTD3Loss, fits
from trainers.networks.actors import TanhActor
from trainers.networks.critics import StateActionValue, critic_ensemble

OBSERVATIONS, ACTIONS, BATCH = 5, 3, 64
UNIT = ([-1.0] * ACTIONS, [1.0] * ACTIONS)
UNEVEN = ([-2.0, -0.5, 1.0], [3.0, 0.5, 9.0])

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

# Which algorithm, and what is configured.
Variant = dict[str, Any]
OURS = {"td3": FastTD3Loss, "ddpg": FastDDPGLoss}
THEIRS = {"td3": TD3Loss, "ddpg": DDPGLoss}
VARIANTS: dict[str, Variant] = {
    "td3": {},
    "td3, uneven bounds": {"bounds": UNEVEN},
    "td3, loud noise": {"policy_noise": 2.0, "noise_clip": 0.7, "bounds": UNEVEN},
    "td3, no noise": {"policy_noise": 0.0},
    "td3, smooth_l1": {"loss_function": "smooth_l1"},
    "td3, l1": {"loss_function": "l1"},
    "td3, no target critics": {"delay_qvalue": False},
    "td3, no target actor": {"delay_actor": False},
    "td3, separate losses": {"separate_losses": True},
    "td3, one critic": {"num_critics": 1},
    "td3, five critics": {"num_critics": 5},
    "td3, sum": {"reduction": "sum"},
    "td3, tanh": {"activation": "tanh"},
    "td3, silu, three layers": {"activation": "silu", "hidden": [16, 8, 16]},
    "td3, one layer": {"activation": "elu", "hidden": [16]},
    "ddpg": {},
    "ddpg, uneven bounds": {"bounds": UNEVEN},
    "ddpg, gamma": {"gamma": 0.5},
    "ddpg, smooth_l1": {"loss_function": "smooth_l1"},
    "ddpg, nothing delayed": {"delay_qvalue": False, "delay_actor": False},
    "ddpg, separate losses": {"separate_losses": True},
    "ddpg, sum": {"reduction": "sum"},
    "ddpg, wide": {"hidden": [64, 48]},
}

# What the batch may bring beside the transitions.
EXTRAS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "weights": ("priority_weight",),
    "weights and steps": ("priority_weight", "steps_to_next_obs"),
}

variants = pytest.mark.parametrize("name", list(VARIANTS))
extras = pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
algorithms = pytest.mark.parametrize("algo", ["td3", "ddpg"])


def make(
    algo: str,
    loss_class: Any,
    bounds: tuple[list[float], list[float]] = UNIT,
    hidden: list[int] | None = None,
    activation: str = "relu",
    **given: Any,
) -> tuple[Any, Any]:
    """A loss whose targets have moved away from their sources."""
    torch.manual_seed(0)
    spec = Bounded(torch.tensor(bounds[0]), torch.tensor(bounds[1]), (ACTIONS,))
    hidden = hidden or [16, 16]
    actor = TanhActor(OBSERVATIONS, spec, hidden, activation)
    critic = StateActionValue(OBSERVATIONS, ACTIONS, hidden, activation)
    if algo == "td3":
        config: Any = TD3Config(**given)
        critics = critic_ensemble(critic, config.num_critics)
        loss = td3.make_loss(actor, critics, spec, config, loss_class)
    else:
        config = DDPGConfig(**given)
        loss = ddpg.make_loss(actor, critic_ensemble(critic, 1)[0], config, loss_class)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if name.startswith("target_") and isinstance(tensor, Tensor):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
    return loss, config


def both(name: str, **given: Any) -> tuple[Any, Any]:
    """Ours and theirs."""
    algo, variant = name.partition(",")[0], VARIANTS[name] | given
    ours, theirs = (make(algo, kind[algo], **variant)[0] for kind in (OURS, THEIRS))
    return ours, theirs


def batch(seed: int = 1, extra: tuple[str, ...] = (), length: int | None = None) -> TensorDict:
    """Transitions; with a ``length``, slices of so many in a row."""
    shape = [BATCH] if length is None else [BATCH // length, length]
    generator = torch.Generator().manual_seed(seed)

    def normal(last: int) -> Tensor:
        return torch.randn(*shape, last, generator=generator)

    terminated = normal(1) > 1
    more = {
        "priority_weight": normal(1).sigmoid().squeeze(-1),
        "steps_to_next_obs": (normal(1) > 0).long() + 1,
    }
    return TensorDict(
        {
            **{key: more[key] for key in extra},
            "observation": normal(OBSERVATIONS),
            "action": normal(ACTIONS).tanh(),
            "next": {
                "observation": normal(OBSERVATIONS),
                "reward": normal(1),
                "terminated": terminated,
                "done": terminated | (normal(1) > 1),
            },
        },
        shape,
    )


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry."""
    return bool((one - two).abs().max() <= tolerance * two.abs().max() + 1e-12)


def differentiate(losses: TensorDictBase) -> None:
    sum(value.sum() for key, value in losses.items() if key.startswith("loss_")).backward()


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def assert_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    found, expected = gradients(ours), gradients(theirs)
    assert found.keys() == expected.keys()
    assert all(value.abs().max() > 0 for value in expected.values())
    for name, value in expected.items():
        assert near(found[name], value), name


# ---------------------------------------------------------------------------- whole


@variants
@extras
def test_losses_and_gradients(name: str, extra: tuple[str, ...]) -> None:
    results = []
    ours, theirs = both(name)
    for loss in (ours, theirs):
        data = batch(extra=extra)
        torch.manual_seed(2)
        results.append((loss(data), data["td_error"]))
        differentiate(results[-1][0])
    (our_losses, our_error), (their_losses, their_error) = results
    assert set(our_losses.keys()) == set(their_losses.keys())
    for key, value in their_losses.items():
        found = our_losses[key]
        if key == "state_action_value_actor":  # ours asks no critic but the first
            found, value = found[0], value[0]
        assert found.shape == value.shape, key
        assert near(found.detach(), value.detach()), key
    assert our_error.shape == their_error.shape == (BATCH,)
    assert near(our_error, their_error, 1e-4)
    assert_gradients(ours, theirs)
    assert len(gradients(theirs)) >= 8  # weights and biases of both kinds of networks


@variants
def test_the_state_is_the_same(name: str) -> None:
    ours, theirs = both(name)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())


def test_ddpg_is_td3_with_one_critic_and_no_noise() -> None:
    """Both are drawn from the same numbers."""
    one, _ = make("ddpg", DDPGLoss)
    two, _ = make("td3", TD3Loss, num_critics=1, policy_noise=0.0)
    for part, name in ((critics_part, "loss_qvalue"), (actor_part, "loss_actor")):
        assert near(part(two, batch())[name].detach(), part(one, batch())[name].detach()), name


# ------------------------------------------------------------------------- in parts


@variants
@extras
def test_parts_and_their_gradients(name: str, extra: tuple[str, ...]) -> None:
    """Each leaves what the other trains alone."""
    ours, theirs = both(name)
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
            assert near(our_losses[key].detach(), value.detach()), key
        assert_gradients(ours, theirs)
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


SLICED: dict[str, Any] = {"slice_length": 8, "batch_size": BATCH}
OTHER_FORMS: dict[str, dict[str, Any]] = {
    "none": {"reduction": "none", "prioritized": True},
    "td1": {"value_estimator": "td1", **SLICED},
    "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
}


@algorithms
@pytest.mark.parametrize("form", OTHER_FORMS.values(), ids=list(OTHER_FORMS))
def test_parts_of_torchrl_s_other_forms(algo: str, form: dict[str, Any]) -> None:
    loss, config = make(algo, THEIRS[algo], **form)
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
    loss, _ = make("td3", FastTD3Loss, bounds=bounds, policy_noise=0.3, noise_clip=0.4)
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


# ------------------------------------------------------------------------ as trained


@variants
def test_parameters_after_twenty_updates(name: str) -> None:
    algo = name.partition(",")[0]
    ours, theirs = (updated(algo, kind[algo], VARIANTS[name]) for kind in (OURS, THEIRS))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-5, msg=key)


def updated(algo: str, loss_class: Any, variant: Variant) -> dict[str, Tensor]:
    """Parameters and targets after updates in turn, the actor's every second."""
    loss, config = make(algo, loss_class, lr=1e-3, **variant)
    of_critics, of_actor = ddpg.make_optimizers(loss, config)
    delayed = config.delay_qvalue or config.delay_actor
    follow = make_target_update(loss, config) if delayed else None
    before = {k: v.clone() for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    torch.manual_seed(3)
    for update in range(1, 21):
        data = batch(seed=update)
        steps = [(critics_part, of_critics), (actor_part, of_actor)]
        for part, optimizer in steps[: 1 + (update % 2 == 0)]:
            losses = part(loss, data)
            optimizer.zero_grad()
            differentiate(losses)
            optimizer.step()
        if follow is not None:
            follow(Counted(update), data, data)  # type: ignore[arg-type]
    after = {k: v for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    assert any(not torch.equal(before[k], v) for k, v in after.items())
    return after


class Counted:
    """All that a target update asks a trainer for."""

    def __init__(self, updates: int) -> None:
        self.updates = updates


@algorithms
def test_losses_wait_for_their_turn(algo: str) -> None:
    """The memory that results are kept in is not written over before they have been used."""
    ours, theirs = both(algo)
    for loss in (ours, theirs):
        torch.manual_seed(2)
        kept = [part(loss, batch(seed)) for seed in (1, 2) for part in (critics_part, actor_part)]
        with torch.no_grad():
            critics_part(loss, batch(3))
        for factor, losses in zip((1.0, -3.0, 0.5, 2.0), kept, strict=True):
            values = [value for key, value in losses.items() if key.startswith("loss_")]
            (factor * sum(values, values[0] * 0.5)).backward()
    assert_gradients(ours, theirs)


@algorithms
def test_what_is_told_of_a_batch_stays(algo: str) -> None:
    """It is no view of the memory."""
    loss, _ = make(algo, OURS[algo])
    _, about = loss.value_loss(batch(1))
    kept = {key: value.clone() for key, value in about.items()}
    with torch.no_grad():
        loss.value_loss(batch(2))
    assert all(torch.equal(value, kept[key]) for key, value in about.items())


@algorithms
def test_batches_of_several_sizes(algo: str) -> None:
    ours, theirs = both(algo)
    for size in (7, BATCH, 7):
        values = []
        for loss in (ours, theirs):
            torch.manual_seed(2)
            values.append(critics_part(loss, batch()[:size])["loss_qvalue"].detach())
        assert near(*values)


@algorithms
def test_a_loaded_state_counts(algo: str) -> None:
    """Nothing is computed with tensors from before."""
    ours, theirs = both(algo)
    critics_part(ours, batch())
    state = {k: v * 0.5 if isinstance(v, Tensor) else v for k, v in theirs.state_dict().items()}
    for loss in (ours, theirs):
        loss.load_state_dict(state)
    for part in (critics_part, actor_part):
        values = []
        for loss in (ours, theirs):
            torch.manual_seed(2)
            (key, value) = next(iter(part(loss, batch()).items()))
            values.append(value.detach())
        assert near(*values), key


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
    for algo, loss_class in OURS.items():
        with pytest.raises(NotImplementedError, match="knows TD0 only"):
            make(algo, loss_class)[0].make_value_estimator(ValueEstimators.TDLambda)

    class Mine(StateActionValue):
        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            return super().forward(observation, action) * 2

    mine = critic_ensemble(Mine(OBSERVATIONS, ACTIONS, [8], "relu"))
    assert not fits(actor, mine, TD3Config())
    assert not fits(actor, [critics[0], mine[0]], TD3Config())
    other_actor = Actor(nn.Linear(OBSERVATIONS, ACTIONS), spec=spec)
    assert not fits(other_actor, critics, TD3Config())
