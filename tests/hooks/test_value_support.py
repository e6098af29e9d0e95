"""Returns outside of a support are told of, once."""

from __future__ import annotations

import logging

import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict

from trainers.hooks import WatchSupport
from trainers.hooks.value_support import discounted_returns


def rollout(rewards: list[list[float]], dones: list[list[int]]) -> TensorDict:
    shape = [len(rewards), len(rewards[0])]
    following = {
        "reward": torch.tensor(rewards).unsqueeze(-1),
        "done": torch.tensor(dones).bool().unsqueeze(-1),
    }
    return TensorDict({"next": TensorDict(following, shape)}, shape)


def test_discounted_returns() -> None:
    assert discounted_returns([1.0, 0.0, -4.0], 0.5).tolist() == [0.0, -2.0, -4.0]
    assert discounted_returns([], 0.5).tolist() == []


@pytest.mark.parametrize(
    ("rewards", "dones", "told"),
    [
        ([[1.0, 1.0, 1.0]], [[0, 0, 1]], None),  # 1.75
        ([[1.5, 1.0, 1.0]], [[0, 0, 1]], "2.25"),
        ([[1.5, 1.0, 1.0]], [[0, 1, 1]], None),  # two episodes
        ([[1.5, 1.0, 1.0]], [[0, 0, 0]], None),  # not known yet
        ([[0.0, 0.0, 2.5]], [[0, 0, 1]], "2.5"),  # from the first step it is less
        ([[-3.0, 9.0, 0.0]], [[0, 0, 1]], "9"),
        ([[-3.0, 1.0, 0.0]], [[0, 0, 1]], "-2.5"),
        ([[0.0, 0.0], [0.0, -1.5]], [[0, 1], [0, 1]], "-1.5"),
    ],
)
def test_what_is_outside(
    rewards: list[list[float]],
    dones: list[list[int]],
    told: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = WatchSupport(-1.0, 2.0, gamma=0.5)
    with caplog.at_level(logging.WARNING, "trainers"):
        watch(stub(frames=7), rollout(rewards, dones))
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == (told is not None)
        if told is not None:
            assert f"at frame 7: discounted it is {told}," in messages[0]
            watch(stub(frames=8), rollout(rewards, dones))
            assert len(caplog.records) == 1


def test_episodes_go_on_over_rollouts(caplog: pytest.LogCaptureFixture) -> None:
    watch = WatchSupport(-1.0, 2.0, gamma=1.0)
    with caplog.at_level(logging.WARNING, "trainers"):
        for _ in range(3):
            watch(stub(), rollout([[1.0], [0.5]], [[0], [0]]))
        assert not caplog.records
        watch(stub(), rollout([[0.0], [0.0]], [[0], [1]]))
        assert not caplog.records
        watch(stub(), rollout([[0.0], [0.0]], [[1], [0]]))
    assert "discounted it is 3," in caplog.text
