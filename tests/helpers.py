"""Small things that the tests train, and train in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from trainers.build import build
from trainers.config import (
    A2CConfig,
    C51Config,
    CheckpointConfig,
    DQNConfig,
    EnvConfig,
    EvalConfig,
    LogConfig,
    NetworkConfig,
    PPOConfig,
    ReinforceConfig,
    SACConfig,
    TrainConfig,
)
from trainers.hooks import LogEpisodes, LogLearningRates, LogLosses, LogScalar, WriteMetrics
from trainers.metrics import Metrics, Stopwatch
from trainers.saving.segments import Rows
from trainers.stages import Stage
from trainers.trainer import Trainer


class Rollouts:
    """A collector of made-up rollouts ``[num_envs, steps]``; observations number the frames."""

    def __init__(self, num_envs: int = 1, steps: int = 1, end: int | None = None) -> None:
        self.batch_size = [num_envs, steps]
        self.end = end
        self.rollouts = 0
        self.closed = False

    def __iter__(self) -> Iterator[TensorDictBase]:
        while self.end is None or self.rollouts < self.end:
            yield self.rollout()

    def rollout(self) -> TensorDict:
        frames = self.batch_size[0] * self.batch_size[1]
        first = self.rollouts * frames
        self.rollouts += 1
        observation = torch.arange(first, first + frames).float().reshape(*self.batch_size, 1)
        false = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        following = {
            "observation": observation + 1,
            "reward": observation,
            "done": false,
            "terminated": false.clone(),
        }
        return TensorDict(
            {"observation": observation, "next": TensorDict(following, self.batch_size)},
            self.batch_size,
        )

    def state_dict(self) -> dict[str, int]:
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.rollouts = state["rollouts"]

    def shutdown(self) -> None:
        self.closed = True


class Constant(nn.Module):
    """A loss with one parameter, which learns the mean of the rewards."""

    def __init__(self) -> None:
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(1))

    def forward(self, batch: TensorDictBase) -> TensorDict:
        error = batch["next", "reward"] - self.guess
        return TensorDict({"loss_fit": error.square().mean(), "guess": self.guess.mean()})


def make_trainer(
    loss: Any = None, collector: Any = None, total_frames: int = 10, lr: float = 0.1, **given: Any
) -> Trainer:
    """A trainer of `Constant` on `Rollouts`, unless told otherwise."""
    loss = Constant() if loss is None else loss
    return Trainer(
        collector=Rollouts() if collector is None else collector,
        loss_module=loss,
        optimizer=torch.optim.SGD(loss.parameters(), lr=lr),
        total_frames=total_frames,
        **given,
    )


class StubTrainer:
    """What a hook may look at, without a loop."""

    def __init__(self, frames: int = 0, updates: int = 0, total_frames: int = 100) -> None:
        self.frames = frames
        self.updates = updates
        self.total_frames = total_frames
        self.stop_at: int | None = None
        self.iteration_start = 0
        self.interrupted = False
        self.stop_reason: str | None = None
        self.goal_reached = False
        self.collector = SimpleNamespace(restored=("exact", ""))
        self.metrics = Metrics()
        self.stopwatch = Stopwatch()
        self.phases: list[Any] = []
        self.saved: list[Path] = []

    @property
    def clock(self) -> int:
        return self.frames

    @property
    def end(self) -> int:
        return min(self.total_frames, self.stop_at or self.total_frames)

    @property
    def progress(self) -> float:
        return self.frames / self.total_frames

    @property
    def complete(self) -> bool:
        return self.goal_reached or self.frames >= self.total_frames

    def stop(self, reason: str, interrupted: bool = False, complete: bool = False) -> None:
        self.stop_reason = self.stop_reason or reason
        self.interrupted |= interrupted
        self.goal_reached |= complete

    def advance(self, frames: int = 1, updates: int = 0) -> None:
        """An iteration later."""
        self.iteration_start = self.frames
        self.frames += frames
        self.updates += updates

    def save(self, path: Path, previous: Path | None = None) -> None:
        path.mkdir(parents=True)
        self.saved.append(path)


def stub(**given: int) -> Any:
    """A `StubTrainer`; typed as anything, so that hooks take it."""
    return StubTrainer(**given)


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.closed = 0

    def write(self, line: Any) -> None:
        self.lines.append(dict(line))

    def close(self) -> None:
        self.closed += 1


ALL_ENDS = ("terminated", "truncated", "both")


class Tale(gym.Env):
    """Its observations tell what happened: ``[episode, step, seed // 2**16, seed % 2**16]``.

    An episode's seed picks one of ``lengths``, its number one of ``ends`` (`how_it_ends`). The
    reward is ``action[0] + 100 * action[1] + ...``. From step ``broken_at`` on, in the episode with
    the seed ``broken_seed`` (default all), ``broken`` is not finite, or raises.
    """

    def __init__(
        self,
        lengths: tuple[int, ...] = (3,),
        ends: tuple[str, ...] = ALL_ENDS,
        broken: str | None = None,
        broken_at: int = 2,
        broken_seed: int | None = None,
        low: tuple[float, ...] = (-1.0,),
        high: tuple[float, ...] = (1.0,),
    ) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gym.spaces.Box(np.float32(low), np.float32(high))
        self.lengths, self.ends = lengths, ends
        self.broken, self.broken_at, self.broken_seed = broken, broken_at, broken_seed
        self.episode = -1
        self.seed = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode += 1
        self.seed = seed or 0
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        length, end = how_it_ends(self.episode, self.seed, self.lengths, self.ends)
        end = end if self.step_number == length else ""
        reward = float(np.dot(action, 100.0 ** np.arange(len(action))))
        if self._breaks("reward"):
            reward = 1e300  # infinite in float32
        if self._breaks("nan reward"):
            reward = np.nan
        if self._breaks("exception"):
            raise RuntimeError("the simulator gave up")
        terminated, truncated = end in ("terminated", "both"), end in ("truncated", "both")
        return self._observation(), reward, terminated, truncated, {}

    def _observation(self) -> np.ndarray:
        high, low = divmod(self.seed, 2**16)
        observation = np.array([self.episode, self.step_number, high, low], dtype=np.float64)
        if self._breaks("observation"):
            observation[1] = np.nan
        return observation

    def _breaks(self, what: str) -> bool:
        here = self.broken_seed in (None, self.seed) and self.step_number >= self.broken_at
        return here and self.broken == what


def how_it_ends(
    episode: int, seed: int, lengths: Sequence[int], ends: Sequence[str]
) -> tuple[int, str]:
    """Length and end of an episode of `Tale`."""
    return lengths[seed % len(lengths)], ends[episode % len(ends)]


def tale_seed(observation: Tensor) -> int:
    """The seed that an observation of `Tale` tells."""
    return int(observation[-2]) * 2**16 + int(observation[-1])


class Spaces(gym.Env):
    """An environment with any two spaces; an episode lasts four steps."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 4, False, {}


class Goal(gym.Env):
    """A point walks for `length` steps; it succeeds where it ends above its goal.

    It tells so in every step, at the `end`, at a `success`, or `never`. An observation has the
    achieved goal (2 numbers), the desired one (2), and a nested part: the action before (2) and
    the number of the step, modulo 3.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, reports: str = "always", length: int = 4) -> None:
        vector = gym.spaces.Box(-np.inf, np.inf, (2,))
        inner = gym.spaces.Tuple([vector, gym.spaces.Discrete(3)])
        goals = {"desired_goal": vector, "achieved_goal": vector}
        self.observation_space = gym.spaces.Dict({"observation": inner, **goals})
        self.reports, self.length = reports, length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.step_number = 0
        self.position, self.action = np.zeros(2, np.float32), np.zeros(2, np.float32)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.step_number += 1
        self.action = action
        self.position = self.position + action
        done = self.step_number == self.length
        success = bool((self.position > self.goal).all())
        tells = {"always": True, "end": done, "success": success, "never": False}[self.reports]
        info = {"is_success": success} if tells else {}
        return self._observation(), float(success), False, done, info

    def _observation(self) -> dict[str, Any]:
        return {
            "observation": (self.action, self.step_number % 3),
            "achieved_goal": self.position,
            "desired_goal": self.goal,
        }


class Screen(Tale):
    """A `Tale` whose picture gets brighter with every step, by 16; 31 x 49, 60 steps a second."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012  # Gymnasium's way

    def __init__(self, render_mode: str | None = None, **given: Any) -> None:
        super().__init__(**given)
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        assert self.render_mode == "rgb_array"
        return np.full((31, 49, 3), 16 * self.step_number, np.uint8)


gym.register("tests/Tale-v0", Tale, disable_env_checker=True)
gym.register("tests/Screen-v0", Screen, disable_env_checker=True)
gym.register("tests/Goal-v0", Goal, disable_env_checker=True)


def register_spaces(name: str, observation_space: gym.Space, action_space: gym.Space) -> str:
    """Register an environment with these spaces; its id."""
    env_id = f"tests/{name}-v0"
    gym.registry.pop(env_id, None)
    gym.register(env_id, lambda: Spaces(observation_space, action_space), disable_env_checker=True)
    return env_id


def env_config(env_id: str = "tests/Tale-v0", **given: Any) -> EnvConfig:
    """The configuration of an environment."""
    return EnvConfig(id=env_id, name="tests", **given)


def tiny_off_policy(
    config_class: Any,
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 40,
    **given: Any,
) -> TrainConfig:
    """An algorithm with networks of eight units on Pendulum: trains for a fraction of a second."""
    settings: dict[str, Any] = {"batch_size": 8, "buffer_size": 1_000, "init_random_frames": 10}
    sections: dict[str, Any] = {
        "network": NetworkConfig(hidden=[8]),
        "log": LogConfig(interval=10),
        "eval": EvalConfig(interval=0, episodes=1),
        "checkpoint": CheckpointConfig(interval=0),
        "progress": False,
        "device": "cpu",
    }
    return TrainConfig(
        algo=config_class(**(settings | (algo or {}))),
        env=env or env_config("Pendulum-v1"),
        total_frames=total_frames,
        **(sections | given),
    )


def tiny_sac(
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 40,
    **given: Any,
) -> TrainConfig:
    """SAC, as :func:`tiny_off_policy`."""
    return tiny_off_policy(SACConfig, env, algo, total_frames, **given)


def tiny_ppo(
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 48,
    **given: Any,
) -> TrainConfig:
    """PPO with networks of eight units on Pendulum: two epochs of two minibatches, three times."""
    settings: dict[str, Any] = {"frames_per_batch": 16, "minibatch_size": 8, "num_epochs": 2}
    return _tiny_on_policy(PPOConfig(**(settings | (algo or {}))), env, total_frames, given)


def tiny_a2c(
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 48,
    **given: Any,
) -> TrainConfig:
    """A2C likewise: one update on each of three rollouts."""
    config = A2CConfig(**({"frames_per_batch": 16} | (algo or {})))
    return _tiny_on_policy(config, env, total_frames, given)


def tiny_reinforce(
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 48,
    **given: Any,
) -> TrainConfig:
    """REINFORCE likewise; without a baseline only where episodes are shorter than that."""
    config = ReinforceConfig(**({"frames_per_batch": 16} | (algo or {})))
    return _tiny_on_policy(config, env, total_frames, given)


def _tiny_on_policy(
    algo: Any, env: EnvConfig | None, total_frames: int, given: dict[str, Any]
) -> TrainConfig:
    sections: dict[str, Any] = {
        "network": NetworkConfig(hidden=[8], activation="tanh"),
        "log": LogConfig(interval=10),
        "eval": EvalConfig(interval=0, episodes=1),
        "checkpoint": CheckpointConfig(interval=0),
        "progress": False,
        "device": "cpu",
    }
    return TrainConfig(
        algo=algo,
        env=env or env_config("Pendulum-v1"),
        total_frames=total_frames,
        **(sections | given),
    )


def tiny_dqn(
    env: EnvConfig | None = None,
    algo: dict[str, Any] | None = None,
    total_frames: int = 40,
    kind: Any = DQNConfig,
    **given: Any,
) -> TrainConfig:
    """DQN with networks of eight units on CartPole: trains for a fraction of a second."""
    settings = {"batch_size": 8, "buffer_size": 1_000, "init_random_frames": 10} | (algo or {})
    config = tiny_sac(env or env_config("CartPole-v1"), total_frames=total_frames, **given)
    return replace(config, algo=kind(**settings))


def tiny_c51(
    env: EnvConfig | None = None, algo: dict[str, Any] | None = None, **given: Any
) -> TrainConfig:
    """C51 likewise, on seven atoms."""
    settings = {"num_atoms": 7, "v_min": 0.0, "v_max": 100.0} | (algo or {})
    return tiny_dqn(env, settings, kind=C51Config, **given)


def slow_advantage(
    rollout: TensorDictBase, value: Any, kind: str, gamma: float, lmbda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets ``[num_envs, T, 1]``, one frame at a time.

    ``value`` is asked for the value of one observation at a time. Where an episode or the rollout
    ends, and nothing has terminated, the value of its own last observation stands for the rest.
    """
    advantages, targets = (torch.zeros(*rollout.batch_size, 1) for _ in range(2))
    num_envs, steps = rollout.batch_size
    for env in range(num_envs):
        following = 0.0  # the next frame's advantage, or its target
        for step in reversed(range(steps)):
            frame = rollout[env, step]
            reward = float(frame["next", "reward"])
            here, there = (
                float(value(o).detach())
                for o in (frame["observation"], frame["next", "observation"])
            )
            if frame["next", "terminated"]:
                there = 0.0
            cut = bool(frame["next", "done"]) or step == steps - 1
            if kind == "gae":
                error = reward + gamma * there - here
                advantage = error + (0.0 if cut else gamma * lmbda * following)
                target, following = advantage + here, advantage
            else:
                weight = {"td0": 0.0, "td1": 1.0, "td_lambda": lmbda}[kind]
                rest = there if cut else (1 - weight) * there + weight * following
                target = following = reward + gamma * rest
                advantage = target - here
            advantages[env, step], targets[env, step] = advantage, target
    return advantages, targets


def flat(state: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a nested state by their paths."""
    if isinstance(state, Rows):
        state = {"first": state.first, "end": state.end, **state.tables()}
    if isinstance(state, dict):
        items: Any = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)
    else:
        return {path: state}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flat(value, f"{path}/{key}")
    return leaves


def assert_same(left: Any, right: Any, ignoring: tuple[str, ...] = ()) -> None:
    """Both states are equal, bit for bit, tensors and arrays with their type."""
    one, two = flat(left), flat(right)
    assert one.keys() == two.keys()
    for path, value in one.items():
        if any(part in path for part in ignoring):
            continue
        other = two[path]
        if isinstance(value, (Tensor, np.ndarray)):
            value, other = torch.as_tensor(value), torch.as_tensor(other)
            assert value.dtype == other.dtype, path
            assert value.shape == other.shape, path
            assert torch.equal(value, other), path
        else:
            assert value == other, path


def sac_loss(trainer: Trainer) -> Any:
    """The loss module of a trainer with one phase."""
    return cast(Any, trainer.phases[0].loss)


def owner(trainer: Trainer, kind: type) -> Any:
    """The trainer's hook of this kind; None if there is none."""
    owners = [owner for owner in trainer.timetable._owners.values() if isinstance(owner, kind)]
    return owners[0] if owners else None


def watched(config: TrainConfig) -> tuple[Trainer, Lines]:
    """A trainer that writes its lines, and they."""
    trainer, lines = build(config).trainer, Lines()
    trainer.register_hook(Stage.POST_COLLECT, LogEpisodes())
    trainer.register_hook(Stage.POST_COLLECT, LogScalar(("next", "reward"), "train/reward"))
    trainer.register_hook(Stage.POST_OPTIM, LogLosses())
    trainer.register_hook(Stage.POST_STEPS, LogLearningRates())
    writer = WriteMetrics([lines], interval=7)
    trainer.register_hook(Stage.POST_STEPS, writer)
    trainer.register_hook(Stage.SHUTDOWN, writer.finish)
    return trainer, lines


def timeless(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Lines without what the wall clock had a part in."""
    return [
        {k: v for k, v in line.items() if k != "seconds" and not k.startswith("time/")}
        for line in lines
    ]
