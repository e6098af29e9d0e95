"""Environments in workers: the same as in this process, until a worker is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from support.processes import left

from trainers.config import ConfigError
from trainers.environments.single import EpisodeRecorder
from trainers.environments.sync import SyncEnvs
from trainers.environments.workers import WorkerEnvs

SPACE = Box(-np.inf, np.inf, (2,))


class Walk(gym.Env):
    """Observes where it is and how many steps it took; does as ``orders`` say, once each."""

    observation_space, action_space = SPACE, Box(-1, 1, (1,))

    def __init__(self, orders: Path | None = None) -> None:
        self.orders = orders

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._obey("reset")
        self.position, self.steps = self.np_random.uniform(), 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._obey("step")
        self.position += float(action[0])
        self.steps += 1
        info = {"is_success": np.array(self.position > 1)} if self.steps > 2 else {}
        return self._observation(), self.position, self.steps > 3, False, info

    def _observation(self) -> Any:
        return np.array([self.position, self.steps], np.float32)

    def where(self, factor: float) -> float:
        return factor * self.position

    def _obey(self, at: str) -> None:
        order = None if self.orders is None else self.orders / at
        if order is None or not order.exists():
            return
        what = order.read_text()
        order.unlink()
        if what == "die":
            os._exit(3)
        elif what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "hang":
            time.sleep(60)
        elif what == "refuse":
            raise ConfigError("env.id", "walk", "somewhere to go")
        elif what == "odd":
            raise Odd(lambda: None)


class Odd(Exception):
    """Cannot be pickled."""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Any]:
    made: list[WorkerEnvs] = []

    def make(number: int = 2, timeout_s: float = 20.0, restarts: int = 3) -> WorkerEnvs:
        makers = [partial(Walk, tmp_path if index == 0 else None) for index in range(number)]
        made.append(WorkerEnvs(makers, timeout_s, restarts))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def test_they_do_what_environments_in_this_process_do(workers: Any) -> None:
    mine, theirs = workers(3), SyncEnvs([Walk] * 3)
    assert mine.single_observation_space == SPACE
    assert mine.single_action_space == Walk.action_space
    seeds, mask = [1, 2, 3], np.array([True, False, True])
    dice = np.random.default_rng(0)
    results = [[envs.reset(seed=seeds)[0]] for envs in (mine, theirs)]
    for step in range(5):
        actions = dice.uniform(-1, 1, (3, 1)).astype(np.float32)
        for envs, found in zip((mine, theirs), results, strict=True):
            found += envs.step(actions)
            found.append(envs.call("where", 2.0))
            if step == 3:
                found.append(envs.reset(seed=[7, 8, 9], options={"reset_mask": mask})[0])
    for one, two in zip(*results, strict=True):
        if isinstance(two, dict):
            assert one.keys() == two.keys()
            one, two = one.get("is_success", 0), two.get("is_success", 0)
        assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("order", "cause"),
    [
        ("die", r"died \(exit code 3\)"),
        ("kill", "was killed by SIGKILL"),
        ("hang", "has been busy for 0.5 s"),
    ],
)
def test_a_lost_worker_is_replaced_and_its_episode_cut(
    order: str, cause: str, workers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    envs = workers(timeout_s=0.5 if order == "hang" else 20.0)
    first = envs.reset(seed=[1, 2])[0]
    lost, other = envs.processes
    (tmp_path / "step").write_text(order)
    observation, reward, terminated, truncated, _ = envs.step(np.ones((2, 1), np.float32))
    assert observation[0].tolist() == first[0].tolist()  # nobody knows better
    assert (reward[0], terminated[0], truncated[0]) == (0.0, False, True)
    assert observation[1, 1] == 1.0  # the other one took its step
    assert (terminated[1], truncated[1]) == (False, False)
    assert not lost.is_alive()
    assert envs.processes[1] is other
    said = caplog.text
    assert "the worker of environment 0" in said
    assert "its episode counts as truncated; 2 restarts are left" in said
    assert caplog.records[0].getMessage().find(cause.split(" \\(")[0].split(" for")[0]) > 0

    again = envs.reset(seed=[5, 0], options={"reset_mask": np.array([True, False])})[0]
    assert again[0].tolist() == Walk().reset(seed=5)[0].tolist()
    assert envs.step(np.ones((2, 1), np.float32))[0][:, 1].tolist() == [1.0, 2.0]


def test_a_worker_lost_in_a_reset_is_replaced_and_asked_again(workers: Any, tmp_path: Path) -> None:
    envs = workers()
    (tmp_path / "reset").write_text("die")
    observation = envs.reset(seed=[1, 2])[0]
    assert observation[0].tolist() == Walk().reset(seed=1)[0].tolist()


def test_the_budget_is_for_the_whole_run(workers: Any, tmp_path: Path) -> None:
    envs = workers(restarts=1)
    envs.reset(seed=[1, 2])
    (tmp_path / "step").write_text("kill")
    envs.step(np.ones((2, 1), np.float32))
    (tmp_path / "reset").write_text("die")
    with pytest.raises(RuntimeError, match=r"environment 0 died .*3\); no restart is left"):
        envs.reset(seed=[1, 2])


def test_an_error_is_raised_here_with_its_traceback_there(workers: Any, tmp_path: Path) -> None:
    envs = workers()
    envs.reset(seed=[1, 2])
    (tmp_path / "step").write_text("refuse")
    with pytest.raises(ConfigError, match="somewhere to go") as caught:
        envs.step(np.ones((2, 1), np.float32))
    assert "in _obey" in caught.value.__notes__[0]


def test_an_error_that_cannot_travel_is_told(workers: Any, tmp_path: Path) -> None:
    envs = workers()
    envs.reset(seed=[1, 2])
    (tmp_path / "step").write_text("odd")
    with pytest.raises(RuntimeError, match="Odd: ") as caught:
        envs.step(np.ones((2, 1), np.float32))
    assert "in _obey" in caught.value.__notes__[0]


def test_an_environment_that_cannot_be_made_leaves_no_workers() -> None:
    def refuse() -> gym.Env:
        raise ConfigError("env.id", "nowhere", "somewhere")

    with pytest.raises(ConfigError, match="somewhere"):
        WorkerEnvs([refuse, refuse], 20.0, 3)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("order", [None, "hang", "die"])
def test_closing_ends_all_of_them(order: str | None, workers: Any, tmp_path: Path) -> None:
    envs = workers()
    envs.reset(seed=[1, 2])
    if order is not None:
        (tmp_path / "step").write_text(order)
    envs.step_async(np.ones((2, 1), np.float32))
    processes = list(envs.processes)
    begin = time.monotonic()
    envs.close()
    assert time.monotonic() - begin < 15
    assert not any(process.is_alive() for process in processes)
    envs.close()


@pytest.mark.parametrize("hangs", [False, True])
def test_workers_do_not_outlive_a_trainer_that_is_killed(hangs: bool, tmp_path: Path) -> None:
    def train() -> None:
        envs = WorkerEnvs([partial(Walk, tmp_path), Walk], 60.0, 0)
        envs.reset(seed=[1, 2])
        if hangs:
            (tmp_path / "step").write_text("hang")
            envs.step_async(np.ones((2, 1), np.float32))
            while (tmp_path / "step").exists():
                time.sleep(0.01)
        (tmp_path / "pids").write_text(" ".join(str(p.pid) for p in envs.processes))
        os.kill(os.getpid(), signal.SIGKILL)

    trainer = os.fork()
    if trainer == 0:
        try:
            train()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(trainer, 0)[1]) == -signal.SIGKILL
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert len(pids) == 2
    assert not left(pids)


def test_workers_outlive_the_thread_that_started_them(workers: Any) -> None:
    """The system knows parents by their threads."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(workers()))
    thread.start()
    thread.join()
    (envs,) = made
    first = list(envs.processes)
    first[0].join(0.5)
    assert all(process.is_alive() for process in first)
    assert envs.reset(seed=[1, 2])[0].shape == (2, 2)
    assert envs.processes == first


