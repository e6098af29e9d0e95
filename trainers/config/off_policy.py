"""Keys of the algorithms that learn from a replay buffer, and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import number

MOST_NOISE = 100.0  # on actions in [-1, 1]: nobody means more, and float32 holds it


@dataclass(frozen=True)
class OffPolicyConfig(AlgoConfig):
    """What all of them have; `configs/algo/` says what each key is for."""

    gamma: float = number(0.99, ge=0, le=1)
    lr: float = number(3e-4, gt=0)
    max_grad_norm: float | None = number(None, gt=0)

    batch_size: int = number(256, ge=1)
    buffer_size: int = number(1_000_000, ge=1)
    storage: Literal["memory", "memmap", "device"] = "memory"
    init_random_frames: int = number(5_000, ge=0)
    utd_ratio: float = number(1.0, gt=0)

    prioritized: bool = False
    priority_alpha: float = number(0.6, ge=0, le=10)
    priority_beta: float = number(0.4, ge=0, le=1)
    priority_beta_end: float = number(1.0, ge=0, le=1)
    reduction: Literal["mean", "sum", "none"] = "mean"

    n_steps: int = number(1, ge=1)

    loss_module: str | None = None

    def has_schedule(self) -> bool:
        """Whether anything moves over the run's horizon, `total_frames`."""
        anneals = self.prioritized and self.priority_beta != self.priority_beta_end
        return super().has_schedule() or anneals

    def check(self) -> None:
        """A batch fits into the buffer; options fit together."""
        super().check()
        if self.batch_size > self.buffer_size:
            allowed = f"at most algo.buffer_size={self.buffer_size}"
            raise ConfigError("algo.batch_size", self.batch_size, allowed)
        if self.n_steps > self.buffer_size:
            allowed = f"at most algo.buffer_size={self.buffer_size}"
            raise ConfigError("algo.n_steps", self.n_steps, allowed)
        if self.reduction == "none" and not self.prioritized:
            hint = "none leaves the averaging to algo.prioritized=true"
            raise ConfigError("algo.reduction", "none", "mean or sum", hint)
        if not self.prioritized:
            keys = ("priority_alpha", "priority_beta", "priority_beta_end")
            self.refuse_unused(keys, "with algo.prioritized=false: there are no priorities")

    def check_envs(self, num_envs: int) -> None:
        """The buffer takes a rollout."""
        super().check_envs(num_envs)
        if (self.frames_per_batch or num_envs) > self.buffer_size:
            allowed = f"at least a rollout's {self.frames_per_batch or num_envs} frames"
            raise ConfigError("algo.buffer_size", self.buffer_size, allowed)


@dataclass(frozen=True)
class SlicesConfig(OffPolicyConfig):
    """Of those whose values may look along slices of episodes."""

    value_estimator: Literal["td0", "td1", "td_lambda"] = "td0"
    lmbda: float = number(0.95, gt=0, le=1)
    slice_length: int | None = number(None, ge=2)

    def check(self) -> None:
        """Slices go with the estimators that follow episodes over time, and make up a batch."""
        super().check()
        if self.value_estimator != "td_lambda":
            self.refuse_unused(["lmbda"], f"with algo.value_estimator={self.value_estimator}")
        if self.slice_length is None:
            if self.value_estimator != "td0":
                hint = f"algo.value_estimator={self.value_estimator} follows episodes over time"
                raise ConfigError("algo.slice_length", None, "a whole number at least 2", hint)
            return
        if self.value_estimator == "td0":
            allowed = "null with algo.value_estimator=td0, which looks at single transitions"
            raise ConfigError("algo.slice_length", self.slice_length, allowed)
        if self.batch_size % self.slice_length:
            allowed = f"a multiple of algo.slice_length={self.slice_length}"
            raise ConfigError("algo.batch_size", self.batch_size, allowed)
        if self.gamma * self.lmbda < 1e-6:  # TorchRL's TD(lambda) cannot be computed there
            allowed = "at least 1e-6 / algo.lmbda with algo.slice_length"
            raise ConfigError("algo.gamma", self.gamma, allowed)
        if self.n_steps > 1:
            raise ConfigError("algo.n_steps", self.n_steps, "1 with algo.slice_length")
        if self.prioritized:
            raise ConfigError("algo.prioritized", True, "false with algo.slice_length")

    def check_envs(self, num_envs: int) -> None:
        """The first update finds a slice of every environment, and the buffer keeps one."""
        super().check_envs(num_envs)
        if self.slice_length is None:
            return
        allowed = f"at least algo.slice_length * env.num_envs={self.slice_length * num_envs}"
        for key in ("init_random_frames", "buffer_size"):
            if getattr(self, key) < self.slice_length * num_envs:
                raise ConfigError(f"algo.{key}", getattr(self, key), allowed)


