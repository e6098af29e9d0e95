"""Evaluation, apart from training."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.doubles import make_trainer, stub
from support.environments import env_config
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torchrl.envs.utils import ExplorationType, exploration_type

from trainers import seeding
from trainers.environments.envs import Envs
from trainers.errors import NonFiniteError
from trainers.hooks import Evaluate
from trainers.policies.episodes import run_episodes
from trainers.saving import checkpoint
from trainers.seeding import EVALUATION, episode_seed
from trainers.timetable import every


class Actor(nn.Module):
    """Acts by a parameter; explores with noise. Notes whether it was in training mode."""

    def __init__(self, action: float = 0.25) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.tensor(action))
        self.modes: set[bool] = set()

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        self.modes.add(self.training)
        action = self.action.expand(len(data), 1)
        if exploration_type() is not ExplorationType.DETERMINISTIC:
            action = action + 0.1 * torch.randn(len(data), 1)
        return data.set("action", action)


class Recorded(Envs):
    """Environments that note the seeds of the episodes they began."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begun: list[int] = []
        self.closed = False

    def reset(self, seeds: Any, mask: Any = None) -> Any:
        mask = np.ones(len(seeds), bool) if mask is None else mask
        self.begun += [seed for seed, m in zip(seeds, mask, strict=True) if m]
        return super().reset(seeds, mask)

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def made() -> Iterator[list[Recorded]]:
    """The environments that were made in a test."""
    made: list[Recorded] = []
    yield made
    for envs in made:
        envs.close()


@pytest.fixture
def make(made: list[Recorded]) -> Callable[..., Evaluate]:
    """Makes an `Evaluate` of an actor, by default on `Tale`."""

    def make_hook(
        env: dict[str, Any] | None = None, policy: nn.Module | None = None, **given: Any
    ) -> Evaluate:
        def make_envs(number: int) -> Envs:
            made.append(Recorded(env_config(**(env or {"kwargs": {"lengths": (2, 5)}})), number))
            return made[-1]

        return Evaluate(policy or Actor(), make_envs, **given)

    return make_hook


def result(hook: Evaluate, trainer: Any = None) -> dict[str, float]:
    """The entries that an evaluation adds to a line."""
    trainer = trainer or stub()
    hook(trainer, TensorDict())
    assert trainer.metrics.line_due
    return trainer.metrics.flush()


# -------------------------------------------------------------------- episodes


@pytest.mark.parametrize("episodes", [1, 7, 25])
def test_every_episode_counts_once_and_whole(
    make: Callable[..., Evaluate], made: list[Recorded], episodes: int
) -> None:
    seeds = [episode_seed(3, EVALUATION, n) for n in range(episodes)]
    lengths = np.array([(2, 5)[seed % 2] for seed in seeds])
    returns = 0.25 * lengths
    assert result(make(episodes=episodes, seed=3)) == pytest.approx(
        {
            "eval/episode_return": returns.mean(),
            "eval/episode_return_std": returns.std(),
            "eval/episode_length": lengths.mean(),
        }
    )
    assert made[0].num_envs == min(episodes, 10)
    assert set(made[0].begun) == set(seeds)


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_returns_do_not_depend_on_how_many_run_at_once(num_envs: int) -> None:
    config = env_config("Pendulum-v1", max_episode_steps=20)
    envs, alone = Envs(config, num_envs), Envs(config, 1)
    seeds = list(range(8))
    episodes = run_episodes(Actor(), envs, seeds)
    assert episodes.lengths.tolist() == [20] * 8
    assert len(set(episodes.returns)) == 8
    assert episodes.successes is None
    for seed, together in zip(seeds, episodes.returns, strict=True):
        assert run_episodes(Actor(), alone, [seed])[0] == pytest.approx(together, rel=1e-6)
    envs.close()
    alone.close()


@pytest.mark.parametrize("reports", ["always", "end", "success", "never"])
def test_the_share_of_episodes_that_succeeded(make: Callable[..., Evaluate], reports: str) -> None:
    class Still(Actor):
        """Stays at the origin: reaches the goals with two minus signs."""

        def forward(self, data: TensorDictBase) -> TensorDictBase:
            return data.set("action", torch.zeros(len(data), 2))

    seeds = [episode_seed(3, EVALUATION, n) for n in range(25)]
    goals = [np.random.default_rng(seed).uniform(-1, 1, 2) for seed in seeds]
    expected = np.mean([(goal < 0).all() for goal in goals])
    env = {"env_id": "tests/Goal-v0", "kwargs": {"reports": reports}}
    line = result(make(env, Still(), episodes=25, seed=3))
    assert line.get("eval/success_rate") == (None if reports == "never" else expected)
    assert 0 < expected < 1