def test_one_that_reads_nothing_is_replaced(workers: Any) -> None:
    """What it is asked does not fit into its pipe; its answers are not waited for yet."""
    envs = workers(timeout_s=1.0)
    envs.reset(seed=[1, 2])
    hung = envs.processes[0]
    os.kill(hung.pid, signal.SIGSTOP)
    factor = np.full(1_000_000, 2.0)
    with pytest.raises(AttributeError):  # a new one has no episode, so no position
        envs.call("where", factor)
    assert not hung.is_alive()
    envs.reset(seed=[1, 2])
    assert [len(each) for each in envs.call("where", factor)] == [len(factor)] * 2


@pytest.mark.parametrize("full", [False, True])
def test_closing_does_not_wait_for_one_that_reads_nothing(full: bool, workers: Any) -> None:
    envs = workers(timeout_s=60.0)
    envs.reset(seed=[1, 2])
    os.kill(envs.processes[0].pid, signal.SIGSTOP)
    if full:
        pipe = envs._pipes[0]
        os.set_blocking(pipe.fileno(), False)
        with pytest.raises(BlockingIOError):
            pipe.send(np.zeros(1_000_000))
        os.set_blocking(pipe.fileno(), True)
    processes, begin = list(envs.processes), time.monotonic()
    envs.close()
    assert time.monotonic() - begin < 30
    assert not any(process.is_alive() for process in processes)


