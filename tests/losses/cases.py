"""The losses of replayed transitions that have to be TorchRL's, number for number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical
from torchrl.modules import ValueOperator
from torchrl.objectives import (
    DDPGLoss,
    DiscreteSACLoss,
    DistributionalDQNLoss,
    DQNLoss,
    SACLoss,
    TD3Loss,
    TQCLoss,
)
from transitions import (
    ACTIONS,
    CHOICES,
    OBSERVATIONS,
    SPEC,
    UNEVEN,
    UNIT,
    assert_near,
    batch,
    differentiate,
    gradients,
    moved,
    near,
)

from trainers.algorithms import c51, ddpg, discrete_sac, dqn, sac, td3, tqc
from trainers.algorithms.max_entropy import one_adam
from trainers.config import (
    C51Config,
    DDPGConfig,
    DiscreteSACConfig,
    DQNConfig,
    NetworkConfig,
    SACConfig,
    TD3Config,
    TQCConfig,
)
from trainers.losses.c51 import FastC51Loss, LeanC51Loss
from trainers.losses.discrete_sac import FastDiscreteSACLoss
from trainers.losses.dqn import FastDQNLoss, LeanDQNLoss
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.fast_td3 import FastDDPGLoss, FastTD3Loss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.losses.tqc import FastTQCLoss, LeanTQCLoss
from trainers.networks.actors import CategoricalActor, TanhActor, TanhNormalActor
from trainers.networks.critics import StateActionValue, StateValue, critic_ensemble, make_critics
from trainers.networks.q_networks import QNetwork
from trainers.phases import Phase

Bounds = tuple[list[float], list[float]]
Variants = dict[str, dict[str, Any]]

# ---------------------------------------------------------------------- how they are made


def make_sac(
    loss_class: Any,
    bounds: Bounds = UNIT,
    hidden: list[int] | None = None,
    activation: str = "relu",
    **given: Any,
) -> tuple[Any, SACConfig]:
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
    return moved(sac.make_loss(actor, critics, spec, config, loss_class, value)), config


def make_deterministic(
    loss_class: Any,
    bounds: Bounds = UNIT,
    hidden: list[int] | None = None,
    activation: str = "relu",
    **given: Any,
) -> tuple[Any, Any]:
    """TD3's, or DDPG's by its class."""
    torch.manual_seed(0)
    spec = Bounded(torch.tensor(bounds[0]), torch.tensor(bounds[1]), (ACTIONS,))
    hidden = hidden or [16, 16]
    actor = TanhActor(OBSERVATIONS, spec, hidden, activation)
    critic = StateActionValue(OBSERVATIONS, ACTIONS, hidden, activation)
    if issubclass(loss_class, DDPGLoss):
        alone = DDPGConfig(**given)
        (one,) = critic_ensemble(critic, 1)
        return moved(ddpg.make_loss(actor, one, alone, loss_class)), alone
    config = TD3Config(**given)
    critics = critic_ensemble(critic, config.num_critics)
    return moved(td3.make_loss(actor, critics, spec, config, loss_class)), config


def make_dqn(
    loss_class: Any, hidden: list[int] | None = None, activation: str = "relu", **given: Any
) -> tuple[Any, DQNConfig]:
    torch.manual_seed(0)
    config = DQNConfig(**given)
    network = QNetwork(OBSERVATIONS, CHOICES, hidden or [16, 16], activation, config.duelling)
    return moved(dqn.make_loss(network, Categorical(CHOICES), config, loss_class), 0.3), config


def make_c51(loss_class: Any, **given: Any) -> tuple[Any, C51Config]:
    torch.manual_seed(0)
    config = C51Config(**given)
    shape = (OBSERVATIONS, CHOICES, [16, 16], "relu", config.duelling, config.num_atoms)
    support = torch.linspace(config.v_min, config.v_max, config.num_atoms)
    spec = Categorical(CHOICES)
    return moved(c51.make_loss(QNetwork(*shape), support, spec, config, loss_class), 0.3), config


def make_tqc(loss_class: Any, **given: Any) -> tuple[Any, TQCConfig]:
    torch.manual_seed(0)
    config = TQCConfig(**({"num_critics": 2, "num_quantiles": 6} | given))
    actor = TanhNormalActor(OBSERVATIONS, SPEC, [16, 16], "relu")
    network = NetworkConfig(hidden=[16, 8], activation="tanh")
    sizes, quantiles = (OBSERVATIONS, ACTIONS), config.num_quantiles
    critics = make_critics(sizes, network, config.num_critics, None, "cpu", num_outputs=quantiles)
    return moved(tqc.make_loss(actor, critics, SPEC, config, loss_class)), config


def make_discrete_sac(loss_class: Any, **given: Any) -> tuple[Any, DiscreteSACConfig]:
    torch.manual_seed(0)
    config = DiscreteSACConfig(**given)
    actor = CategoricalActor(OBSERVATIONS, Categorical(CHOICES), [16, 16], "relu")
    critics = [
        ValueOperator(
            StateValue(OBSERVATIONS, [8], "tanh", CHOICES), ["observation"], ["action_value"]
        )
        for _ in range(config.num_critics)
    ]
    return moved(discrete_sac.make_loss(actor, critics, config, loss_class)), config


# --------------------------------------------------------------- what else they tell


def check_critics(theirs: Any, ours_said: Any, theirs_said: Any, data: Any) -> set[str]:
    """The critics' own losses are parts of what they sum up to."""
    each = {f"qvalue_{index}" for index in range(theirs.num_qvalue_nets)}
    assert not any(ours_said[key].requires_grad for key in each)
    total = torch.stack([ours_said[key] for key in each]).sum()
    expected = theirs_said["loss_qvalue"].detach().mean()
    if theirs._version == 1 and theirs.reduction != "sum":
        if data.get("priority_weight", None) is None or theirs.reduction == "none":
            assert near(total / theirs.num_qvalue_nets, expected)
    else:
        assert near(total, expected)
    return each


