"""Returns of whole episodes, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict

from trainers.hooks import WholeEpisodes
from trainers.saving import checkpoint

# Rewards of each environment, one frame a number; | ends an episode.
STORY = [
    ["1 2 | 3 4", "5 | 6 7 8"],
    ["5 6 7 8", "9 10 | 11 12"],
    ["9 | 10 11 12 |", "13 14 15 16"],
]


def rollout(lines: list[str], **flags: Any) -> TensorDict:
    """A rollout ``[num_envs, T]`` whose observations are the rewards."""
    rows = [line.replace(" |", "|").split() for line in lines]
    done = torch.tensor([[[word.endswith("|")] for word in row] for row in rows])
    reward = torch.tensor([[[float(word.rstrip("|"))] for word in row] for row in rows])
    following = {"reward": reward, "done": done, "truncated": done.clone(), **flags}
    shape = list(done.shape[:2])
    data = {"observation": reward.clone(), "next": TensorDict(following, shape)}
    return TensorDict(data, shape)


def learnt(frames: Any) -> list[tuple[float, float]]:
    """What comes out: rewards and returns."""
    assert frames["advantage"].shape == (len(frames), 1)
    pairs = zip(frames["observation"].flatten(), frames["advantage"].flatten(), strict=True)
    return [(float(reward), float(returns)) for reward, returns in pairs]


def test_by_hand_without_a_discount() -> None:
    hook = WholeEpisodes(gamma=1.0)
    found = [learnt(hook(stub(), rollout(lines))) for lines in STORY]
    assert found[0] == [(1, 3), (2, 2), (5, 5)]
    # The second environment's episode began a rollout before.
    assert found[1] == [(6, 40), (7, 34), (8, 27), (9, 19), (10, 10)]
    # The first one's has gone through three of them.
    first = [(3, 42), (4, 39), (5, 35), (6, 30), (7, 24), (8, 17), (9, 9)]
    assert found[2] == [*first, (10, 33), (11, 23), (12, 12)]


def test_by_hand_with_a_discount() -> None:
    hook = WholeEpisodes(gamma=0.5)
    assert learnt(hook(stub(), rollout(["1 2 4 |"]))) == [(1, 3), (2, 4), (4, 4)]
    hook(stub(), rollout(["8 4 2"]))
    assert learnt(hook(stub(), rollout(["16 | 3 5"]))) == [(8, 12.5), (4, 9), (2, 10), (16, 16)]


def test_every_frame_comes_once_and_none_before_its_episode_has_ended() -> None:
    torch.manual_seed(0)
    hook, given, found = WholeEpisodes(0.9), [], []
    for _ in range(30):
        made = rollout(["0 0 0 0 0"] * 3)
        made["observation"] = torch.rand(3, 5, 1)
        made["next", "reward"] = made["observation"].clone()
        made["next", "done"] = torch.rand(3, 5, 1) < 0.1
        given.append(made)
        found.append(hook(stub(), made).clone())
    whole = torch.cat(given, 1)
    expected: dict[float, float] = {}
    for env in range(3):
        last = int(whole[env]["next", "done"].flatten().nonzero()[-1])
        returns = 0.0
        for frame in reversed(range(last + 1)):
            going_on = 0.0 if whole[env, frame]["next", "done"] else 0.9
            returns = float(whole[env, frame]["observation"]) + going_on * returns
            expected[float(whole[env, frame]["observation"])] = returns
    learnt_from = [pair for frames in found for pair in learnt(frames)]
    assert len(learnt_from) == len(expected) > 300
    assert dict(learnt_from) == pytest.approx(expected, rel=1e-5)


def test_nothing_comes_while_no_episode_ends() -> None:
    hook = WholeEpisodes(1.0)
    frames = hook(stub(), rollout(["1 2", "3 4"]))
    assert frames.batch_size == (0,)
    assert frames["advantage"].shape == (0, 1)


def test_rollouts_of_one_environment_need_no_dimension() -> None:
    hook = WholeEpisodes(1.0)
    hook(stub(), rollout(["1 2"])[0])
    assert learnt(hook(stub(), rollout(["3 | 4"])[0])) == [(1, 6), (2, 5), (3, 3)]


def test_what_is_kept_back_is_its_own() -> None:
    """A hook may write into the rollout later on, and the memory of the rest is freed."""
    hook, made = WholeEpisodes(1.0), rollout(["1 2 | 3"])
    hook(stub(), made)
    made["next", "reward"].fill_(100.0)
    assert learnt(hook(stub(), rollout(["4 |"]))) == [(3, 7), (4, 4)]


def test_a_success_may_be_reported_from_some_rollout_on() -> None:
    hook = WholeEpisodes(1.0)
    hook(stub(), rollout(["1 2"]))
    later = rollout(["3 |"], success=torch.ones(1, 1, 1, dtype=torch.bool))
    assert len(hook(stub(), later)) == 3


def collecting(cuts_first: list[bool], frames: int) -> Any:
    """A trainer in its first rollout."""
    trainer = stub(frames=frames)
    trainer.collector = SimpleNamespace(cuts_first=np.array(cuts_first))
    return trainer


def test_first_episodes_that_were_cut_short_are_left_out() -> None:
    hook = WholeEpisodes(1.0)
    assert learnt(hook(collecting([True, False], 8), rollout(["1 2 3 4", "1 | 2 3 | 4"]))) == [
        (1, 1), (2, 5), (3, 3)
    ]  # fmt: skip
    found = learnt(hook(collecting([True, False], 16), rollout(["5 | 6 7 | 8", "5 6 7 8"])))
    assert found == [(6, 13), (7, 7)]


def test_a_collector_that_cuts_none_leaves_none_out() -> None:
    trainer = stub(frames=2)
    trainer.collector = object()
    assert len(WholeEpisodes(1.0)(trainer, rollout(["1 2 |"]))) == 2


@pytest.mark.parametrize("stored", [False, True])
def test_it_is_resumed_in_the_middle_of_episodes(stored: bool, tmp_path: Path) -> None:
    straight, first, second = (WholeEpisodes(0.9) for _ in range(3))
    expected = [learnt(straight(stub(), rollout(lines))) for lines in STORY]
    first(stub(), rollout(STORY[0]))
    state = first.state_dict()
    if stored:
        checkpoint.save(tmp_path / "c", state)
        state = checkpoint.load(tmp_path / "c")
    second.load_state_dict(state)
    assert [learnt(second(stub(), rollout(lines))) for lines in STORY[1:]] == expected[1:]


@pytest.mark.parametrize("restored", [("statistical", "EnvPool"), None])
def test_episodes_that_did_not_come_back_are_forgotten(restored: Any) -> None:
    hook, trainer = WholeEpisodes(1.0), stub(frames=100)
    hook(trainer, rollout(["1 2"]))
    resumed = WholeEpisodes(1.0)
    resumed.load_state_dict(hook.state_dict())
    trainer.collector = object() if restored is None else SimpleNamespace(restored=restored)
    assert learnt(resumed(trainer, rollout(["3 4 |"]))) == [(3, 7), (4, 4)]
