"""The lean losses of TQC and discrete SAC are TorchRL's, number for number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kin import ACTIONS, OBSERVATIONS, SPEC, assert_near, batch, differentiated, moved
from torchrl.data import Categorical
from torchrl.modules import ValueOperator
from torchrl.objectives import DiscreteSACLoss, TQCLoss

from trainers.algorithms import discrete_sac, tqc
from trainers.config import DiscreteSACConfig, NetworkConfig, TQCConfig
from trainers.losses.discrete_sac import FastDiscreteSACLoss
from trainers.losses.tqc import FastTQCLoss, quantile_huber
from trainers.networks.actors import CategoricalActor, TanhNormalActor
from trainers.networks.critics import StateValue, make_critics

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

COMMON: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none", "prioritized": True},
    "alpha bounded": {"alpha_init": 0.2, "min_alpha": 0.1, "max_alpha": 0.3},
    "alpha fixed": {"alpha_init": 0.2, "fixed_alpha": True},
    "target entropy": {"target_entropy": 0.4},
    "no targets": {"delay_qvalue": False},
    "separate losses": {"separate_losses": True},
    "one critic": {"num_critics": 1},
    "gamma": {"gamma": 0.5},
}
OF_TQC = {
    "many critics": {"num_critics": 4, "num_quantiles": 7, "top_quantiles_to_drop": 3},
    "nothing dropped": {"top_quantiles_to_drop": 0},
    "no terminal states": {"skip_done_states": True},
}
OF_DISCRETE_SAC = {
    "smooth_l1": {"loss_function": "smooth_l1"},
    "half the entropy": {"target_entropy_weight": 0.5},
    "three critics": {"num_critics": 3},
}
EXTRAS = [(), ("priority_weight",), ("priority_weight", "steps_to_next_obs")]
extras = pytest.mark.parametrize("extra", EXTRAS, ids=" ".join)


def tqc_loss(loss_class: type[TQCLoss], **given: Any) -> Any:
    torch.manual_seed(0)
    config = TQCConfig(**({"num_critics": 2, "num_quantiles": 6} | given))
    actor = TanhNormalActor(OBSERVATIONS, SPEC, [16, 16], "relu")
    network = NetworkConfig(hidden=[16, 8], activation="tanh")
    critics = make_critics(
        (OBSERVATIONS, ACTIONS), network, config.num_critics, None, "cpu",
        num_outputs=config.num_quantiles,
    )  # fmt: skip
    return moved(tqc.make_loss(actor, critics, SPEC, config, loss_class))


def discrete_loss(loss_class: type[DiscreteSACLoss], **given: Any) -> Any:
    torch.manual_seed(0)
    config = DiscreteSACConfig(**given)
    actor = CategoricalActor(OBSERVATIONS, Categorical(4), [16, 16], "relu")
    critics = [
        ValueOperator(StateValue(OBSERVATIONS, [8], "tanh", 4), ["observation"], ["action_value"])
        for _ in range(config.num_critics)
    ]
    return moved(discrete_sac.make_loss(actor, critics, config, loss_class))


def assert_equal(ours: Any, theirs: Any, discrete: int | None, extra: tuple[str, ...]) -> None:
    """Losses, errors, gradients and state are."""
    results = []
    for loss in (ours, theirs):
        data = batch(1, discrete, *extra)
        torch.manual_seed(2)
        losses = loss(data)
        gradients = differentiated(losses, loss)
        values = {k: losses[k].detach() for k, _ in losses.items()}
        results.append((values | {"td_error": data["td_error"]}, gradients))
    (our_values, our_gradients), (their_values, their_gradients) = results
    assert_near(our_values, their_values)
    assert_near(our_gradients, their_gradients)
    assert len(our_gradients) >= 10
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("variant", (COMMON | OF_TQC).values(), ids=list(COMMON | OF_TQC))
@extras
def test_tqc(variant: dict[str, Any], extra: tuple[str, ...]) -> None:
    assert_equal(tqc_loss(FastTQCLoss, **variant), tqc_loss(TQCLoss, **variant), None, extra)


VARIANTS = COMMON | OF_DISCRETE_SAC


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
@extras
def test_discrete_sac(variant: dict[str, Any], extra: tuple[str, ...]) -> None:
    ours, theirs = (discrete_loss(c, **variant) for c in (FastDiscreteSACLoss, DiscreteSACLoss))
    assert_equal(ours, theirs, 4, extra)


def test_keywords_reach_the_losses() -> None:
    loss = tqc_loss(FastTQCLoss, num_critics=3, num_quantiles=4, top_quantiles_to_drop=2, gamma=0.7)
    assert (loss.num_qvalue_nets, loss.top_quantiles_to_drop_per_net) == (3, 2)
    assert loss.compute_target(batch()).shape == (16, 3 * (4 - 2))
    assert float(loss.value_estimator.gamma) == pytest.approx(0.7)
    discrete = discrete_loss(FastDiscreteSACLoss, target_entropy_weight=0.5, min_alpha=0.1)
    assert float(discrete.target_entropy) == pytest.approx(0.5 * torch.tensor(4.0).log().item())
    assert float(discrete.min_log_alpha) == pytest.approx(torch.tensor(0.1).log().item())


def test_the_quantile_huber_loss_pair_by_pair() -> None:
    quantiles, target = torch.randn(2, 3, 4).mul_(2.0), torch.randn(3, 5).mul_(2.0)
    loss, error = quantile_huber(quantiles, target)
    for critic in range(2):
        for row in range(3):
            expected, size = 0.0, 0.0
            for i in range(4):
                for atom in target[row].tolist():
                    apart = atom - float(quantiles[critic, row, i])
                    huber = 0.5 * apart**2 if abs(apart) <= 1 else abs(apart) - 0.5
                    expected += abs((i + 0.5) / 4 - (apart < 0)) * huber / 20
                    size += abs(apart) / 20
            assert float(loss[critic, row]) == pytest.approx(expected, rel=1e-5)
            assert float(error[critic, row]) == pytest.approx(size, rel=1e-5)


def test_a_truncated_episode_s_value_counts() -> None:
    """A truncation is not a termination: the next state's value is part of the target."""
    loss = discrete_loss(FastDiscreteSACLoss)
    data = batch(1, 4)
    truncated = data["next", "done"] & ~data["next", "terminated"]
    assert truncated.any()
    with_values, reward = loss._compute_target(data), data["next", "reward"].squeeze(-1)
    ended = data["next", "terminated"].squeeze(-1)
    assert torch.equal(with_values[ended], reward[ended])
    assert not torch.isclose(with_values[~ended], reward[~ended]).any()
    data["next", "done"] = data["next", "terminated"].clone()
    assert torch.equal(loss._compute_target(data), with_values)