def check_values(theirs: Any, ours_said: Any, theirs_said: Any, data: Any) -> set[str]:
    """The means of the values and of the errors."""
    asked = theirs.value_network(data.select("observation"))["action_value"]
    taken = asked.gather(-1, data["action"].unsqueeze(-1))
    assert near(ours_said["qvalue"], taken.mean())
    assert near(ours_said["td_error"], data["td_error"].mean())
    assert not ours_said["qvalue"].requires_grad
    assert not ours_said["td_error"].requires_grad
    return {"qvalue", "td_error"}


def check_expectation(theirs: Any, ours_said: Any, theirs_said: Any, data: Any) -> set[str]:
    """The mean of the expected values."""
    log_p = theirs.value_network(data.select("observation"))["action_value"].detach()
    values = (log_p.exp() * theirs.value_network_params["support"][:, None]).sum(-2)
    assert near(ours_said["qvalue"], values.gather(-1, data["action"].unsqueeze(-1)).mean())
    assert not ours_said["qvalue"].requires_grad
    return {"qvalue"}


def nothing_more(theirs: Any, ours_said: Any, theirs_said: Any, data: Any) -> set[str]:
    return set()


# ------------------------------------------------------------------------- side by side


@dataclass(frozen=True)
class Case:
    """A loss of ours, and TorchRL's."""

    ours: Any
    theirs: Any
    make: Callable[..., tuple[Any, Any]]
    """Either of them with its configuration, targets away from their sources."""
    variants: Variants
    discrete: bool = False
    error: Callable[[Any, Tensor], Tensor] = lambda loss, error: error
    """Of each row, from what theirs writes into the batch: ours are sizes."""
    check: Callable[..., set[str]] = nothing_more
    """Looks at what ours returns beside theirs; its names."""

    def phases(self, loss: Any, config: Any) -> list[Phase]:
        """As a trainer makes them."""
        mine = isinstance(loss, self.ours)
        if self.make is make_deterministic:
            return ddpg.critics_and_actor(loss, ddpg.make_optimizers(loss, config), 2)
        if self.make in (make_dqn, make_c51):
            return [Phase(loss, dqn.make_optimizer(loss, config, flat=mine))]
        flat = mine and self.ours is not CriticwiseSACLoss
        return [Phase(loss, one_adam(loss, config, flat=flat))]


