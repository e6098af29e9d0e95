"""The sections that every algorithm shares; `configs/train.yaml` says what each key is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from trainers.config.envpool import SAME_TASKS
from trainers.config.errors import ConfigError
from trainers.config.schema import Section, number

_NOT_OF_GAMES = {
    *("frameskip", "repeat_action_probability"),  # env.atari has them
    *("obs_type", "continuous", "sound_obs"),
}


@dataclass(frozen=True)
class AtariConfig(Section):
    """How a game of the Arcade Learning Environment is shown, and what is learnt from it."""

    section: ClassVar[str] = "env.atari"

    frame_skip: int = number(4, ge=1)
    max_no_ops: int = number(30, ge=0, le=1_000)
    fire: bool = True
    repeat_action_probability: float = number(0.0, ge=0, le=1)
    life_loss: bool = True
    clip_reward: bool = True


@dataclass(frozen=True)
class EnvConfig(Section):
    """Which environment, in which wrappers, how many of it, and what is done to its actions."""

    section: ClassVar[str] = "env"

    id: str
    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[str] = field(default_factory=list)
    num_envs: int = number(1, ge=1)
    backend: Literal["sync", "async", "envpool"] = "sync"
    worker_timeout_s: float = number(300.0, gt=0)
    worker_restarts: int = number(10, ge=0)
    max_episode_steps: int | None = number(None, ge=1)
    stagger: bool = True
    rescale_actions: bool = True
    clip_actions: bool = True
    atari: AtariConfig | None = None

    @property
    def is_game(self) -> bool:
        """Whether it is one of the Arcade Learning Environment."""
        return self.id.startswith("ALE/")

    def check(self) -> None:
        """Keys of games are for games; EnvPool has few environments, and takes them as they are."""
        if self.atari is not None:
            self._check_game()
        if self.backend != "envpool":
            return
        if self.id not in SAME_TASKS:
            allowed = f"one of {', '.join(SAME_TASKS)} with env.backend=envpool"
            hint = "env.backend=sync and env.backend=async take any"
            raise ConfigError("env.id", self.id, allowed, hint)
        if self.kwargs:
            allowed = "{} with env.backend=envpool, which is not made by Gymnasium"
            raise ConfigError("env.kwargs", self.kwargs, allowed)
        if self.wrappers:
            allowed = "[] with env.backend=envpool, which cannot be wrapped"
            raise ConfigError("env.wrappers", self.wrappers, allowed)

    def _check_game(self) -> None:
        if not self.is_game:
            allowed = "a game of the Arcade Learning Environment, like ALE/Pong-v5"
            raise ConfigError("env.id", self.id, allowed, "env=gym takes any environment")
        for key in self.kwargs.keys() & _NOT_OF_GAMES:
            allowed = "not to be given: env.atari says what is seen and done"
            raise ConfigError(f"env.kwargs.{key}", self.kwargs[key], allowed)

    def check_installed(self) -> None:
        """Raise `ConfigError` if what it is stepped by, an extra, is not there."""
        if self.is_game and find_spec("ale_py") is None:
            hint = "the extra atari brings it: pip install -c constraints.txt -e '.[atari]'"
            raise ConfigError("env.id", self.id, "an environment that is installed", hint)
        if self.backend == "envpool" and find_spec("envpool") is None:
            hint = "the extra envpool brings it: pip install -c constraints.txt -e '.[envpool]'"
            raise ConfigError("env.backend", "envpool", "a backend that is installed", hint)


@dataclass(frozen=True)
class CollectorConfig(Section):
    """How frames are collected."""

    section: ClassVar[str] = "collector"

    async_: bool = False


@dataclass(frozen=True)
class NetworkConfig(Section):
    """The multi-layer perceptrons that an algorithm makes if it is not given its own."""

    section: ClassVar[str] = "network"

    hidden: list[int] = field(
        default_factory=lambda: [256, 256], metadata={"ge": 1, "min_items": 1}
    )
    activation: Literal["relu", "tanh", "silu", "elu", "gelu", "leaky_relu"] = "relu"


@dataclass(frozen=True)
class LogConfig(Section):
    """How often a line of metrics is written, and what is in it."""

    section: ClassVar[str] = "log"

    interval: int = number(1_000, ge=0)
    episodes: bool = True
    losses: bool = True
    reward: bool = True
    done_rate: bool = True
    norms: bool = True
    update_ratio: bool = True
    grad_norm: bool = False
    lr: bool = True
    timings: bool = False


@dataclass(frozen=True)
class EvalConfig(Section):
    """How often the policy is evaluated, and how."""

    section: ClassVar[str] = "eval"

    interval: int = number(5_000, ge=0)
    episodes: int = number(10, ge=1)
    seed: int = number(10_000, ge=0, le=2**32 - 1)
    deterministic: bool = True
    video: bool = False

    def check_installed(self) -> None:
        """Raise `ConfigError` if films are wanted whose packages, an extra, are not there."""
        if self.video:
            check_can_film(self.key("video"))


def check_can_film(key: str) -> None:
    """Raise `ConfigError`, which names `key`, unless films can be written."""
    if find_spec("av") is None:
        allowed = "false: PyAV, which writes films, is not installed"
        hint = "the extra video brings it: pip install -c constraints.txt -e '.[video]'"
        raise ConfigError(key, True, allowed, hint)


@dataclass(frozen=True)
class ReportConfig(Section):
    """How often `report.html` in the run directory is made anew."""

    section: ClassVar[str] = "report"

    interval_s: float = number(60.0, ge=0)


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """How often the run is saved, and how much of it stays on disk."""

    section: ClassVar[str] = "checkpoint"

    interval: int = number(25_000, ge=0)
    keep: int = number(2, ge=1)
    best: bool = True


@dataclass(frozen=True)
class EarlyStopConfig(Section):
    """On which metric a run ends before its last frame; without one it never does."""

    section: ClassVar[str] = "early_stop"

    metric: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    patience: int | None = number(None, ge=1)

    def check(self) -> None:
        """A metric and a condition on it belong together; better is either higher or lower."""
        conditions = {
            "early_stop.at_least": self.at_least,
            "early_stop.at_most": self.at_most,
            "early_stop.patience": self.patience,
        }
        given = [key for key, value in conditions.items() if value is not None]
        if self.metric is not None and not given:
            allowed = f"null, or one of {', '.join(conditions)} along with it"
            raise ConfigError("early_stop.metric", self.metric, allowed)
        if self.metric is None and given:
            allowed = f"the name of a metric, e.g. eval/episode_return, along with {given[0]}"
            raise ConfigError("early_stop.metric", None, allowed, f"or add {given[0]}=null")
        if self.at_least is not None and self.at_most is not None:
            hint = "the one says that higher is better, the other that lower is"
            allowed = f"null with early_stop.at_least={self.at_least}"
            raise ConfigError("early_stop.at_most", self.at_most, allowed, hint)


@dataclass(frozen=True)
class WandbConfig(Section):
    """Weights & Biases, on top of `metrics.jsonl`."""

    section: ClassVar[str] = "logger.wandb"

    project: str = "trainers"
    entity: str | None = None
    group: str | None = None
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: Literal["auto", "online", "offline"] = "auto"


@dataclass(frozen=True)
class LoggerConfig(Section):
    """Loggers on top of `metrics.jsonl`, which is always written; false or None is off."""

    section: ClassVar[str] = "logger"

    tensorboard: bool = False
    wandb: WandbConfig | None = None

    def check_installed(self) -> None:
        """Raise `ConfigError` if a logger was chosen whose package is an extra and not there."""
        if self.tensorboard and find_spec("tensorboard") is None:
            allowed = "a logger whose package is installed"
            hint = "the extra trainers[tensorboard] brings it: pip install -e '.[tensorboard]'"
            raise ConfigError("logger", "tensorboard", allowed, hint)