@dataclass(frozen=True)
class TargetsConfig(OffPolicyConfig):
    """Of those with target networks."""

    target_update: Literal["soft", "hard"] = "soft"
    tau: float = number(0.005, gt=0, le=1)
    target_update_interval: int = number(1, ge=1)

    @property
    def targets_interval(self) -> int:
        """Updates between two moves of the targets."""
        return self.target_update_interval

    def check(self) -> None:
        """Targets are there, and are other networks than those they follow."""
        super().check()
        delays = [name for name in self.__dataclass_fields__ if name.startswith("delay_")]
        if delays and not any(getattr(self, name) for name in delays):
            off = " and ".join(f"algo.{name}=false" for name in delays)
            keys = ("target_update", "tau", "target_update_interval")
            self.refuse_unused(keys, f"with {off}: there are no targets")
        if self.target_update == "hard" and self.targets_interval == 1:
            allowed = "above 1 with algo.target_update=hard: else the targets are no others"
            raise ConfigError("algo.target_update_interval", 1, allowed)


@dataclass(frozen=True)
class EntropyConfig(OffPolicyConfig):
    """Of those that are rewarded for the entropy of their policy, by a temperature alpha."""

    actor_lr: float | None = number(None, gt=0)
    critic_lr: float | None = number(None, gt=0)
    alpha_lr: float | None = number(None, gt=0)

    alpha_init: float = number(1.0, gt=0)
    min_alpha: float | None = number(None, gt=0)
    max_alpha: float | None = number(None, gt=0)
    fixed_alpha: bool = False
    target_entropy: Literal["auto"] | float = "auto"

    separate_losses: bool = False

    def check(self) -> None:
        """Alpha starts inside its bounds, and what teaches it is told of an alpha that learns."""
        super().check()
        low, high = self.min_alpha, self.max_alpha
        if low is not None and high is not None and low > high:
            raise ConfigError("algo.min_alpha", low, f"at most algo.max_alpha={high}")
        if low is not None and self.alpha_init < low:
            raise ConfigError("algo.alpha_init", self.alpha_init, f"at least algo.min_alpha={low}")
        if high is not None and self.alpha_init > high:
            raise ConfigError("algo.alpha_init", self.alpha_init, f"at most algo.max_alpha={high}")
        if self.fixed_alpha:
            keys = ("alpha_lr", "target_entropy", "min_alpha", "max_alpha")
            self.refuse_unused(keys, "with algo.fixed_alpha=true: alpha learns nothing")


@dataclass(frozen=True)
class NoiseConfig(OffPolicyConfig):
    """Of those whose policy draws nothing: noise on its actions explores, in collection only."""

    policy_draws: ClassVar[bool] = False

    noise: Literal["gaussian", "ornstein_uhlenbeck"] = "gaussian"
    exploration_noise: float = number(0.1, ge=0, le=MOST_NOISE)
    noise_theta: float = number(0.15, ge=0)
    noise_dt: float = number(0.01, gt=0)

    def check(self) -> None:
        """Noise that goes back to 0 does not go beyond it; other noise does not go back."""
        super().check()
        if self.noise == "gaussian":
            self.refuse_unused(("noise_theta", "noise_dt"), "with algo.noise=gaussian")
        elif self.noise_theta * self.noise_dt > 1.0:
            allowed = f"at most 1 / algo.noise_dt={1.0 / self.noise_dt:g}"
            raise ConfigError("algo.noise_theta", self.noise_theta, allowed)