SLICED: dict[str, Any] = {"slice_length": 8, "batch_size": 64}
_ALPHA: Variants = {
    "alpha bounded": {"alpha_init": 0.2, "min_alpha": 0.1, "max_alpha": 0.3},
    "alpha fixed": {"alpha_init": 0.2, "fixed_alpha": True},
    "no targets": {"delay_qvalue": False},
    "separate losses": {"separate_losses": True},
    "one critic": {"num_critics": 1},
    "gamma": {"gamma": 0.5},
    "sum": {"reduction": "sum"},
}
_DETERMINISTIC: Variants = {
    "as shipped": {},
    "uneven bounds": {"bounds": UNEVEN},
    "gamma": {"gamma": 0.5},
    "smooth_l1": {"loss_function": "smooth_l1"},
    "nothing delayed": {"delay_qvalue": False, "delay_actor": False},
    "separate losses": {"separate_losses": True},
    "sum": {"reduction": "sum"},
    "wide": {"hidden": [64, 48]},
}
_NONE: dict[str, Any] = {"reduction": "none", "prioritized": True}
_DQN: Variants = {
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
_C51: Variants = {
    "as shipped": {},
    "duelling": {"duelling": True},
    "narrow support": {"v_min": -1.0, "v_max": 1.5},
    "two atoms": {"num_atoms": 2},
    "uneven support": {"num_atoms": 13, "v_min": 0.3, "v_max": 7.1},
    "no target": {"delay_value": False},
    "gamma": {"gamma": 0.5},
    "sum": {"reduction": "sum"},
}

_TQC: Variants = {
    "as shipped": {},
    **_ALPHA,
    "target entropy": {"target_entropy": 0.4},
    "many critics": {"num_critics": 4, "num_quantiles": 7, "top_quantiles_to_drop": 3},
    "nothing dropped": {"top_quantiles_to_drop": 0},
}

CASES = {
    "sac": Case(
        FastSACLoss,
        SACLoss,
        make_sac,
        {
            "as shipped": {},
            **_ALPHA,
            "uneven bounds": {"bounds": UNEVEN},
            "smooth_l1": {"loss_function": "smooth_l1"},
            "l1": {"loss_function": "l1"},
            "target entropy": {"target_entropy": -7.5},
            "five critics": {"num_critics": 5},
            "tanh": {"activation": "tanh"},
            "silu, three layers": {"activation": "silu", "hidden": [16, 8, 16]},
            "gelu": {"activation": "gelu"},
            "elu": {"activation": "elu"},
            "wide": {"hidden": [64, 48]},
            "leaky_relu, one layer": {"activation": "leaky_relu", "hidden": [16]},
        },
        check=check_critics,
    ),
    "sac, critic by critic": Case(
        CriticwiseSACLoss,
        SACLoss,
        make_sac,
        {
            "the second version": {},
            "the first version": {"value_network": True},
            "the first, nothing delayed": {"value_network": True, "delay_qvalue": False},
            "the first, target actor": {
                "value_network": True, "delay_actor": True, "num_critics": 4,
            },
            "sum": {"reduction": "sum"},
            "the first, sum": {"reduction": "sum", "value_network": True},
            "none": _NONE,
            "the first, none": {**_NONE, "value_network": True},
            "td1": {"value_estimator": "td1", **SLICED},
            "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
            "the first, td_lambda": {
                "value_estimator": "td_lambda", "value_network": True, **SLICED,
            },
        },
        # Theirs are squares in the first version.
        error=lambda loss, error: error.sqrt() if loss._version == 1 else error,
        check=check_critics,
    ),
    "td3": Case(
        FastTD3Loss,
        TD3Loss,
        make_deterministic,
        {
            **_DETERMINISTIC,
            "loud noise": {"policy_noise": 2.0, "noise_clip": 0.7, "bounds": UNEVEN},
            "no noise": {"policy_noise": 0.0},
            "l1": {"loss_function": "l1"},
            "no target critics": {"delay_qvalue": False},
            "no target actor": {"delay_actor": False},
            "one critic": {"num_critics": 1},
            "five critics": {"num_critics": 5},
            "tanh": {"activation": "tanh"},
            "silu, three layers": {"activation": "silu", "hidden": [16, 8, 16]},
            "one layer": {"activation": "elu", "hidden": [16]},
        },
    ),
    "ddpg": Case(FastDDPGLoss, DDPGLoss, make_deterministic, _DETERMINISTIC),
    "dqn": Case(
        FastDQNLoss,
        DQNLoss,
        make_dqn,
        _DQN,
        discrete=True,
        error=lambda loss, error: error.sqrt().squeeze(-1),
        check=check_values,
    ),
    "dqn, lean": Case(
        LeanDQNLoss,
        DQNLoss,
        make_dqn,
        {
            **_DQN,
            "td1": {"value_estimator": "td1", **SLICED},
            "td_lambda": {"value_estimator": "td_lambda", "lmbda": 0.7, **SLICED},
            "td_lambda, no double": {"value_estimator": "td_lambda", "double": False, **SLICED},
            "silu": {"activation": "silu"},
            "wide": {"hidden": [300]},
            "none": _NONE,
        },
        discrete=True,
        error=lambda loss, error: error.sqrt().squeeze(-1),
        check=check_values,
    ),
    "c51": Case(
        FastC51Loss,
        DistributionalDQNLoss,
        make_c51,
        _C51,
        discrete=True,
        error=lambda loss, error: error.squeeze(-1),
        check=check_expectation,
    ),
    "c51, lean": Case(
        LeanC51Loss,
        DistributionalDQNLoss,
        make_c51,
        {**_C51, "none": _NONE},
        discrete=True,
        error=lambda loss, error: error.squeeze(-1),
        check=check_expectation,
    ),
    "tqc": Case(FastTQCLoss, TQCLoss, make_tqc, _TQC, check=check_critics),
    "tqc, lean": Case(
        LeanTQCLoss,
        TQCLoss,
        make_tqc,
        {**_TQC, "none": _NONE, "no terminal states": {"skip_done_states": True}},
    ),
    "discrete_sac": Case(
        FastDiscreteSACLoss,
        DiscreteSACLoss,
        make_discrete_sac,
        {
            "as shipped": {},
            **_ALPHA,
            "none": _NONE,
            "target entropy": {"target_entropy": 0.4},
            "smooth_l1": {"loss_function": "smooth_l1"},
            "half the entropy": {"target_entropy_weight": 0.5},
            "three critics": {"num_critics": 3},
        },
        discrete=True,
    ),
}  # fmt: skip


def both(case: str, variant: str = "as shipped", **given: Any) -> tuple[Any, Any]:
    """Ours and TorchRL's."""
    each = CASES[case]
    settings = each.variants.get(variant, {}) | given
    return each.make(each.ours, **settings)[0], each.make(each.theirs, **settings)[0]


def data_for(case: str, seed: int = 1, **given: Any) -> TensorDict:
    """For C51 some returns put an atom onto another, or all of them beyond the support."""
    data = batch(seed, discrete=CASES[case].discrete, **given)
    if case.startswith("c51"):
        odd = torch.tensor([0.0, 0.4, -0.4, 10.0, -10.0, 0.8, 50.0, -50.0])
        data["next", "reward"][:8] = odd[:, None]
        data["next", "terminated"][:8] = True
    return data


def said(losses: TensorDictBase) -> dict[str, Tensor]:
    """Losses by our names for them; TorchRL's DQN has but one."""
    return {"loss_qvalue" if key == "loss" else key: losses[key] for key, _ in losses.items()}


def evaluated(loss: Any, data: TensorDictBase) -> dict[str, Tensor]:
    """The losses of a batch with fixed noise, gradients in place."""
    torch.manual_seed(2)
    losses = loss(data)
    differentiate(losses)
    return said(losses)


def assert_equal(case: str, ours: Any, theirs: Any, **given: Any) -> None:
    """Losses, errors, and the gradients of all that TorchRL's differentiates."""
    each, data = CASES[case], (data_for(case, **given), data_for(case, **given))
    found, expected = evaluated(ours, data[0]), evaluated(theirs, data[1])
    for key, value in expected.items():
        mine = found[key]
        if key == "state_action_value_actor":  # ours asks no critic but the first
            mine, value = mine[0], value[0]
        assert mine.shape == value.shape, key
        assert mine.dtype == value.dtype, key
        assert near(mine, value), key
    error = each.error(theirs, data[1]["td_error"])
    assert data[0]["td_error"].shape == error.shape == data[0].batch_size
    assert data[0]["td_error"].dtype == error.dtype
    assert near(data[0]["td_error"], error)
    more = each.check(theirs, found, expected, data[0])
    assert found.keys() == expected.keys() | more
    assert len(gradients(theirs)) >= 4
    assert all(value.abs().max() > 0 for value in gradients(theirs).values())
    assert_near(gradients(ours), gradients(theirs))
