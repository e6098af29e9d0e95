"""What is measured, and when a line of it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from trainers.arrays import as_array, as_tensor, on_host
from trainers.loggers import Logger, ResumableLogger, StartedLogger
from trainers.metrics import STATISTICS
from trainers.saving.restoring import Continuity, How, restored
from trainers.timetable import every
from trainers.trainer import Trainer

Key = str | tuple[str, ...]


def norm(values: Tensor) -> Tensor:
    """Euclidean norm of every vector in the last dimension."""
    if not on_host(values):
        return torch.linalg.vector_norm(values, dim=-1)
    array = as_array(values).astype(np.float32, copy=False)
    return as_tensor(np.sqrt(np.add.reduce(array * array, -1)))


class LogScalar:
    """Logs an entry of the stage's data: of the rollout, the batch or the losses.

    Args:
        key: the entry, e.g. ``("next", "reward")``.
        name: its name in the metrics, e.g. ``train/reward``.
        statistics: any of ``mean``, ``min``, ``max``, ``std``, over all values since the last line.
        of: applied to the entry first, e.g. :func:`norm`.

    Raises:
        ValueError: a statistic is unknown.
        KeyError: when called, the entry is not there.
    """

    def __init__(
        self,
        key: Key,
        name: str | None = None,
        statistics: Sequence[str] = ("mean",),
        of: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if unknown := set(statistics) - set(STATISTICS):
            raise ValueError(f"unknown statistics {sorted(unknown)}; allowed: {STATISTICS}")
        self.key = key
        self.name = name or ("train/" + (key if isinstance(key, str) else "_".join(key)))
        self.statistics = tuple(statistics)
        self.of = of

    def __call__(self, trainer: Trainer, *data: TensorDictBase) -> None:
        for source in reversed(data):
            value = source.get(self.key, None)
            if value is not None:
                value = self.of(value) if self.of else value
                trainer.metrics.add(self.name, value, self.statistics)
                return
        known = [list(source.keys(True, True)) for source in data]
        raise KeyError(f"LogScalar finds no entry {self.key!r}; there are {known}")


class LogLosses:
    """Logs all scalars of the loss, averaged over all updates of a line; at ``post_optim``.

    ``loss_actor`` becomes ``loss/actor``, ``loss`` becomes ``loss/total``, a part of a loss like
    ``qvalue_0`` (of ``loss_qvalue``) ``loss/qvalue_0``, any other scalar (``alpha``)
    ``train/alpha``.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        scalars = {}
        for key, value in losses.items():
            if value.numel() == 1:
                if key not in self._names:
                    self._names[key] = _name(key, losses)
                scalars[self._names[key]] = value
        trainer.metrics.add_scalars(scalars)


def _name(key: str, losses: TensorDictBase) -> str:
    if key == "loss":
        return "loss/total"
    if key.startswith("loss_"):
        return "loss/" + key.removeprefix("loss_")
    part_of, _, number = key.rpartition("_")
    is_part = number.isdigit() and losses.get(f"loss_{part_of}", None) is not None
    if key == "kl_approx" and losses.get("kl", None) is None:
        key = "kl"  # what it stands for, unless the loss knows the exact one
    return f"loss/{key}" if is_part else f"train/{key}"