def test_an_error_leaves_no_answers_behind(workers: Any, tmp_path: Path) -> None:
    """They would be taken for those to the next request."""
    envs, others = workers(3), SyncEnvs([Walk] * 3)
    for each in (envs, others):
        each.reset(seed=[1, 2, 3])
    (tmp_path / "step").write_text("refuse")
    with pytest.raises(ConfigError):
        envs.step(np.ones((3, 1), np.float32))
    for each in (envs, others):
        each.reset(seed=[4, 5, 6])
    ours, theirs = (each.step(np.ones((3, 1), np.float32)) for each in (envs, others))
    assert np.array_equal(ours[0], theirs[0])


def test_one_that_dies_between_two_steps_has_lost_its_episode_too(workers: Any) -> None:
    envs = workers()
    envs.reset(seed=[1, 2])
    before = envs.step(np.ones((2, 1), np.float32))[0]
    envs.processes[0].kill()
    assert len(envs.call("close")) == 2  # as a checkpoint asks for the open episodes
    observation, reward, _, truncated, _ = envs.step(np.ones((2, 1), np.float32))
    assert truncated.tolist() == [True, False]
    assert reward[0] == 0.0
    assert np.array_equal(observation[0], before[0])
    assert observation[1, 1] == 2.0


def test_what_was_replayed_is_what_is_observed(tmp_path: Path) -> None:
    makers = [partial(_recorded, tmp_path if index == 0 else None, index) for index in range(2)]
    envs = WorkerEnvs(makers, 20.0, 3)
    try:
        actions = np.full((3, 1), 0.25)
        episodes = [{"seed": 1, "actions": actions}, {"seed": 2, "actions": actions[:1]}]
        replayed = envs.replay(episodes)
        assert replayed[:, 1].tolist() == [3.0, 1.0]
        (tmp_path / "step").write_text("die")
        observation, _, _, truncated, _ = envs.step(np.ones((2, 1), np.float32))
        assert truncated.tolist() == [True, False]
        assert np.array_equal(observation[0], replayed[0])
    finally:
        envs.close()


def _recorded(orders: Path | None, index: int) -> gym.Env:
    return EpisodeRecorder(Walk(orders), index)
