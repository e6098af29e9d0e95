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
from torchrl.objectives import SACLoss, ValueEstimators

from trainers.algorithms.off_policy import make_target_update
from trainers.algorithms.sac import make_loss, make_optimizer
from trainers.config import SACConfig
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.networks.actors import TanhNormalActor
from trainers.networks.critics import StateActionValue, StateValue, critic_ensemble

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
    "separate losses": {"separate_losses": True},
    "one critic": {"num_critics": 1},
    "five critics": {"num_critics": 5},
    "tanh": {"activation": "tanh"},
    "silu, three layers": {"activation": "silu", "hidden": [16, 8, 16]},
    "gelu": {"activation": "gelu"},
    "elu": {"activation": "elu"},
    "wide": {"hidden": [64, 48]},
    "leaky_relu, one layer": {"activation": "leaky_relu", "hidden": [16]},
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
    value = None
    if config.value_network:
        value = ValueOperator(StateValue(OBSERVATIONS, hidden, activation), ["observation"])
    critics = critic_ensemble(critic, config.num_critics)
    loss = make_loss(actor, critics, spec, config, loss_class, value)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if name.startswith("target_") and isinstance(tensor, Tensor):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
    return loss, config


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


def evaluated(
    loss: Any, extra: tuple[str, ...] = (), length: int | None = None
) -> tuple[TensorDictBase, TensorDictBase]:
    """The losses of a batch with fixed noise, gradients in place, and the batch."""
    data = batch(extra=extra, length=length)
    torch.manual_seed(2)
    losses = loss(data)
    sum(value.sum() for key, value in losses.items() if key.startswith("loss_")).backward()
    return losses, data


def near(one: Tensor, two: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal relative to the largest entry."""
    return bool((one - two).abs().max() <= tolerance * two.abs().max() + 1e-12)


@variants
@extras
def test_losses_and_gradients(variant: dict[str, Any], extra: tuple[str, ...]) -> None:
    (ours, _), (theirs, _) = make(FastSACLoss, **variant), make(SACLoss, **variant)
    assert_equal(ours, theirs, extra)


SLICED: dict[str, Any] = {"slice_length": 8, "batch_size": BATCH}
OTHER_FORMS: dict[str, dict[str, Any]] = {
    "the second version": {},
    "the first version": {"value_network": True},
    "the first, nothing delayed": {"value_network": True, "delay_qvalue": False},
    "the first, target actor": {"value_network": True, "delay_actor": True, "num_critics": 4},
    "sum": {"reduction": "sum"},
    "the first, sum": {"reduction": "sum", "value_network": True},
    "none": {"reduction": "none", "prioritized": True},
    "the first, none": {"reduction": "none", "prioritized": True, "value_network": True},
    "td1": {"value_estimator": "td1", **SLICED},
    "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
    "the first, td_lambda": {"value_estimator": "td_lambda", "value_network": True, **SLICED},
}


@pytest.mark.parametrize("form", OTHER_FORMS.values(), ids=list(OTHER_FORMS))
@extras
def test_a_look_at_each_critic_changes_nothing(
    form: dict[str, Any], extra: tuple[str, ...]
) -> None:
    if "slice_length" in form and extra:
        return  # slices are of single steps, drawn uniformly
    (ours, _), (theirs, _) = make(CriticwiseSACLoss, **form), make(SACLoss, **form)
    assert_equal(ours, theirs, extra, form.get("slice_length"))


def assert_equal(
    ours: Any, theirs: Any, extra: tuple[str, ...] = (), length: int | None = None
) -> None:
    """Losses, errors and gradients are; the critics' own losses are parts of what they sum to."""
    our_losses, our_batch = evaluated(ours, extra, length)
    their_losses, their_batch = evaluated(theirs, extra, length)
    each = {f"qvalue_{index}" for index in range(theirs.num_qvalue_nets)}
    assert set(our_losses.keys()) == set(their_losses.keys()) | each
    for key, _ in their_losses.items():
        value = their_losses[key]
        assert our_losses[key].shape == value.shape, key
        assert near(our_losses[key].detach(), value.detach()), key
    assert not any(our_losses[key].requires_grad for key in each)
    total = torch.stack([our_losses[key] for key in each]).sum()
    expected = their_losses["loss_qvalue"].detach().mean()
    if theirs._version == 1 and theirs.reduction != "sum":
        if "priority_weight" not in extra or theirs.reduction == "none":
            assert near(total / theirs.num_qvalue_nets, expected)
    else:
        assert near(total, expected)
    error = their_batch["td_error"]
    error = error.sqrt() if theirs._version == 1 else error  # theirs is squared there
    assert our_batch["td_error"].shape == error.shape == our_batch.batch_size
    assert near(our_batch["td_error"], error, 1e-4)
    our_gradients, their_gradients = gradients(ours), gradients(theirs)
    assert our_gradients.keys() == their_gradients.keys()
    assert all(value.abs().max() > 0 for value in their_gradients.values())
    assert len(their_gradients) >= 8  # weights and biases of both kinds of networks
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


def test_losses_wait_for_their_turn() -> None:
    """The memory that results are kept in is not written over before they have been used."""
    (ours, _), (theirs, _) = make(FastSACLoss), make(SACLoss)
    for loss in (ours, theirs):
        torch.manual_seed(2)
        kept = [loss(batch(seed)) for seed in (1, 2)]
        with torch.no_grad():
            loss(batch(3))
        for factor, losses in zip((1.0, -3.0), kept, strict=True):
            values = [value for key, value in losses.items() if key.startswith("loss_")]
            (factor * sum(values, values[0] * 0.5)).backward()
    for name, value in gradients(theirs).items():
        assert near(gradients(ours)[name], value), name


def test_losses_are_differentiated_once() -> None:
    loss, _ = make(FastSACLoss)
    losses = loss(batch())
    losses["loss_qvalue"].backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="evaluate them again"):
        losses["loss_actor"].backward()