@pytest.mark.parametrize("broken", ["observation", "nan reward"])
def test_what_is_not_finite_is_no_result(make: Callable[..., Evaluate], broken: str) -> None:
    hook = make({"kwargs": {"lengths": (5,), "broken": broken}})
    with pytest.raises(NonFiniteError, match="not finite in step 2 of an evaluation"):
        hook(stub(), TensorDict())


def test_an_episode_without_end_is_told_of(
    make: Callable[..., Evaluate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("trainers.policies.episodes.ENDLESS", 3)
    result(make({"kwargs": {"lengths": (3,)}}))
    assert caplog.messages == []
    result(make({"kwargs": {"lengths": (9,)}}, episodes=1))
    assert [m for m in caplog.messages if "goes on after 3 steps: env.max_episode_steps" in m]
    assert len(caplog.messages) == 1


def test_an_evaluation_repeats_itself_in_environments_of_its_own(
    make: Callable[..., Evaluate], made: list[Recorded]
) -> None:
    for deterministic in (True, False):
        hook = make({"env_id": "Pendulum-v1"}, episodes=3, deterministic=deterministic)
        first = result(hook)
        torch.manual_seed(torch.seed() % 1_000)
        assert result(hook) == first
    assert len(made) == 2  # one set for each hook, made once


def test_the_policy_explores_only_if_told_to(make: Callable[..., Evaluate]) -> None:
    quiet = result(make(env={"kwargs": {"lengths": (4,)}}))
    noisy = result(make(env={"kwargs": {"lengths": (4,)}}, deterministic=False))
    assert quiet["eval/episode_return"] == 1.0
    assert quiet["eval/episode_return_std"] == 0.0
    assert noisy["eval/episode_return_std"] > 0.01


class Careless(gym.Env):
    """Draws from the global generators, when it is made and when it steps."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self) -> None:
        np.random.rand()
        random.random()
        torch.rand(())

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        reward = np.random.rand() + random.random() + float(torch.rand(()))
        return np.zeros(1, np.float32), reward, reward > 2, False, {}


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_random_states_of_training_stay(
    make: Callable[..., Evaluate], deterministic: bool
) -> None:
    gym.registry.pop("tests/Careless-v0", None)
    gym.register("tests/Careless-v0", Careless, disable_env_checker=True)
    seeding.seed_everything(5)
    before = seeding.random_state()
    hook = make({"env_id": "tests/Careless-v0"}, episodes=3, deterministic=deterministic)
    first = result(hook)
    assert_same(seeding.random_state(), before)
    assert result(hook) == first


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_policy_comes_back(make: Callable[..., Evaluate], training: bool) -> None:
    policy = Actor().train(training)
    result(make(policy=policy))
    assert policy.modes == {False}
    assert policy.training is training


def test_an_evaluation_takes_no_time_of_training(make: Callable[..., Evaluate]) -> None:
    class Slow(Actor):
        def forward(self, data: TensorDictBase) -> TensorDictBase:
            time.sleep(0.01)
            return super().forward(data)

    trainer = stub()
    with trainer.stopwatch.running():
        result(make(policy=Slow()), trainer)
    assert trainer.stopwatch.seconds - trainer.stopwatch.training_seconds >= 0.05


# ------------------------------------------------------------------------ best


def test_the_best_policy_is_replaced_by_a_better_one_only(
    make: Callable[..., Evaluate], tmp_path: Path
) -> None:
    policy = Actor()
    hook = make(env={"kwargs": {"lengths": (2,)}}, policy=policy, best_dir=tmp_path / "best")
    kept = []
    for frames, action in enumerate([0.125, -0.5, 0.125, 0.25, 0.0], 1):
        with torch.no_grad():
            policy.action.fill_(action)
        result(hook, stub(frames=frames))
        best = checkpoint.load(tmp_path / "best")
        kept.append((best["frames"], best["policy"]["action"].item(), best["eval/episode_return"]))
    one, two = (1, 0.125, 0.25), (4, 0.25, 0.5)
    assert kept == [one, one, one, two, two]
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_best_policy_is_never_lost(
    make: Callable[..., Evaluate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before another one takes its place."""
    given: dict[str, Any] = {"env": {"kwargs": {"lengths": (2,)}}, "best_dir": tmp_path / "best"}
    result(make(policy=Actor(0.25), **given), stub(frames=1))
    rename = Path.rename

    def killed(source: Path, target: Path) -> Path:
        if target == tmp_path / "best":
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            result(make(policy=Actor(0.5), **given), stub(frames=2))
    resumed = make(policy=Actor(0.5), **given)
    resumed.start(stub(frames=1))
    assert checkpoint.load(tmp_path / "best")["frames"] == 1
    result(resumed, stub(frames=2))
    assert checkpoint.load(tmp_path / "best")["frames"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_best_policy_of_frames_to_come_is_set_aside(
    make: Callable[..., Evaluate], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"env": {"kwargs": {"lengths": (2,)}}, "best_dir": tmp_path / "best"}
    result(make(policy=Actor(0.5), **given), stub(frames=5))
    resumed = make(policy=Actor(0.25), **given)
    resumed.start(stub(frames=5))
    assert (tmp_path / "best").exists()
    for _ in range(2):  # stopped once more before it was reached
        resumed.start(stub(frames=4))
        assert not (tmp_path / "best").exists()
    result(resumed, stub(frames=6))
    assert checkpoint.load(tmp_path / "best")["frames"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_best_of_what_is_left_is_kept_after_going_back(
    make: Callable[..., Evaluate], tmp_path: Path
) -> None:
    """What the earlier best return was of has been overwritten by the one that is set aside."""
    given: dict[str, Any] = {"env": {"kwargs": {"lengths": (2,)}}, "best_dir": tmp_path / "best"}
    first = make(policy=Actor(0.5), **given)
    result(first, stub(frames=4))
    state = first.state_dict()
    result(make(policy=Actor(0.75), **given), stub(frames=6))
    resumed = make(policy=Actor(0.25), **given)
    resumed.load_state_dict(state)
    resumed.start(stub(frames=5))
    result(resumed, stub(frames=7))
    assert checkpoint.load(tmp_path / "best")["frames"] == 7
    resumed.start(stub(frames=8))
    assert checkpoint.load(tmp_path / "best")["frames"] == 7


def test_a_best_policy_that_is_damaged_is_told_and_replaced(
    make: Callable[..., Evaluate], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "best").mkdir()
    hook = make(best_dir=tmp_path / "best")
    hook.start(stub(frames=1))
    assert "best stays as it is: " in caplog.text
    result(hook, stub(frames=2))
    assert checkpoint.load(tmp_path / "best")["frames"] == 2


def test_the_best_return_survives_a_resume(make: Callable[..., Evaluate], tmp_path: Path) -> None:
    first = make(policy=Actor(0.5))
    checkpoint.save(tmp_path / "fresh", first.state_dict())  # before the first one: -infinity
    first.load_state_dict(checkpoint.load(tmp_path / "fresh"))
    result(first, stub(frames=1))
    checkpoint.save(tmp_path / "c", first.state_dict())
    worse = make(policy=Actor(0.25), best_dir=tmp_path / "best")
    worse.load_state_dict(checkpoint.load(tmp_path / "c"))
    result(worse, stub(frames=2))
    assert not (tmp_path / "best").exists()


# ------------------------------------------------------------------------- end


@pytest.mark.parametrize(("interval", "expected"), [(4, [4, 8, 10]), (5, [5, 10]), (0, [10])])
def test_the_final_policy_is_evaluated_once(
    make: Callable[..., Evaluate], made: list[Recorded], interval: int, expected: list[int]
) -> None:
    hook, trainer = make(episodes=1), make_trainer(total_frames=10)
    evaluated: list[int] = []
    evaluate = hook._evaluate
    hook._evaluate = lambda trainer: evaluated.append(trainer.frames) or evaluate(trainer)
    trainer.register_hook("post_steps", hook, when=every(interval))
    trainer.register_hook("shutdown", hook.final)
    trainer.train()
    assert evaluated == expected
    assert all(envs.closed for envs in made)


def test_a_run_that_will_go_on_has_no_final_evaluation(
    make: Callable[..., Evaluate], made: list[Recorded]
) -> None:
    hook, trainer = make(), make_trainer(total_frames=10)
    trainer.register_hook("shutdown", hook.final)
    trainer.register_hook("post_steps", lambda t, rollout: t.stop("SIGINT", interrupted=True))
    trainer.train()
    assert made == []


@pytest.mark.parametrize("complete", [True, False])
def test_the_last_policy_is_the_best_only_of_a_run_that_will_not_go_on(
    complete: bool, make: Callable[..., Evaluate], tmp_path: Path
) -> None:
    policy = Actor(0.25)
    hook, trainer = make(policy=policy, best_dir=tmp_path / "best"), stub(frames=1)
    hook(trainer, TensorDict())
    policy.action.data.fill_(0.5)
    trainer.advance()
    trainer.stop("enough", complete=complete)
    hook.final(trainer)
    assert checkpoint.load(tmp_path / "best")["frames"] == (2 if complete else 1)
