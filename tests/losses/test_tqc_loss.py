"""The losses of TQC and discrete SAC, piece by piece."""

from __future__ import annotations

import pytest
import torch
from cases import make_discrete_sac, make_tqc
from transitions import BATCH, batch

from trainers.losses.discrete_sac import FastDiscreteSACLoss
from trainers.losses.tqc import FastTQCLoss, quantile_huber

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