def test_batches_of_several_sizes() -> None:
    (ours, _), (theirs, _) = make(FastSACLoss), make(SACLoss)
    for size in (7, BATCH, 7):
        values = []
        for loss in (ours, theirs):
            torch.manual_seed(2)
            values.append(loss(batch()[:size])["loss_actor"].detach())
        assert near(*values)


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
    assert FastSACLoss.fits(actor, critics, SACConfig())
    for other in (
        SACConfig(skip_done_states=True),
        SACConfig(value_network=True),
        SACConfig(reduction="none", prioritized=True),
        SACConfig(value_estimator="td1", slice_length=8),
    ):
        assert not FastSACLoss.fits(actor, critics, other)
    with pytest.raises(NotImplementedError, match="TD0 only"):
        make(FastSACLoss)[0].make_value_estimator(ValueEstimators.TDLambda)

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
    form: dict[str, Any] = {"value_estimator": estimator, "lmbda": lmbda, "gamma": 0.9, **SLICED}
    loss, _ = make(CriticwiseSACLoss, value_network=version == 1, **form)
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
    loss, _ = make(CriticwiseSACLoss, value_network=True)
    names = {name for name, _ in loss.named_children() if name.startswith("target_")}
    assert names == {"target_value_network_params"}


# ------------------------------------------------------------------ skipped states


def test_what_is_skipped_comes_after_a_termination_and_no_truncation() -> None:
    """Without one, the targets are those of a loss that skips nothing."""
    data = batch()
    following: Any = data["next"]
    following["terminated"].fill_(False)
    assert following["done"].any()
    (skips, _), (asks, _) = (make(CriticwiseSACLoss, skip_done_states=s) for s in (True, False))
    (theirs, _) = make(SACLoss, skip_done_states=True)
    expected = targets_of(asks, data)
    assert near(targets_of(skips, data), expected)
    assert not near(targets_of(theirs, data), expected, 0.01)


def test_nothing_is_asked_after_a_termination() -> None:
    data = batch()
    following: Any = data["next"]
    over = following["terminated"].squeeze(-1)
    following["observation"][over] = torch.nan
    loss, config = make(CriticwiseSACLoss, skip_done_states=True)
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
    loss, _ = make(CriticwiseSACLoss, skip_done_states=True)
    assert torch.equal(targets_of(loss, data), following["reward"].squeeze(-1))


@pytest.mark.parametrize("estimator", ["td1", "td_lambda"])
def test_slices_are_skipped_in_place(estimator: str) -> None:
    form: dict[str, Any] = {"value_estimator": estimator, "gamma": 0.9, "lmbda": 0.7, **SLICED}
    data = batch(length=8)
    data["next"]["terminated"].fill_(False)
    (skips, _), (asks, _) = (
        make(CriticwiseSACLoss, skip_done_states=s, **form) for s in (True, False)
    )
    assert near(targets_of(skips, data), targets_of(asks, data))
