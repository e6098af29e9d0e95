"""The generic trainer: a loop with named stages, and nothing else.

What an algorithm does lives in its hooks (:mod:`trainers.hooks`), when it does it in its timetable
(:mod:`trainers.algorithms`). The order of the loop is the docstring of :class:`~trainers.Stage`.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from trainers import checkpoint, seeding
from trainers.errors import NonFiniteError
from trainers.metrics import Metrics, Stopwatch
from trainers.stages import Stage

logger = logging.getLogger("trainers")

Hook = Callable[..., TensorDictBase | None]
When = Callable[["Trainer"], bool]
Loss = Callable[[TensorDictBase], TensorDictBase]


def every(interval: int) -> When:
    """Condition for ``register_hook(when=...)``: the run's clock has crossed a multiple.

    It compares the clock with its value at the start of the iteration, so ``interval`` need not be
    divisible by the frames of an iteration. ``every(0)`` is never true.

    Raises:
        ValueError: ``interval`` is negative.
    """
    if interval < 0:
        raise ValueError(f"interval must not be negative, got {interval}")

    def crossed(trainer: Trainer) -> bool:
        if interval == 0:
            return False
        return trainer.clock // interval > trainer.iteration_start // interval

    return crossed


class Updates(Protocol):
    """How many updates an iteration owes: the difference between on- and off-policy training."""

    @property
    def num_epochs(self) -> int:
        """Passes over a rollout."""
        ...

    @property
    def interruptible(self) -> bool:
        """Whether a run may stop (and be saved) between two updates of an iteration."""
        ...

    def due(self, trainer: Trainer) -> int:
        """Updates still owed in the current epoch."""
        ...


@dataclass(frozen=True)
class Epochs:
    """On-policy: ``num_epochs`` passes of ``minibatches`` updates over every rollout."""

    num_epochs: int = 1
    minibatches: int = 1
    interruptible = False

    def due(self, trainer: Trainer) -> int:
        """Minibatches left in this epoch."""
        return self.minibatches - trainer.updates_in_epoch


@dataclass(frozen=True)
class UpdateRatio:
    """Off-policy: ``utd_ratio`` updates for every frame after the warm-up.

    A function of the counters alone, so that a resumed run pays exactly what is owed.
    """

    utd_ratio: float = 1.0
    init_random_frames: int = 0
    num_epochs = 1
    interruptible = True

    def due(self, trainer: Trainer) -> int:
        """``floor(utd_ratio * max(0, frames - init_random_frames)) - updates``."""
        frames = max(0, trainer.frames - self.init_random_frames)
        return math.floor(self.utd_ratio * frames) - trainer.updates


class Phase:
    """One loss and its optimizer(s), taken in every ``every``-th update.

    Args:
        loss: a TorchRL ``LossModule`` or any callable ``TensorDict -> TensorDict``; the sum of its
            ``loss_*`` entries, each a scalar, is differentiated.
        optimizer: one optimizer or several that step together.
        every: step only in updates whose number is a multiple (TD3 delays its actor).

    Raises:
        TypeError: there is no optimizer, or the loss cannot be called.
    """

    def __init__(
        self, loss: Loss, optimizer: Optimizer | Sequence[Optimizer], every: int = 1
    ) -> None:
        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
        if not optimizers:
            raise TypeError(
                "optimizer must be a torch optimizer or a list of them, got "
                f"{optimizer!r}: without one nothing would train"
            )
        for given in optimizers:
            if not isinstance(given, Optimizer):
                raise TypeError(f"optimizer must be a torch optimizer, got {given!r}")
        if not callable(loss):
            raise TypeError(f"a loss must be callable as TensorDict -> TensorDict, got {loss!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.loss = loss
        self.optimizers = optimizers
        self.every = every

    def parameters(self) -> Iterator[Tensor]:
        """All parameters that the optimizers of this phase move."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizers, and of the loss where it has one (networks, targets)."""
        state: dict[str, Any] = {"optimizers": [o.state_dict() for o in self.optimizers]}
        if isinstance(self.loss, torch.nn.Module):
            state["loss"] = self.loss.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        if isinstance(self.loss, torch.nn.Module):
            self.loss.load_state_dict(state["loss"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)


@dataclass(frozen=True)
class _Registered:
    name: str
    hook: Hook
    when: When | None


class Trainer:
    """Runs the loop of :class:`Stage` over a collector, a loss and its optimizer.

    Args:
        collector: an iterable of rollouts (TensorDicts of frames, ``("next", ...)`` layout); a
            TorchRL collector or :class:`~trainers.collectors.GymCollector`.
        loss_module: a TorchRL loss or any callable ``TensorDict -> TensorDict`` that returns scalar
            ``loss_*`` entries. With ``optimizer`` short for ``phases=[Phase(loss, optimizer)]``.
        optimizer: one torch optimizer, or several that step together.
        phases: several losses taken in turn in an update.
        total_frames: end of the run in frames, and the horizon of every schedule.
        updates: how many updates an iteration owes; one per rollout by default.

    Attributes:
        frames: agent steps collected, over all environments and resumes.
        updates: optimizer updates made.
        metrics: where hooks leave numbers for the loggers.
        stop_at: ends the run early (in frames) without touching any schedule.
    """

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Loss | None = None,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        phases: Sequence[Phase] = (),
        total_frames: int,
        updates: Updates | None = None,
    ) -> None:
        if phases and (loss_module is not None or optimizer is not None):
            raise TypeError("give either phases or a loss_module with its optimizer, not both")
        if total_frames < 1:
            raise ValueError(f"total_frames must be at least 1, got {total_frames}")
        self.collector = collector
        self.phases = list(phases) or [Phase(loss_module, optimizer)]  # type: ignore[arg-type]  # Phase refuses None with a clear error
        self.total_frames = total_frames
        self.update_plan: Updates = updates or Epochs()
        self.stop_at: int | None = None

        self.frames = 0
        self.updates = 0
        self.epoch = 0
        self.updates_in_epoch = 0
        self.iteration_start = 0
        self.metrics = Metrics()
        self.stopwatch = Stopwatch()
        self.stop_reason: str | None = None
        self.interrupted = False

        self._rollout: TensorDictBase | None = None
        self._last_collector_state: dict[str, Any] | None = None
        self._end_epochs = False
        self._hooks: dict[Stage, list[_Registered]] = {stage: [] for stage in Stage}
        self._owners: dict[str, Any] = {}

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
        stage = _as_stage(stage)
        _check_signature(stage, hook)
        owner = getattr(hook, "__self__", hook)
        if owner is self:  # a method of a subclass: the trainer is no part of its own state
            owner = hook.__func__  # type: ignore[attr-defined]  # bound methods have it
        name = name or _default_name(owner)
        if self._owners.setdefault(name, owner) is not owner:
            raise ValueError(
                f"a hook named {name!r} is registered already ({self._owners[name]!r}); "
                f"pass name=... to register {hook!r} beside it"
            )
        self._hooks[stage].append(_Registered(name, hook, when))

    def _fire(self, stage: Stage, *data: Any) -> Any:
        """Run the hooks of ``stage``; returns the last argument as the hooks left it."""
        *head, flowing = data or (None,)
        for entry in self._hooks[stage]:
            if entry.when is not None and not entry.when(self):
                continue
            result = entry.hook(self, *head, flowing) if data else entry.hook(self)
            if result is None:
                continue
            if not data or not isinstance(result, TensorDictBase):
                allowed = "a TensorDict or None" if data else "None"
                raise TypeError(
                    f"hook {entry.name!r} at stage {stage.value!r} returned "
                    f"{type(result).__name__}; allowed: {allowed}"
                )
            flowing = result
        return flowing

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}: {len(self._owners)} hooks"]
        for stage in Stage:
            names = [e.name + (" (conditional)" if e.when else "") for e in self._hooks[stage]]
            lines.append(f"  {stage.value:<20} {', '.join(names) or '-'}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ clock

    @property
    def clock(self) -> int:
        """The unit of every interval and schedule: frames."""
        return self.frames

    @property
    def progress(self) -> float:
        """Share of the horizon that has passed, 0 to 1; schedules are functions of it."""
        return min(1.0, self.clock / self.total_frames)

    @property
    def finished(self) -> bool:
        """The clock has reached the end of the run (or ``stop_at``) and no update is owed."""
        end = min(self.total_frames, self.stop_at or self.total_frames)
        return self.clock >= end and self._rollout is None

    @property
    def ending(self) -> bool:
        """No further iteration will follow."""
        return self.finished or self.stop_reason is not None

    def stop(self, reason: str, interrupted: bool = False) -> None:
        """End the run at its next boundary: after this update off-policy, else this iteration.

        Args:
            reason: kept in ``stop_reason``.
            interrupted: the run was cut short from outside (a signal) and is meant to go on later,
                so nothing that belongs to a run's end (the final evaluation) is done.
        """
        self.stop_reason = reason
        self.interrupted = interrupted

    def stop_epochs(self) -> None:
        """End the epochs of this iteration after the current update (target KL)."""
        self._end_epochs = True

    # ------------------------------------------------------------------- loop

    def train(self) -> None:
        """Run until ``total_frames``, ``stop_at`` or :meth:`stop`; see :class:`Stage`."""
        try:
            with self.stopwatch.running():
                self._fire(Stage.SETUP)
                rollouts = iter(self.collector)
                while not self.ending:
                    self._iterate(rollouts)
        except BaseException as error:
            self.interrupted = True
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
        self._fire(Stage.CHECKPOINT)

    def _collect(self, rollouts: Iterator[TensorDictBase]) -> bool:
        rollout = next(rollouts, None)
        if rollout is None:
            self.stop(f"the collector ended after {self.frames} frames")
            self._fire(Stage.CHECKPOINT)
            return False
        if self.frames == 0:
            _check_shapes(rollout)
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
        batch = self._fire(Stage.PROCESS_OPTIM_BATCH, self._rollout)
        update = self.updates + 1
        taken = [self._take(phase, batch) for phase in self.phases if update % phase.every == 0]
        losses = taken[0] if len(taken) == 1 else TensorDict(_merged(taken))
        self.updates = update
        self.updates_in_epoch += 1
        self._fire(Stage.POST_OPTIM, batch, losses)

    def _take(self, phase: Phase, batch: TensorDictBase) -> TensorDictBase:
        losses = self._fire(Stage.POST_LOSS, batch, phase.loss(batch))
        total = _total_loss(losses)
        for optimizer in phase.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        losses = self._fire(Stage.POST_BACKWARD, batch, losses.detach())
        self._check_finite(phase, losses, total)
        for optimizer in phase.optimizers:
            optimizer.step()
        return losses

    def _check_finite(self, phase: Phase, losses: TensorDictBase, total: Tensor) -> None:
        """Refuse the step if the loss or a gradient is NaN or infinite."""
        grads = [p.grad for p in phase.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if math.isfinite(float(total.detach() + norm)):
            return
        where = f"at update {self.updates + 1}, frame {self.frames}"
        bad = [
            f"{k} is {v[~torch.isfinite(v)][0].item()}"
            for k, v in losses.items()
            if not torch.isfinite(v).all()
        ]
        if not bad and isinstance(phase.loss, torch.nn.Module):
            bad = [
                f"the gradient of {name} is not finite"
                for name, p in phase.loss.named_parameters()
                if p.grad is not None and not torch.isfinite(p.grad).all()
            ]
        source = "; ".join(bad[:5]) or "a gradient is not finite"
        raise NonFiniteError(f"{source} {where}: the update was not made")

    def _shutdown(self, error: BaseException | None) -> None:
        """Every shutdown hook runs and the collector is closed, whatever fails on the way; the
        first error wins."""
        if error is None:
            with suppress(Exception):  # a collector that cannot be saved can still be closed
                self._last_collector_state = self._collector_state()
        close = getattr(self.collector, "shutdown", None)
        collector = [_Registered("collector", lambda _: close(), None)] if close else []
        for entry in [*self._hooks[Stage.SHUTDOWN], *collector]:
            try:
                if entry.when is None or entry.when(self):
                    entry.hook(self)
            except Exception as failure:
                logger.exception("hook %r failed at shutdown", entry.name)
                error = error or failure
                self.interrupted = True
        if error is not None:
            raise error

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """All that the run consists of, as nested tensors, numbers and strings."""
        return {
            "clock": {
                "frames": self.frames,
                "updates": self.updates,
                "epoch": self.epoch,
                "updates_in_epoch": self.updates_in_epoch,
                "iteration_start": self.iteration_start,
            },
            "phases": [phase.state_dict() for phase in self.phases],
            "rollout": None if self._rollout is None else _rollout_state(self._rollout),
            "collector": self._collector_state(),
            "hooks": {
                name: owner.state_dict()
                for name, owner in self._owners.items()
                if _has_state(owner)
            },
            "metrics": self.metrics.state_dict(),
            "stopwatch": self.stopwatch.state_dict(),
            "random": seeding.random_state(),
        }

    def _collector_state(self) -> dict[str, Any]:
        # A closed collector may not be able to tell, but a run that has ended can be saved.
        if self._last_collector_state is not None:
            return self._last_collector_state
        return getattr(self.collector, "state_dict", dict)()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` into a trainer built the same way.

        Hooks may have come or gone (logging is free to change): what has no counterpart is named
        in a warning.
        """
        owners = {name: owner for name, owner in self._owners.items() if _has_state(owner)}
        for name in sorted(set(state["hooks"]) - set(owners)):
            logger.warning("the checkpoint knows a hook %r, this run does not: dropped", name)
        for name in sorted(set(owners) - set(state["hooks"])):
            logger.warning("the checkpoint knows no hook %r: it starts fresh", name)
        for key, value in state["clock"].items():
            setattr(self, key, value)
        for phase, phase_state in zip(self.phases, state["phases"], strict=True):
            phase.load_state_dict(phase_state)
        rollout = state["rollout"]
        self._rollout = None if rollout is None else _rollout_from(rollout)
        if hasattr(self.collector, "load_state_dict"):
            self.collector.load_state_dict(state["collector"])
        for name in owners.keys() & state["hooks"].keys():
            owners[name].load_state_dict(state["hooks"][name])
        self.metrics.load_state_dict(state["metrics"])
        self.stopwatch.load_state_dict(state["stopwatch"])
        # Last: rebuilding the rest may have drawn random numbers.
        seeding.set_random_state(state["random"])

    def save(self, path: str | Path) -> None:
        """Write a checkpoint directory; see :mod:`trainers.checkpoint`."""
        checkpoint.save(path, self.state_dict())

    def load(self, path: str | Path) -> None:
        """Restore a checkpoint directory written by :meth:`save`."""
        self.load_state_dict(checkpoint.load(path))


def _as_stage(stage: Stage | str) -> Stage:
    try:
        return Stage(stage)
    except ValueError:
        known = ", ".join(s.value for s in Stage)
        raise ValueError(f"unknown stage {stage!r}; the stages are: {known}") from None


def _check_signature(stage: Stage, hook: Hook) -> None:
    if not callable(hook):
        raise TypeError(f"a hook must be callable, got {hook!r}")
    try:
        inspect.signature(hook).bind(None, *stage.data)
    except TypeError as error:
        arguments = ", ".join(("trainer", *stage.data))
        raise TypeError(
            f"hook {hook!r} does not fit stage {stage.value!r}, "
            f"which calls it as hook({arguments}): {error}"
        ) from None


def _default_name(owner: Any) -> str:
    name = getattr(owner, "name", None) or getattr(owner, "__name__", None)
    return name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(owner).__name__).lower()


def _has_state(owner: Any) -> bool:
    return hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")


def _check_shapes(rollout: TensorDictBase) -> None:
    """``[B]`` against ``[B, 1]`` broadcasts to ``[B, B]`` without an error: refuse it here."""
    expected = (*rollout.batch_size, 1)
    for key in ("reward", "done", "terminated"):
        value = rollout.get(("next", key), None)
        if value is not None and tuple(value.shape) != expected:
            raise ValueError(
                f"('next', {key!r}) of the rollout has shape {list(value.shape)}; with batch size "
                f"{list(rollout.batch_size)} it must be {list(expected)}"
            )


def _total_loss(losses: TensorDictBase) -> Tensor:
    if not isinstance(losses, TensorDictBase):
        raise TypeError(f"a loss must return a TensorDict, got {type(losses).__name__}")
    terms = {k: v for k, v in losses.items() if k.startswith("loss_")}
    if not terms:
        raise ValueError(
            f"the loss returned no 'loss_*' entry to differentiate, only {sorted(losses.keys())}"
        )
    for key, value in terms.items():
        if value.numel() != 1:
            raise ValueError(f"{key} must be a scalar, got shape {list(value.shape)}; reduce it")
    return torch.stack([value.reshape(()) for value in terms.values()]).sum()


def _merged(taken: list[TensorDictBase]) -> dict[str, Tensor]:
    return {key: value for losses in taken for key, value in losses.items()}


def _rollout_state(rollout: TensorDictBase) -> dict[str, Any]:
    leaves = rollout.flatten_keys("/")
    return {"batch_size": list(rollout.batch_size), "data": dict(leaves.items())}


def _rollout_from(state: dict[str, Any]) -> TensorDictBase:
    return TensorDict(state["data"], state["batch_size"]).unflatten_keys("/")
