"""Every picture is kept once, and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.games import Games
from support.states import assert_same
from tensordict import TensorDict

from trainers.replay.pictures import Pictures
from trainers.replay.rows import on_disk
from trainers.saving import checkpoint, segments


def add(pictures: Pictures, rollout: TensorDict) -> None:
    rollout = rollout.transpose(0, 1)
    pictures.add(rollout["observation"], rollout["next", "observation"])


def assert_told(pictures: Pictures, games: Games, first: int | None = None) -> None:
    """All transitions that are kept, or from number ``first`` on, are as they came."""
    oldest = max(0, pictures.end - pictures.size)
    number = torch.arange(oldest if first is None else first, pictures.end)
    observation, following = pictures.around(number)
    for n, now, then in zip(number.tolist(), observation, following, strict=True):
        assert torch.equal(now, games.told[n][0]), n
        assert torch.equal(then, games.told[n][1]), n


@pytest.mark.parametrize("empty", [torch.empty, on_disk])
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 1), (3, 1), (2, 5), (1, 40)])
@pytest.mark.parametrize("size", [10, 33, 200])
def test_observations_are_as_they_came(empty: object, num_envs: int, steps: int, size: int) -> None:
    """Across ends of games and of rollouts, lost lives, and the end of the memory, many times."""
    if num_envs * steps > size:
        pytest.skip("a rollout does not fit")
    pictures, games = Pictures(size, empty=empty), Games(num_envs)
    while pictures.end < 120:
        add(pictures, games.rollout(steps))
        assert_told(pictures, games)
    assert pictures.end == len(games.told)


def test_any_shape_of_numbers() -> None:
    pictures, games = Pictures(50), Games(2)
    add(pictures, games.rollout(20))
    number = torch.randint(40, (3, 4, 2))
    observation, following = pictures.around(number)
    assert observation.shape == following.shape == (3, 4, 2, 4, 1, 2)
    assert torch.equal(following[2, 3, 1], games.told[int(number[2, 3, 1])][1])


def test_what_is_returned_is_a_copy() -> None:
    pictures, games = Pictures(50), Games(1)
    add(pictures, games.rollout(20))
    for each in pictures.around(torch.arange(20)):
        each.zero_()
    assert_told(pictures, games)


def test_each_picture_is_there_once() -> None:
    """But for the three that the oldest transition looks back at, and those at the ends."""
    pictures, games = Pictures(100), Games(1, lengths=(1_000,))
    add(pictures, games.rollout(300))
    shown = pictures.state_dict()["pictures"].tables()["picture"]
    assert len(shown) == len(shown.unique(dim=0)) == 103
    assert len(pictures._ends) == 1
    assert sum(table.nbytes for table in pictures._tables.values()) == 103 * (2 + 5)
    ended = Games(1, lengths=(10,))
    for _ in range(20):
        add(pictures, ended.rollout(10))
    assert len(pictures._ends) == 10


def test_a_game_has_to_begin_with_a_picture_repeated() -> None:
    pictures, games = Pictures(50), Games(2)
    rollout = games.rollout(3)
    rollout["observation"][1, 0, 0] += 1
    with pytest.raises(ValueError, match="the same picture repeated"):
        add(pictures, rollout)


@pytest.mark.parametrize("before", [0, 1, 3, 30, 77])
def test_a_checkpoint_brings_all_of_them_back(before: int, tmp_path: Path) -> None:
    first, second, games = Pictures(40), Pictures(40), Games(2)
    for _ in range(before):
        add(first, games.rollout(1))
    add(second, Games(3).rollout(5))  # what it held before is gone
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert second.end == first.end == 2 * before
    for _ in range(30):
        if second.end:
            assert_told(second, games)
            assert_same(first.state_dict(), second.state_dict())
        rollout = games.rollout(1)
        add(first, rollout)
        add(second, rollout)


@pytest.mark.parametrize("size", [5, 20, 60])
def test_another_size_has_the_latest(size: int, tmp_path: Path) -> None:
    first, second, games = Pictures(40), Pictures(size), Games(2)
    add(first, games.rollout(37))
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    for _ in range(30):
        assert_told(second, games, first=max(34, second.end - size))
        add(second, games.rollout(1))


@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_games_that_begin_anew_follow_nothing(num_envs: int, tmp_path: Path) -> None:
    """After a resume with other environments, or with these at the beginning of new games."""
    first, second, games = Pictures(60), Pictures(60), Games(2)
    add(first, games.rollout(20))
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    games.num_envs, games._games = num_envs, [0] * num_envs
    games.restart()
    for _ in range(10):
        add(second, games.rollout(1))
        assert_told(second, games)


def test_a_picture_that_is_gone_is_made_up_for_by_the_oldest_of_its_game(tmp_path: Path) -> None:
    """Of more environments than before, whose oldest transitions look further back."""
    second, games = resumed_with_six(Pictures(60), tmp_path)
    for _ in range(30):
        add(second, games.rollout(1))
    shown = second.around(torch.arange(second.end - 60, second.end))[0][:, :, 0].long()
    number = 256 * shown[..., 0] + shown[..., 1]
    assert (number.diff(dim=1) >= 0).all()
    assert_told(second, games, first=second.end - 45)


def test_there_is_room_for_what_more_environments_look_back_at(tmp_path: Path) -> None:
    second, games = resumed_with_six(Pictures(60, num_envs=6), tmp_path)
    for _ in range(30):
        add(second, games.rollout(1))
        assert_told(second, games, first=max(0, second.end - 60))


def resumed_with_six(pictures: Pictures, folder: Path) -> tuple[Pictures, Games]:
    """With what one environment's ten steps have left, and six that begin anew."""
    first, games = Pictures(60), Games(1, lengths=(10_000,))
    add(first, games.rollout(10))
    checkpoint.save(folder / "c", first.state_dict())
    pictures.load_state_dict(checkpoint.load(folder / "c"))
    games.num_envs, games._games = 6, [0] * 6
    games.restart()
    return pictures, games


def test_pieces_of_a_checkpoint_are_written_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 8)
    pictures, games = Pictures(40), Games(2)
    add(pictures, games.rollout(14))
    checkpoint.save(tmp_path / "1", pictures.state_dict())
    add(pictures, games.rollout(4))
    checkpoint.save(tmp_path / "2", pictures.state_dict(), tmp_path / "1")
    shared = sorted(p.name for p in (tmp_path / "2").glob("rows-*") if p.stat().st_nlink > 1)
    assert shared == [f"rows-0.{begin}.safetensors" for begin in (0, 16, 8)]
