"""The lean losses of DQN are TorchRL's, number for number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import stub
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.data import Categorical
from torchrl.objectives import DQNLoss

from trainers.algorithms.dqn import make_loss, make_optimizer
from trainers.algorithms.off_policy import make_target_update
from trainers.config import DQNConfig
from trainers.losses import dqn
from trainers.losses.dqn import FastDQNLoss, LeanDQNLoss
from trainers.networks.q_networks import QNetwork

OBSERVATIONS, ACTIONS, BATCH = 5, 3, 64

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no double Q-learning": {"double": False},
    "duelling": {"duelling": True},
    "duelling, no double": {"duelling": True, "double": False},
    "l2": {"loss_function": "l2"},
    "l1": {"loss_function": "l1"},
    "no target": {"delay_value": False, "double": False},
    "tanh": {"activation": "tanh"},
    "three layers": {"hidden": [16, 8, 16]},
    "one layer": {"hidden": [16]},
    "gamma": {"gamma": 0.5},
    "sum": {"reduction": "sum"},
}
# What the batch may bring beside the transitions.
EXTRAS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "weights": ("priority_weight",),
    "steps": ("steps_to_next_obs",),
    "weights and steps": ("priority_weight", "steps_to_next_obs"),
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
extras = pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
ours_only = pytest.mark.parametrize("loss_class", [FastDQNLoss, LeanDQNLoss])


def make(
    loss_class: type[DQNLoss],
    hidden: list[int] | None = None,
    activation: str = "relu",
    **given: Any,
) -> tuple[Any, DQNConfig]:
    """A loss whose target has moved away from its source."""
    torch.manual_seed(0)
    config = DQNConfig(**given)
    sizes = (OBSERVATIONS, ACTIONS, hidden or [16, 16])
    network = QNetwork(*sizes, activation, config.duelling)
    loss = make_loss(network, Categorical(ACTIONS), config, loss_class)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if name.startswith("target_") and isinstance(tensor, Tensor):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.3)
    return loss, config


def batch(seed: int = 1, extra: tuple[str, ...] = (), length: int | None = None) -> TensorDict:
    """Transitions; with a ``length``, slices of so many in a row."""
    shape = [BATCH] if length is None else [BATCH // length, length]
    generator = torch.Generator().manual_seed(seed)

    def normal(*last: int) -> Tensor:
        return torch.randn(*shape, *last, generator=generator)

    terminated = normal(1) > 1
    more = {
        "priority_weight": normal().sigmoid(),
        "steps_to_next_obs": (normal(1) > 0).long() + 1,
    }
    return TensorDict(
        {
            **{key: more[key] for key in extra},
            "observation": normal(OBSERVATIONS),
            "action": torch.randint(ACTIONS, shape, generator=generator),
            "next": {
                "observation": normal(OBSERVATIONS),
                "reward": 2.0 * normal(1),
                "terminated": terminated,
                "done": terminated | (normal(1) > 1),
            },
        },
        shape,
    )


def evaluated(
    loss: Any, extra: tuple[str, ...] = (), length: int | None = None
) -> tuple[TensorDictBase, TensorDictBase]:
    """The losses of a batch, gradients in place, and the batch."""
    data = batch(extra=extra, length=length)
    found = loss(data)
    sum(value.sum() for key, value in found.items() if key.startswith("loss")).backward()
    return found, data


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry."""
    return bool((one - two).abs().max() <= tolerance * two.abs().max() + 1e-12)


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def assert_equal(
    ours: Any, theirs: Any, extra: tuple[str, ...] = (), length: int | None = None
) -> None:
    """Loss, errors and gradients are; beside them are what is worth a line in the log."""
    our_losses, our_batch = evaluated(ours, extra, length)
    their_losses, their_batch = evaluated(theirs, extra, length)
    assert set(our_losses.keys()) == {"loss_qvalue", "qvalue", "td_error"}
    assert our_losses["loss_qvalue"].shape == their_losses["loss"].shape
    assert near(our_losses["loss_qvalue"].detach(), their_losses["loss"].detach())
    size = their_batch["td_error"].sqrt().squeeze(-1)
    assert our_batch["td_error"].shape == our_batch.batch_size
    assert our_batch["td_error"].dtype == torch.float32
    assert near(our_batch["td_error"], size, 1e-4)
    assert near(our_losses["td_error"], size.mean())
    asked = theirs.value_network(our_batch.select("observation"))["action_value"]
    taken = asked.gather(-1, our_batch["action"].unsqueeze(-1))
    assert near(our_losses["qvalue"], taken.mean().detach(), 1e-4)
    assert not our_losses["qvalue"].requires_grad
    assert not our_losses["td_error"].requires_grad
    assert_equal_gradients(ours, theirs)


def assert_equal_gradients(ours: Any, theirs: Any) -> None:
    our_gradients, their_gradients = gradients(ours), gradients(theirs)
    assert our_gradients.keys() == their_gradients.keys()
    assert len(their_gradients) >= 4
    assert all(value.abs().max() > 0 for value in their_gradients.values())
    for name, value in their_gradients.items():
        assert near(our_gradients[name], value), name


@ours_only
@variants
@extras
def test_loss_and_gradients(
    loss_class: Any, variant: dict[str, Any], extra: tuple[str, ...]
) -> None:
    (ours, _), (theirs, _) = make(loss_class, **variant), make(DQNLoss, **variant)
    assert_equal(ours, theirs, extra)


def test_the_fast_loss_takes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeanDQNLoss, "forward", None)
    evaluated(make(FastDQNLoss)[0])


