"""Collection: what is stored is what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from support.environments import ALL_ENDS, Tale, env_config, how_it_ends, tale_seed
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase

from trainers.collection.collectors import GymCollector
from trainers.config import ConfigError
from trainers.environments.envs import Envs
from trainers.errors import NonFiniteError
from trainers.plugins import wrappers
from trainers.saving import checkpoint
from trainers.seeding import episode_seed

SEED = 11


class Policy:
    """Acts on the step number, and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: TensorDictBase) -> TensorDictBase:
        self.calls += 1
        return data.set("action", torch.tanh(data["observation"][:, 1:2]))


Make = Callable[..., GymCollector]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes collectors whose environments are closed after the test."""
    made: list[GymCollector] = []

    def make_collector(collector: dict[str, Any] | None = None, **env: Any) -> GymCollector:
        envs = Envs(env_config(**env))
        try:
            made.append(GymCollector(envs, Policy(), seed=SEED, **(collector or {})))
        except BaseException:
            envs.close()
            raise
        return made[-1]

    yield make_collector
    for collector in made:
        collector.shutdown()


def take(collector: GymCollector, rollouts: int) -> TensorDict:
    """So many rollouts, put together along the time."""
    return torch.cat(list(islice(collector, rollouts)), 1)


def check(
    data: TensorDict, lengths: Sequence[int], ends: Sequence[str] = ALL_ENDS
) -> set[tuple[int, str]]:
    """Every transition of `Tale` is what it should be; how its episodes ended."""
    finished = set()
    for env, frames in enumerate(data):
        episode = step = 0
        for frame in frames:
            seed = episode_seed(SEED, env, episode)
            length, end = how_it_ends(episode, seed, lengths, ends)
            last = step + 1 == length
            end = end if last else ""
            following = frame["next"]
            assert frame["observation"][:2].tolist() == [episode, step]
            assert following["observation"][:2].tolist() == [episode, step + 1]
            assert tale_seed(frame["observation"]) == tale_seed(following["observation"]) == seed
            assert following["terminated"].tolist() == [end in ("terminated", "both")]
            assert following["truncated"].tolist() == [end in ("truncated", "both")]
            assert following["done"].tolist() == [last]
            assert torch.allclose(following["reward"], frame["action"], atol=1e-6)
            assert torch.equal(frame["action"], torch.tanh(frame["observation"][1:2]))
            if last:
                finished.add((length, end))
            episode, step = (episode + 1, 0) if last else (episode, step + 1)
    return finished


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("steps", [1, 5])
def test_no_transition_is_junk_or_mislabelled(
    make: Make, backend: str, num_envs: int, steps: int
) -> None:
    lengths = (3, 1, 4, 2)
    collector = make(
        {"frames_per_batch": steps * num_envs},
        kwargs={"lengths": lengths},
        num_envs=num_envs,
        backend=backend,
    )
    data = take(collector, 60 // steps)
    assert data.batch_size == (num_envs, 60)
    assert collector.frames == 60 * num_envs
    finished = check(data, lengths)
    assert {length for length, _ in finished} == set(lengths)
    assert {end for _, end in finished} == set(ALL_ENDS)
    if num_envs > 1:  # environments end apart from each other
        assert any(0 < done.sum() < num_envs for done in data["next", "done"].unbind(1))


def test_a_time_limit_truncates_and_may_meet_a_termination(make: Make) -> None:
    collector = make(kwargs={"lengths": (2,), "ends": ("terminated", "")}, max_episode_steps=2)
    assert check(take(collector, 8), (2,), ("both", "truncated")) == {(2, "both"), (2, "truncated")}


@pytest.mark.parametrize("steps", [1, 4])
def test_first_episodes_are_cut_so_that_they_do_not_end_together(make: Make, steps: int) -> None:
    env = {"env_id": "Pendulum-v1", "num_envs": 4, "max_episode_steps": 10}

    def ends(stagger: bool) -> list[list[int]]:
        collector = make({"stagger": stagger, "frames_per_batch": 4 * steps}, **env)
        following = take(collector, 24 // steps)["next"]
        assert not following["terminated"].any()
        assert torch.equal(following["truncated"], following["done"])
        return [(each.flatten().nonzero() + 1).flatten().tolist() for each in following["done"]]

    assert ends(True) == [[3, 13, 23], [5, 15], [8, 18], [10, 20]]
    assert ends(False) == [[10, 20]] * 4


def test_layout_and_types(make: Make) -> None:
    rollout = next(iter(make({"frames_per_batch": 6}, num_envs=2)))
    assert {key: value.dtype for key, value in rollout.flatten_keys(".").items()} == {
        "observation": torch.float32,
        "action": torch.float32,
        "next.observation": torch.float32,
        "next.reward": torch.float32,
        "next.done": torch.bool,
        "next.terminated": torch.bool,
        "next.truncated": torch.bool,
    }
    assert rollout.batch_size == rollout["next"].batch_size == (2, 3)
    assert rollout["next", "reward"].shape == (2, 3, 1)


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(("reports", "first"), [("always", 0), ("end", 3), ("never", 99)])
@pytest.mark.parametrize("steps", [1, 6])
def test_success_is_there_from_the_first_report_on(
    make: Make, backend: str, reports: str, first: int, steps: int
) -> None:
    collector = make(
        {"frames_per_batch": 2 * steps, "stagger": False, "init_random_frames": 1_000},
        env_id="tests/Goal-v0",
        kwargs={"reports": reports, "length": 4},
        num_envs=2,
        backend=backend,
    )
    torch.manual_seed(0)
    rollouts = list(islice(collector, 12 // steps))
    for number, rollout in enumerate(rollouts):
        assert (("next", "success") in rollout.keys(True)) == ((number + 1) * steps > first)
    told = [rollout["next"] for rollout in rollouts if ("next", "success") in rollout.keys(True)]
    for following in told:
        assert following["success"].dtype == torch.bool
        assert following["success"].shape == following["done"].shape
        # The environment's reward is 1 in success.
        reached = (following["reward"] == 1) & (following["done"] | (reports == "always"))
        assert torch.equal(following["success"], reached)
    if told:
        ends = torch.cat([f["success"][f["done"]] for f in told])
        assert 0 < ends.sum() < len(ends) == 6


def test_a_rollout_belongs_to_whole_environments(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"env\.num_envs=4") as caught:
        make({"frames_per_batch": 6}, num_envs=4)
    assert caught.value.key == "algo.frames_per_batch"


# --------------------------------------------------------------------- warm-up


@pytest.mark.parametrize(("num_envs", "warm_up", "random"), [(1, 10, 10), (4, 10, 12)])
def test_the_warm_up_is_counted_in_frames(
    make: Make, num_envs: int, warm_up: int, random: int
) -> None:
    collector = make({"init_random_frames": warm_up}, num_envs=num_envs)
    take(collector, random // num_envs)
    assert (collector.frames, collector.policy.calls) == (random, 0)
    take(collector, 1)
    assert collector.policy.calls == 1


def test_the_warm_up_is_uniform_in_the_environment_s_own_bounds(make: Make) -> None:
    torch.manual_seed(0)
    collector = make(
        {"init_random_frames": 4_000, "frames_per_batch": 4_000},
        kwargs={"low": (-2.0,), "high": (4.0,)},
        num_envs=4,
    )
    rollout = next(iter(collector))
    assert torch.histc(rollout["action"], 8, -1, 1).tolist() == pytest.approx([500] * 8, abs=90)
    arrived = rollout["next", "reward"]
    assert torch.allclose(arrived, 1 + 3 * rollout["action"], atol=1e-6)


# ------------------------------------------------------------------ bad numbers


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("broken", "what"),
    [("observation", r"observation\[1\] of environment 2 is nan"),
     ("reward", r"reward of environment 2 is inf")],
)  # fmt: skip
def test_what_is_not_finite_is_named_and_not_stored(
    make: Make, backend: str, broken: str, what: str
) -> None:
    collector = make(
        {"frames_per_batch": 12},
        kwargs={
            "lengths": (4,),
            "broken": broken,
            "broken_at": 2,
            "broken_seed": episode_seed(SEED, 2, 1),
        },
        num_envs=4,
        backend=backend,
    )
    rollouts = iter(collector)
    check(next(rollouts), (4,))
    with pytest.raises(NonFiniteError, match=f"{what} at frame 24"):
        next(rollouts)


def test_an_observation_of_a_reset_is_checked_too(make: Make) -> None:
    collector = make(
        kwargs={
            "broken": "observation",
            "broken_at": 0,
            "broken_seed": episode_seed(SEED, 0, 1),
        }
    )
    with pytest.raises(NonFiniteError, match=r"observation\[1\] of environment 0 is nan"):
        take(collector, 4)


@pytest.mark.filterwarnings("ignore:.*ERROR")  # gymnasium passes the worker's traceback on
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_environment_that_raises_is_heard(make: Make, backend: str) -> None:
    collector = make(
        kwargs={"broken": "exception", "broken_seed": episode_seed(SEED, 1, 0)},
        num_envs=2,
        backend=backend,
    )
    with pytest.raises(RuntimeError, match="the simulator gave up"):
        take(collector, 4)


# ---------------------------------------------------------------------- resume


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("steps", [0, 2, 13, 25])
@pytest.mark.parametrize("overlap", [False, True])
def test_collection_goes_on_where_it_was(
    make: Make, backend: str, num_envs: int, steps: int, overlap: bool, tmp_path: Path
) -> None:
    env = {
        "env_id": "Pendulum-v1",
        "num_envs": num_envs,
        "backend": backend,
        "max_episode_steps": 10,
    }
    given = {"overlap": overlap}
    first, second = make(given, **env), make(given, **env)
    if steps:
        take(first, steps)
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert_same(take(second, 30).to_dict(), take(first, 30).to_dict())
    assert_same(second.state_dict(), first.state_dict())


def test_success_goes_on_being_told_after_a_resume(make: Make) -> None:
    env: dict[str, Any] = {"env_id": "tests/Goal-v0", "kwargs": {"reports": "end"}}
    first, second = (make({"init_random_frames": 99}, **env) for _ in range(2))
    list(islice(first, 5))
    second.load_state_dict(first.state_dict())
    (rollout,) = islice(second, 1)
    assert rollout["next", "success"].tolist() == [[[False]]]


wrappers.register("normalized_rewards")(gym.wrappers.NormalizeReward)


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_wrapper_whose_state_outlives_an_episode_is_noticed(
    make: Make, backend: str, overlap: bool
) -> None:
    """It observes what it should when the second episode is replayed; its rewards are others."""
    env = {"env_id": "Pendulum-v1", "max_episode_steps": 5, "backend": backend}
    first, second = (
        make({"overlap": overlap}, wrappers=["normalized_rewards"], **env) for _ in range(2)
    )
    take(first, 8)
    second.load_state_dict(first.state_dict())
    how, why = second.restored
    assert how == "statistical"
    assert "other rewards or ends when they were replayed: every open episode is cut" in why


def test_a_state_of_an_older_version_tells_no_rewards(make: Make) -> None:
    first, second = (make(env_id="Pendulum-v1") for _ in range(2))
    take(first, 3)
    state = first.state_dict()
    for episode in state["open_episodes"]:
        del episode["outcomes"]
    second.load_state_dict(state)
    assert second.restored == ("exact", "")
    assert_same(take(second, 3).to_dict(), take(first, 3).to_dict())
    assert_same(second.state_dict(), first.state_dict())


def test_an_environment_that_does_not_come_back_starts_anew(make: Make) -> None:
    """`Tale` counts its episodes since it was made, which no seed brings back."""
    first, second = make(), make()
    take(first, 5)
    second.load_state_dict(first.state_dict())
    how, why = second.restored
    assert how == "statistical"
    assert "did not come back to their stored observations" in why
    data = take(second, 3)
    assert (second.frames, second.state_dict()["episodes"]) == (8, [4])
    assert data["observation"][0, :, 1].tolist() == [0, 1, 2]
    assert tale_seed(data["observation"][0, 0]) == episode_seed(SEED, 0, 2)


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_another_number_of_environments_begins_episodes_of_its_own(
    make: Make, backend: str, num_envs: int, overlap: bool, tmp_path: Path
) -> None:
    """None of them has the seed of one before."""
    given = {"overlap": overlap}
    first = make(given, num_envs=2, backend=backend, kwargs={"lengths": (2, 5)})
    second = make(given, num_envs=num_envs, backend=backend, kwargs={"lengths": (2, 5)})
    before = take(first, 9)
    checkpoint.save(tmp_path / "c", first.state_dict())
    second.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert second.restored == (
        "statistical",
        f"env.num_envs was 2 and is {num_envs}: every open episode is cut, and starts anew",
    )
    after = take(second, 9)
    assert second.frames == 18 + 9 * num_envs
    assert after["observation"][:, 0, 1].tolist() == num_envs * [0]
    seeds = [{tale_seed(o) for o in data["observation"].flatten(0, 1)} for data in (before, after)]
    assert not seeds[0] & seeds[1]
    highest = max(first.state_dict()["episodes"])
    assert min(second.state_dict()["episodes"]) > highest


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("steps", [1, 3])
def test_overlapped_collection_stores_every_frame_once(
    make: Make, backend: str, steps: int
) -> None:
    lengths = (3, 1, 4, 2)
    given = {"overlap": True, "frames_per_batch": 2 * steps}
    collector = make(given, kwargs={"lengths": lengths}, num_envs=2, backend=backend)
    data = take(collector, 30 // steps)
    assert data.batch_size == (2, 30)
    assert collector.frames == 60
    check(data, lengths)


class Watched(Tale):
    """Tells when its third step has begun."""

    third = threading.Event()

    def step(self, action: Any) -> Any:
        if self.step_number == 2:
            Watched.third.set()
        return super().step(action)


@pytest.mark.parametrize("overlap", [False, True])
def test_environments_step_while_the_learner_learns(make: Make, overlap: bool) -> None:
    gym.register("tests/Watched-v0", Watched, disable_env_checker=True)
    Watched.third.clear()
    rollouts = iter(make({"overlap": overlap}, env_id="tests/Watched-v0"))
    next(rollouts)
    next(rollouts)  # what is done now is the learner's, and nobody has asked for a third step
    assert Watched.third.wait(10 if overlap else 0.1) == overlap


def test_an_error_in_the_background_is_heard_at_the_next_rollout(make: Make) -> None:
    rollouts = iter(make({"overlap": True}, kwargs={"broken": "exception", "lengths": (9,)}))
    next(rollouts)
    with pytest.raises(RuntimeError, match="the simulator gave up"):
        next(rollouts)


def test_a_collector_closes_its_environments(make: Make) -> None:
    collector = make(num_envs=2, backend="async")
    take(collector, 1)
    collector.shutdown()
    assert not any(process.is_alive() for process in collector.envs._env.processes)
    collector.shutdown()


def test_a_resumed_run_has_no_more_workers_to_lose(make: Make) -> None:
    """What was lost before counts, whether it was resumed or not."""
    env = {"backend": "async", "worker_restarts": 1}
    before = make(**env)
    rollouts = iter(before)
    next(rollouts)
    before.envs._env.processes[0].kill()
    assert next(rollouts)["next", "truncated"].all()
    state = before.state_dict()
    assert state["replaced_workers"] == 1

    after = make(**env)
    after.load_state_dict(state)
    assert after.restored[0] == "exact"
    rollouts = iter(after)
    next(rollouts)
    after.envs._env.processes[0].kill()
    with pytest.raises(RuntimeError, match="no restart is left"):
        next(rollouts)


def test_a_state_of_an_older_version_has_lost_no_workers(make: Make) -> None:
    before, after = make(backend="async"), make(backend="async")
    next(iter(before))
    state = before.state_dict()
    del state["replaced_workers"]
    after.envs.replaced_workers = 3
    after.load_state_dict(state)
    assert after.envs.replaced_workers == 0