class LogEpisodes:
    """Logs return and length of every finished episode, over all rollouts; at ``post_collect``.

    Of games it is the score of whole ones: ``("next", "game_score")``, ``("next", "game_over")``.
    Where rollouts have ``("next", "success")``, the share of episodes whose last step has it true
    is logged as well.

    Works with any collector whose rollouts are ``[T]`` or ``[num_envs, T]``: the sums of episodes
    that a rollout cuts through are kept, and saved with the run. First episodes that the collector
    cuts short, so that they do not all end together, are left out.
    """

    name = "episodes"

    def __init__(self) -> None:
        self._returns = np.zeros(0)
        self._lengths = np.zeros(0, dtype=np.int64)
        self._skipped = np.zeros(0, dtype=bool)  # open episodes that a collector cuts short
        self._continuity = Continuity()

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        steps = rollout.batch_size[-1]
        frames: Any = rollout["next"]
        following = dict(frames.items())  # asked several times: quicker than a TensorDict
        reward_key, done_key = "reward", "done"
        if "game_score" in following:
            reward_key, done_key = "game_score", "game_over"
        rewards = following[reward_key].cpu().numpy().reshape(-1, steps).astype(np.float64)
        dones = following[done_key].cpu().numpy().reshape(-1, steps)
        successes = following.get("success")
        if successes is not None:
            successes = successes.reshape(-1, steps).cpu().numpy()
        broken = self._continuity.is_broken(trainer.collector)
        if broken or len(self._returns) != len(rewards):
            first = trainer.frames == rollout.numel()
            cut = getattr(trainer.collector, "cuts_first", None) if first else None
            self._skipped = np.zeros(len(rewards), dtype=bool) if cut is None else cut.copy()
            self._returns = np.zeros(len(rewards))
            self._lengths = np.zeros(len(rewards), dtype=np.int64)
        if not dones.any():
            self._returns += rewards.sum(1)
            self._lengths += steps
            return
        for env, ends in enumerate(dones):
            begin = 0
            for last in np.flatnonzero(ends):
                self._add(env, rewards[env, begin : last + 1])
                self._finish(trainer, env, None if successes is None else successes[env, last])
                begin = last + 1
            self._add(env, rewards[env, begin:])

    def _add(self, env: int, rewards: np.ndarray) -> None:
        self._returns[env] += rewards.sum()
        self._lengths[env] += len(rewards)

    def _finish(self, trainer: Trainer, env: int, success: bool | None) -> None:
        if not self._skipped[env]:
            trainer.metrics.add("train/episode_return", float(self._returns[env]))
            trainer.metrics.add("train/episode_length", float(self._lengths[env]))
            if success is not None:
                trainer.metrics.add("train/success_rate", float(success))
        self._skipped[env] = self._returns[env] = self._lengths[env] = 0

    def state_dict(self) -> dict[str, Any]:
        """Sums of the open episodes."""
        return {
            "returns": self._returns,
            "lengths": self._lengths,
            "skipped": self._skipped.astype(np.int64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; of use only if the collector goes on where it was."""
        self._continuity.resumed()
        self._returns, self._lengths = (np.asarray(state[k]).copy() for k in ("returns", "lengths"))
        self._skipped = np.asarray(state["skipped"]).astype(bool)


class LogLearningRates:
    """Logs the learning rate of every parameter group; at ``post_steps``."""

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        optimizers = [optimizer for phase in trainer.phases for optimizer in phase.optimizers]
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for index, group in enumerate(groups):
            trainer.metrics.set(f"train/lr/{group.get('name', index)}", float(group["lr"]))


class LogSimulatorFrames:
    """Logs the frames of a simulator that holds every action for several; at ``post_steps``."""

    def __init__(self, frame_skip: int) -> None:
        self.frame_skip = frame_skip

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        trainer.metrics.set("train/simulator_frames", float(self.frame_skip * trainer.frames))


class LogTimings:
    """Logs the seconds of an iteration: of collecting, and of the updates that follow.

    Register :meth:`start` at ``setup`` and, last, at ``checkpoint``; :meth:`collected` at
    ``post_collect`` and :meth:`updated` at ``post_steps``, before the evaluation. It reads the
    host's clock and waits for no device: what that still has to do counts where it is waited for.
    """

    name = "timings"

    def __init__(self) -> None:
        self._last = 0.0

    def start(self, trainer: Trainer) -> None:
        """An iteration begins."""
        self._last = time.perf_counter()

    def collected(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Frames are there and stored."""
        self._lap(trainer, "time/collect_s")

    def updated(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """The updates due are made."""
        self._lap(trainer, "time/update_s")

    def _lap(self, trainer: Trainer, name: str) -> None:
        last, self._last = self._last, time.perf_counter()
        trainer.metrics.add(name, self._last - last)


class LogUpdateRatio:
    """Logs the updates made for every frame after the warm-up; at ``post_steps``."""

    def __init__(self, init_random_frames: int = 0) -> None:
        self.init_random_frames = init_random_frames

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        frames = trainer.frames - self.init_random_frames
        if frames > 0:
            trainer.metrics.set("train/update_ratio", trainer.updates / frames)


class WriteMetrics:
    """Writes a line to every logger; the last of the ``post_steps`` hooks.

    A line is due when the clock crosses a multiple of ``interval`` and whenever another hook says
    so (an evaluation). :meth:`start` belongs at ``setup``, :meth:`finish` at ``shutdown``.
    """

    name = "metrics"

    def __init__(self, loggers: Sequence[Logger], interval: int) -> None:
        self.loggers = list(loggers)
        self.last_line: dict[str, float] = {}
        self.restored: tuple[How, str] = ("exact", "")
        self._crossed = every(interval)
        self._window: dict[str, float] = {"frames": 0, "updates": 0, "seconds": 0.0}

    def start(self, trainer: Trainer) -> None:
        """Have the logs go on behind the last line that counts, and drop what is after it."""
        for log in self.loggers:
            if isinstance(log, StartedLogger):
                log.start()

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        if self._crossed(trainer) or trainer.metrics.line_due:
            self._write(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Write what is left, unless the run was cut short and will go on; close the loggers."""
        news = trainer.metrics.line_due or trainer.frames > self._window["frames"]
        if news and not trainer.interrupted:
            self._write(trainer)
        for log in self.loggers:
            log.close()

    def _write(self, trainer: Trainer) -> None:
        now: dict[str, float] = {
            "frames": trainer.frames,
            "updates": trainer.updates,
            "seconds": trainer.stopwatch.training_seconds,
        }
        passed = {key: value - self._window[key] for key, value in now.items()}
        self._window = now
        line: dict[str, float] = {"frames": trainer.frames, "updates": trainer.updates}
        line["seconds"] = round(trainer.stopwatch.seconds, 3)
        line.update(trainer.metrics.flush())
        if passed["seconds"] > 0 and passed["frames"] > 0:  # else only an evaluation has passed
            line["time/frames_per_s"] = passed["frames"] / passed["seconds"]
            line["time/updates_per_s"] = passed["updates"] / passed["seconds"]
        self.last_line = line
        for log in self.loggers:
            log.write(line)

    def state_dict(self) -> dict[str, Any]:
        """Start of the open line, and where each log ends."""
        logs = {type(log).__name__: log.state_dict() for log in self._resumable()}
        return {"window": dict(self._window), "logs": logs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; :meth:`start` drops what was written after the checkpoint."""
        self._window = dict(state["window"])
        self.restored = ("exact", "")
        for log in self._resumable():
            if type(log).__name__ in state["logs"]:
                log.load_state_dict(state["logs"][type(log).__name__])
                told = restored("log", log)
                if told.how != "exact":
                    self.restored = (told.how, told.why)

    def _resumable(self) -> list[ResumableLogger]:
        return [log for log in self.loggers if isinstance(log, ResumableLogger)]
