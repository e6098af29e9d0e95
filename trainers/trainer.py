"""The generic trainer: a loop with named stages, and nothing else.

What an algorithm does lives in its hooks (:mod:`trainers.hooks`), when it does it in its timetable
(:mod:`trainers.algorithms`). The order of the loop is the docstring of :class:`~trainers.Stage`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from trainers import seeding
from trainers.capture import CapturedUpdates, obstacle
from trainers.collection.rollouts import check_shapes, check_values, rollout_from, rollout_state
from trainers.errors import NonFiniteError
from trainers.metrics import Metrics, Stopwatch
from trainers.phases import Loss, Phase
from trainers.saving import checkpoint
from trainers.saving.finite import refuse_non_finite
from trainers.saving.restoring import Restored, changed, copied, report, restored, surroundings
from trainers.signals import AtOnce
from trainers.stages import Stage
from trainers.tensordicts import tensordict_of
from trainers.timetable import Hook, Timetable, When
from trainers.updates import Epochs, Updates

logger = logging.getLogger("trainers")

_CLOCK = ("frames", "updates", "epoch", "updates_in_epoch", "iteration_start")


class Trainer:
    """Runs the loop of :class:`Stage` over a collector, a loss and its optimizer.

    Args:
        collector: an iterable of rollouts (TensorDicts of frames, ``("next", ...)`` layout); a
            TorchRL collector or :class:`~trainers.collection.collectors.GymCollector`.
        loss_module: a TorchRL loss or any callable ``TensorDict -> TensorDict`` that returns scalar
            ``loss_*`` entries. With ``optimizer`` short for ``phases=[Phase(loss, optimizer)]``.
        optimizer: one torch optimizer, or several that step together.
        phases: several losses taken in turn in an update.
        total_frames: end of the run in frames, and the horizon of every schedule.
        update_plan: how many updates an iteration owes; one per rollout by default.

    Attributes:
        frames: agent steps collected, over all environments and resumes.
        updates: optimizer updates made.
        phase: the one under way, at ``post_loss`` and ``post_backward``.
        metrics: where hooks leave numbers for the loggers.
        capture: whether updates on a GPU become CUDA graphs, where every part of them allows it.
        stop_at: ends the run early (in frames) without touching any schedule.
        restored: what the last :meth:`load_state_dict` made of each component.
    """

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Loss | None = None,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        phases: Sequence[Phase] = (),
        total_frames: int,
        update_plan: Updates | None = None,
    ) -> None:
        if phases and (loss_module is not None or optimizer is not None):
            raise TypeError("give either phases or a loss_module with its optimizer, not both")
        if total_frames < 1:
            raise ValueError(f"total_frames must be at least 1, got {total_frames}")
        self.collector = collector
        self.phases = list(phases) or [Phase(loss_module, optimizer)]  # type: ignore[arg-type]  # Phase refuses None with a clear error
        for number, phase in enumerate(self.phases):
            phase.keeps_loss = all(phase.loss is not other.loss for other in self.phases[:number])
            phase.name = (phase.name or str(number)) if len(self.phases) > 1 else ""
        self.phase = self.phases[0]
        self.total_frames = total_frames
        self.update_plan: Updates = update_plan or Epochs()
        self.stop_at: int | None = None
        self.capture = True

        self.frames = 0
        self.updates = 0
        self.epoch = 0
        self.updates_in_epoch = 0
        self.iteration_start = 0
        self.metrics = Metrics()
        self.stopwatch = Stopwatch()
        self.stop_reason: str | None = None
        self.interrupted = False
        self.restored: list[Restored] = []

        self._goal_reached = False
        self._rollout: TensorDictBase | None = None
        self._last_collector_state: dict[str, Any] | None = None
        self._end_epochs = False
        self._end_was_seen = False
        self._captured: CapturedUpdates | None = None
        self.timetable = Timetable()

    # ------------------------------------------------------------------ hooks

    def register_hook(
        self,
        stage: Stage | str,
        hook: Hook,
        name: str | None = None,
        when: When | None = None,
    ) -> None:
        """Call ``hook(trainer, *data)`` at ``stage``, and save its owner's state with the run.

        The owner is the object a bound method belongs to, else the hook itself; where it has
        ``state_dict`` and ``load_state_dict`` they go into every checkpoint under ``name``.

        Args:
            stage: a :class:`Stage` or its name.
            hook: called after those registered before it at this stage.
            name: default: the owner's ``name``, else its class or function name.
            when: the hook is skipped unless ``when(trainer)`` is true, e.g. ``every(25_000)``.

        Raises:
            ValueError: the stage is unknown, or the name belongs to another object.
            TypeError: the hook cannot take the arguments of its stage.
        """
        self.timetable.register(stage, hook, name, when)

    def _fire(self, stage: Stage, *data: Any) -> Any:
        return self.timetable.fire(self, stage, *data)

    def __str__(self) -> str:
        return f"{type(self).__name__}\n{self.timetable}"

    # ------------------------------------------------------------------ clock

    @property
    def clock(self) -> int:
        """The unit of every interval and schedule: frames."""
        return self.frames

    @property
    def end(self) -> int:
        """The clock's value at which the run ends: ``stop_at`` or the horizon."""
        return min(self.total_frames, self.stop_at or self.total_frames)

    @property
    def progress(self) -> float:
        """Share of the horizon that lay behind this iteration, 0 to 1; schedules depend on it."""
        return min(1.0, self.iteration_start / self.total_frames)

    @property
    def rollout_frames(self) -> int:
        """Frames of the rollout that is learnt from: a hook may have made it a smaller one."""
        return 0 if self._rollout is None else self._rollout.batch_size.numel()

    @property
    def finished(self) -> bool:
        """The clock has reached the end of the run (or ``stop_at``) and no update is owed."""
        return self.clock >= self.end and self._rollout is None

    @property
    def ending(self) -> bool:
        """No further iteration will follow."""
        return self.finished or self.stop_reason is not None

    @property
    def complete(self) -> bool:
        """The run is at its horizon, or has reached its goal: it is not meant to go on."""
        return self._goal_reached or self.clock >= self.total_frames

    def stop(self, reason: str, interrupted: bool = False, complete: bool = False) -> None:
        """End the run at its next boundary: after this update off-policy, else this iteration.

        Args:
            reason: kept in ``stop_reason``; the first one stays.
            interrupted: the run was cut short from outside (a signal) and is meant to go on later,
                so nothing that belongs to a run's end (the final evaluation) is done.
            complete: the run has reached its goal and is not meant to go on.
        """
        self.stop_reason = self.stop_reason or reason
        self.interrupted |= interrupted
        self._goal_reached |= complete

    def stop_epochs(self) -> None:
        """End the epochs of this iteration after the current update (target KL)."""
        self._end_epochs = True

    # ------------------------------------------------------------------- loop

    def train(self) -> None:
        """Run until ``total_frames``, ``stop_at`` or :meth:`stop`; see :class:`Stage`."""
        self._end_was_seen = False
        with self.stopwatch.running():
            try:
                self._fire(Stage.SETUP)
                self._captured = self._captured_updates()
                rollouts = iter(self.collector)
                while not self.ending:
                    self._iterate(rollouts)
                if not self._end_was_seen:  # stopped before an iteration, or too late in one
                    self._checkpoint()
                self._check_finite()
            except BaseException as error:
                self.interrupted = True  # nothing that belongs to a run's end is done
                self._shutdown(error)
                raise
            self._shutdown(None)

    def _iterate(self, rollouts: Iterator[TensorDictBase]) -> None:
        # A run that was stopped between two updates owes the others on the rollout it kept.
        if self._rollout is None and not self._collect(rollouts):
            return
        if self._optimize():
            self._fire(Stage.POST_STEPS, self._rollout)
            self._rollout = None
        self._checkpoint()

    def _checkpoint(self) -> None:
        self._end_was_seen = self.ending  # by all hooks: a signal may come between them
        self._fire(Stage.CHECKPOINT)

    def _collect(self, rollouts: Iterator[TensorDictBase]) -> bool:
        rollout = next(rollouts, None)
        if rollout is None:
            self.stop(f"the collector ended after {self.frames} frames")
            self._checkpoint()
            return False
        if not hasattr(self.collector, "checks_rollouts"):
            check_shapes(rollout)
            check_values(rollout, self.frames)
        self._check_finite()  # acting has waited for the device anyway
        self.iteration_start = self.frames
        self.frames += rollout.numel()
        self._rollout = self._fire(Stage.POST_COLLECT, rollout)
        return True

    def _optimize(self) -> bool:
        """Make the updates due; False if the run stopped before all of them were made."""
        while self.epoch < self.update_plan.num_epochs and not self._end_epochs:
            if self.updates_in_epoch == 0 and self.update_plan.due(self) > 0:
                self._rollout = self._fire(Stage.PRE_EPOCH, self._rollout)
            while self.update_plan.due(self) > 0 and not self._end_epochs:
                self._update()
                if self.stop_reason and self.update_plan.interruptible:
                    if self.update_plan.due(self) > 0:
                        return False
            self.updates_in_epoch = 0
            self.epoch += 1
        self.epoch = 0
        self._end_epochs = False
        return True

    def _update(self) -> None:
        due = [phase for phase in self.phases if (self.updates + 1) % phase.every == 0]
        if self._captured is None:
            batch = self._fire(Stage.PROCESS_OPTIM_BATCH, self._rollout)
            losses = self.learn(batch, due)
            left = self.timetable.entries(Stage.POST_OPTIM)
        else:
            batch, losses = self._captured(self, self._rollout, due)  # type: ignore[arg-type]  # there is a rollout
            left = self._captured.afterwards
        self.updates += 1
        self.updates_in_epoch += 1
        self.timetable.run(left, self, Stage.POST_OPTIM, batch, losses)

    def learn(self, batch: TensorDictBase, due: Sequence[Phase]) -> TensorDictBase:
        """Step once on every phase that is due; returns the losses of all of them."""
        taken = [self._take(phase, batch) for phase in due]
        return taken[0] if len(taken) == 1 else tensordict_of(_merged(taken))

    def _take(self, phase: Phase, batch: TensorDictBase) -> TensorDictBase:
        self.phase = phase
        losses = self._fire(Stage.POST_LOSS, batch, phase.compute(batch))
        total = phase.backward(losses)
        losses = self._fire(Stage.POST_BACKWARD, batch, _detached(losses))
        if phase.can_skip:  # on the device, without waiting for it; _check_finite() asks later
            phase.step_while_finite(total, losses)
        elif phase.is_finite(total):
            phase.step()
        else:
            where = f"at update {self.updates + 1}, frame {self.frames}"
            evidence = {"batch": batch.to_dict(), "losses": losses.to_dict()}
            raise NonFiniteError(f"{phase.blame(losses)} {where}: it was not stepped on", evidence)
        return losses

    def _check_finite(self) -> None:
        """On a device a step that is not finite is skipped, with all that follow, until here."""
        for phase in self.phases:
            if (found := phase.found_non_finite()) is not None:
                before = f"at one of the updates up to {self.updates}, frame {self.frames}"
                raise NonFiniteError(
                    f"{found} {before}: what it belongs to was not stepped on from there on"
                )

    def _captured_updates(self) -> CapturedUpdates | None:
        if not self.capture or not all(phase.can_skip for phase in self.phases):
            return None
        reason = obstacle(self)
        if reason is not None:
            logger.info("updates are not captured in a CUDA graph: %s", reason)
        return CapturedUpdates(self) if reason is None else None

    def _shutdown(self, error: BaseException | None) -> None:
        """Whatever fails on the way, every hook runs and the collector is closed.

        At a second signal no hook is asked any more: some take their time.
        """
        if error is None:
            with suppress(Exception):  # a collector that cannot be saved can still be closed
                self._last_collector_state = self._collector_state()
        failure: Exception | None = None
        try:
            if not isinstance(error, AtOnce):
                failure = self.timetable.shut_down(self)
        finally:
            closing = self._close_collector()
        failure = failure or closing
        if error is None and failure is not None:
            self.interrupted = True
            raise failure

    def _close_collector(self) -> Exception | None:
        try:
            getattr(self.collector, "shutdown", lambda: None)()
        except Exception as failure:
            logger.exception("the collector failed at shutdown")
            return failure
        return None

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """All that the run consists of, as nested tensors, numbers and strings.

        Raises:
            NonFiniteError: a step on a device was skipped, which only shows when it is asked for.
        """
        self._check_finite()
        return {
            "clock": {key: getattr(self, key) for key in _CLOCK},
            "update_plan": getattr(self.update_plan, "state_dict", dict)(),
            "phases": [phase.state_dict() for phase in self.phases],
            "rollout": None if self._rollout is None else rollout_state(self._rollout),
            "collector": self._collector_state(),
            "hooks": self.timetable.state_dict(),
            "metrics": self.metrics.state_dict(),
            "stopwatch": self.stopwatch.state_dict(),
            "random": seeding.random_state(),
            "surroundings": surroundings(self._device),
        }

    @property
    def _device(self) -> torch.device:
        return next(self.phases[0].parameters()).device

    def _collector_state(self) -> dict[str, Any]:
        # A closed collector may not be able to tell, but a run that has ended can be saved.
        if self._last_collector_state is not None:
            return self._last_collector_state
        return getattr(self.collector, "state_dict", dict)()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` into a trainer built the same way, all of it or nothing.

        Hooks may have come or gone (logging is free to change). ``restored`` tells what became of
        each component, and the log of those that are not as they were.
        """
        before = copied(self.state_dict())
        try:
            self.restored = self._restore(state)
        except BaseException:
            self._restore(before)
            raise
        exact, others = report(self.restored)
        logger.info(exact)
        for each in others:
            logger.warning(each)

    def _restore(self, state: dict[str, Any]) -> list[Restored]:
        for key in _CLOCK:
            value = state["clock"][key]
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"the clock's {key} is {value!r}, expected a whole number from 0")
            setattr(self, key, value)
        load_plan = getattr(self.update_plan, "load_state_dict", None)
        if load_plan is not None and state.get("update_plan"):  # older checkpoints have none
            load_plan(state["update_plan"], self.frames, self.updates)
        for phase, phase_state in zip(self.phases, state["phases"], strict=True):
            phase.load_state_dict(phase_state)
        rollout = state["rollout"]
        self._rollout = None if rollout is None else rollout_from(rollout)
        if hasattr(self.collector, "load_state_dict"):
            self.collector.load_state_dict(state["collector"])
        environments = Restored("environments", "fresh", "their collector begins new episodes")
        if hasattr(self.collector, "restored"):
            environments = restored("environments", self.collector)
        self._last_collector_state = None
        hooks = self.timetable.load_state_dict(state["hooks"])
        self.metrics.load_state_dict(state["metrics"])
        self.stopwatch.load_state_dict(state["stopwatch"])
        # Last: rebuilding the rest may have drawn random numbers.
        missing = seeding.set_random_state(state["random"])
        why = f"GPUs that had some are gone: {missing}" if missing else ""
        generators = Restored("random numbers", "statistical" if missing else "exact", why)
        return [
            *map(Restored, ("networks", "optimizers", "counters", "metrics")),
            generators,
            environments,
            *hooks,
            *changed(state["surroundings"], surroundings(self._device)),
        ]

    def save(self, path: str | Path, previous: Path | None = None) -> None:
        """Write a checkpoint directory; see :func:`trainers.saving.checkpoint.save`.

        Raises:
            NonFiniteError: something that is learnt from is not finite; nothing was written.
        """
        checkpoint.save(path, self.state_dict(), previous, check=refuse_non_finite)

    def load(self, path: str | Path) -> None:
        """Restore a checkpoint directory written by :meth:`save`."""
        self.load_state_dict(checkpoint.load(path))


def _detached(losses: TensorDictBase) -> TensorDictBase:
    """``losses`` without their graph."""
    if type(losses) is not TensorDict:
        return losses.detach()
    values = {k: v.detach() if v.requires_grad else v for k, v in losses.items()}
    return tensordict_of(values, losses.batch_size, losses.device)


def _merged(taken: list[TensorDictBase]) -> dict[str, Tensor]:
    return {key: value for losses in taken for key, value in losses.items()}
