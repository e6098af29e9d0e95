"""The losses of TQC and discrete SAC, piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cases import make_discrete_sac, make_tqc
from torchrl.objectives import DiscreteSACLoss, TQCLoss
from transitions import BATCH, SPEC, batch, near

from trainers.algorithms import tqc
from trainers.config import NetworkConfig, TQCConfig
from trainers.losses import tqc as module
from trainers.losses.discrete_sac import FastDiscreteSACLoss
from trainers.losses.tqc import FastTQCLoss, LeanTQCLoss, quantile_huber

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


def test_keywords_reach_the_losses() -> None:
    given = {"num_critics": 3, "num_quantiles": 4, "top_quantiles_to_drop": 2, "gamma": 0.7}
    loss, _ = make_tqc(FastTQCLoss, **given)
    assert (loss.num_qvalue_nets, loss.top_quantiles_to_drop_per_net) == (3, 2)
    assert loss.compute_target(batch()).shape == (BATCH, 3 * (4 - 2))
    assert float(loss.value_estimator.gamma) == pytest.approx(0.7)
    discrete, _ = make_discrete_sac(FastDiscreteSACLoss, target_entropy_weight=0.5, min_alpha=0.1)
    assert float(discrete.target_entropy) == pytest.approx(0.5 * torch.tensor(4.0).log().item())
    assert float(discrete.min_log_alpha) == pytest.approx(torch.tensor(0.1).log().item())


def test_the_quantile_huber_loss_pair_by_pair() -> None:
    quantiles, target = torch.randn(2, 3, 4).mul_(2.0), torch.randn(3, 5).mul_(2.0)
    loss, slope, error = quantile_huber(quantiles.numpy(), target.numpy())
    for critic in range(2):
        for row in range(3):
            expected, size = 0.0, 0.0
            for i in range(4):
                steepness = 0.0
                for atom in target[row].tolist():
                    apart = atom - float(quantiles[critic, row, i])
                    weight = abs((i + 0.5) / 4 - (apart < 0)) / 20
                    expected += weight * (0.5 * apart**2 if abs(apart) <= 1 else abs(apart) - 0.5)
                    steepness -= weight * min(max(apart, -1.0), 1.0)
                    size += abs(apart) / 20
                assert float(slope[critic, row, i]) == pytest.approx(steepness, rel=1e-4, abs=1e-6)
            assert float(loss[critic, row]) == pytest.approx(expected, rel=1e-5)
            assert float(error[critic, row]) == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 10, 11])
def test_it_is_the_same_in_any_number_of_parts(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quantiles, target, fractions = torch.randn(2, 10, 4), torch.randn(10, 5), torch.rand(4)
    given = [tensor.numpy() for tensor in (quantiles, target)]
    monkeypatch.setattr(module, "_PAIRS", rows * 2 * 4 * 5)
    parts = quantile_huber(*given)
    monkeypatch.setattr(module, "_PAIRS", 10**9)
    for part, whole in zip(parts, quantile_huber(*given), strict=True):
        assert near(torch.from_numpy(part), torch.from_numpy(whole))
    sums = module._sums(np, *given, fractions.numpy())
    for mine, theirs in zip(sums, module._sums(torch, quantiles, target, fractions), strict=True):
        assert near(torch.from_numpy(mine), theirs)


def test_nothing_to_compare() -> None:
    found = quantile_huber(np.zeros((2, 0, 4)), np.zeros((0, 5)))
    assert [each.shape for each in found] == [(2, 0), (2, 0, 4), (2, 0)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, FastTQCLoss),
        ({"reduction": "none", "prioritized": True}, LeanTQCLoss),
        ({"skip_done_states": True}, LeanTQCLoss),
        ({"loss_module": "torchrl"}, TQCLoss),
    ],
)
def test_which_loss_is_taken(config: dict[str, Any], expected: Any) -> None:
    agent = tqc.make_agent(3, SPEC, NetworkConfig(hidden=[8]), TQCConfig(**config))
    assert type(agent.loss) is expected


def test_a_truncated_episode_s_value_counts() -> None:
    """A truncation is not a termination: the next state's value is part of the target."""
    loss, _ = make_discrete_sac(FastDiscreteSACLoss)
    data = batch(discrete=True)
    truncated = data["next", "done"] & ~data["next", "terminated"]
    assert truncated.any()
    with_values, reward = loss._compute_target(data), data["next", "reward"].squeeze(-1)
    ended = data["next", "terminated"].squeeze(-1)
    assert torch.equal(with_values[ended], reward[ended])
    assert not torch.isclose(with_values[~ended], reward[~ended]).any()
    data["next", "done"] = data["next", "terminated"].clone()
    assert torch.equal(loss._compute_target(data), with_values)


SLICED = {"value_estimator": "td_lambda", "gamma": 0.9, "lmbda": 0.7, "slice_length": 8}


@pytest.mark.parametrize("form", [{}, SLICED])
def test_what_is_skipped_comes_after_a_termination_and_no_truncation(form: dict[str, Any]) -> None:
    """The values after terminations count for nothing, asked for or not."""
    (skips, _), (asks, _) = (
        make_discrete_sac(FastDiscreteSACLoss, skip_done_states=skip, **form)
        for skip in (True, False)
    )
    theirs, _ = make_discrete_sac(DiscreteSACLoss, skip_done_states=True, **form)
    data = batch(discrete=True, length=form.get("slice_length"))
    expected = asks._compute_target(data)
    assert near(skips._compute_target(data), expected)
    assert not near(theirs._compute_target(data), expected, 0.01)
    data["next", "done"] = data["next", "terminated"].clone()  # without truncations it is TorchRL's
    assert near(skips._compute_target(data), theirs._compute_target(data))


@pytest.mark.parametrize("share", ["some", "all"])
def test_nothing_is_asked_after_a_termination(share: str) -> None:
    loss, _ = make_discrete_sac(FastDiscreteSACLoss, skip_done_states=True)
    data: Any = batch(discrete=True)
    data["next", "terminated"][:] |= share == "all"
    over = data["next", "terminated"].squeeze(-1)
    expected = loss._compute_target(data)
    data["next", "observation"][over] = torch.nan
    assert torch.equal(loss._compute_target(data), expected)
    assert torch.equal(expected[over], data["next", "reward"].squeeze(-1)[over])
    assert loss(data)["loss_qvalue"].isfinite()


def test_where_all_has_ended_no_critic_of_tqc_is_asked() -> None:
    loss, _ = make_tqc(LeanTQCLoss, skip_done_states=True)
    data = batch()
    data["next", "terminated"][:] = True
    targets = loss.compute_target(data)
    assert torch.equal(targets, data["next", "reward"].expand_as(targets))