SLICED: dict[str, Any] = {"slice_length": 8, "batch_size": BATCH}
OTHER_FORMS: dict[str, dict[str, Any]] = {
    "td1": {"value_estimator": "td1", **SLICED},
    "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
    "td_lambda, no double": {"value_estimator": "td_lambda", "double": False, **SLICED},
    "silu": {"activation": "silu"},
    "wide": {"hidden": [300]},
    "none": {"reduction": "none", "prioritized": True},
}


@pytest.mark.parametrize("form", OTHER_FORMS.values(), ids=list(OTHER_FORMS))
@extras
def test_the_other_forms(form: dict[str, Any], extra: tuple[str, ...]) -> None:
    if "slice_length" in form and extra:
        return  # slices are of single steps, drawn uniformly
    (ours, _), (theirs, _) = make(LeanDQNLoss, **form), make(DQNLoss, **form)
    assert_equal(ours, theirs, extra, form.get("slice_length"))


def test_the_fast_loss_hands_on_what_it_was_not_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (ours, _), (theirs, _) = (make(c, **OTHER_FORMS["td1"]) for c in (FastDQNLoss, DQNLoss))
    assert_equal(ours, theirs, length=8)
    monkeypatch.setattr(dqn, "on_host", lambda tensor: False)
    monkeypatch.setattr(FastDQNLoss, "_evaluate", None)
    (ours, _), (theirs, _) = make(FastDQNLoss), make(DQNLoss)
    assert_equal(ours, theirs)


@ours_only
@variants
def test_the_state_is_the_same(loss_class: Any, variant: dict[str, Any]) -> None:
    (ours, _), (theirs, _) = make(loss_class, **variant), make(DQNLoss, **variant)
    evaluated(ours)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())


@ours_only
@variants
def test_parameters_after_twenty_updates(loss_class: Any, variant: dict[str, Any]) -> None:
    ours, theirs = (updated(each, variant) for each in (loss_class, DQNLoss))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5, msg=name)


def updated(loss_class: type[DQNLoss], variant: dict[str, Any]) -> dict[str, Tensor]:
    """Parameters and targets after the updates that a trainer makes."""
    loss, config = make(loss_class, lr=1e-3, **variant)
    optimizer = make_optimizer(loss, config, flat=loss_class is not DQNLoss)
    follow = make_target_update(loss, config) if config.delay_value else None
    before = {k: v.clone() for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    for update in range(20):
        data = batch(seed=update)
        found = loss(data)
        optimizer.zero_grad()
        sum(value for key, value in found.items() if key.startswith("loss")).backward()
        optimizer.step()
        if follow is not None:
            follow(stub(updates=update + 1), data, found)
    after = {k: v for k, v in loss.state_dict().items() if isinstance(v, Tensor)}
    assert any(not torch.equal(before[k], v) for k, v in after.items())
    return after


def test_losses_wait_for_their_turn() -> None:
    """The memory that results are kept in is not written over before they have been used."""
    (ours, _), (theirs, _) = make(FastDQNLoss), make(DQNLoss)
    for loss, key in ((ours, "loss_qvalue"), (theirs, "loss")):
        kept = [loss(batch(seed))[key] for seed in (1, 2)]
        with torch.no_grad():
            loss(batch(3))
        for factor, value in zip((1.0, -3.0), kept, strict=True):
            (factor * value).backward()
    assert_equal_gradients(ours, theirs)


@ours_only
def test_a_loaded_state_counts(loss_class: Any) -> None:
    """Nothing is computed with tensors from before."""
    (ours, config), (theirs, _) = make(loss_class), make(DQNLoss)
    optimizer = make_optimizer(ours, config, flat=True)  # moves the parameters
    evaluated(ours)
    state = {k: v * 0.5 if isinstance(v, Tensor) else v for k, v in theirs.state_dict().items()}
    optimizer.zero_grad()
    for loss in (ours, theirs):
        loss.load_state_dict(state)
    assert_equal(ours, theirs)


def test_batches_of_several_sizes() -> None:
    (ours, _), (theirs, _) = make(FastDQNLoss), make(DQNLoss)
    for size in (7, BATCH, 7):
        found = ours(batch()[:size])["loss_qvalue"], theirs(batch()[:size])["loss"]
        assert near(*(each.detach() for each in found))


def test_a_frozen_layer_stays_as_it_is() -> None:
    loss, config = make(FastDQNLoss)
    optimizer = make_optimizer(loss, config, flat=True)
    first = next(iter(loss.value_network_params.parameters()))
    first.requires_grad_(False)
    before = first.clone()
    evaluated(loss)
    optimizer.step()
    assert torch.equal(first, before)


def test_what_fits() -> None:
    def network(hidden: list[int], activation: str = "relu", duelling: bool = False) -> QNetwork:
        return QNetwork(OBSERVATIONS, ACTIONS, hidden, activation, duelling)

    fits = FastDQNLoss.fits
    assert fits(network([8]), DQNConfig())
    assert fits(network([256, 256], "tanh", duelling=True), DQNConfig(n_steps=3, prioritized=True))
    assert not fits(network([257]), DQNConfig())
    assert not fits(network([8], "silu"), DQNConfig())
    assert not fits(network([8]).to("meta"), DQNConfig())
    assert not fits(network([8]), DQNConfig(reduction="none", prioritized=True))
    assert not fits(network([8]), DQNConfig(value_estimator="td1", slice_length=8))
    assert not fits(nn.Sequential(nn.Linear(5, 3), nn.Softmax(-1)), DQNConfig())
