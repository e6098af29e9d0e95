"""Which hook runs at which stage, and when."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensordict import TensorDictBase

from trainers.saving.restoring import Restored, restored
from trainers.stages import Stage

if TYPE_CHECKING:
    from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

Hook = Callable[..., TensorDictBase | None]
When = Callable[["Trainer"], bool]


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


@dataclass(frozen=True)
class Entry:
    """A registered hook."""

    name: str
    hook: Hook
    when: When | None

    @property
    def capturable(self) -> bool:
        """Whether it says so: ``capturable``; for a method ``m``, its object's ``m_capturable``.

        It works on tensors alone then: it keeps no numbers on the host, waits for no device, and
        does the same in every update.
        """
        method = getattr(self.hook, "__self__", None)
        said = (
            getattr(self.hook, "capturable", False)
            if method is None
            else getattr(method, f"{self.hook.__name__}_capturable", False)
        )
        return self.when is None and bool(said)

    @property
    def samples(self) -> bool:
        """Whether it makes a batch of its own, whatever it is given."""
        return bool(getattr(_owner(self.hook), "samples", False))


class Timetable:
    """The hooks of a trainer: registered by stage, fired in that order, saved by name."""

    def __init__(self) -> None:
        self._hooks: dict[Stage, list[Entry]] = {stage: [] for stage in Stage}
        self._owners: dict[str, Any] = {}

    def register(
        self, stage: Stage | str, hook: Hook, name: str | None = None, when: When | None = None
    ) -> None:
        """Add a hook; see :meth:`trainers.trainer.Trainer.register_hook`."""
        stage = _as_stage(stage)
        _check_signature(stage, hook)
        owner = _owner(hook)
        name = name or _default_name(owner)
        if self._owners.setdefault(name, owner) is not owner:
            raise ValueError(
                f"a hook named {name!r} is registered already ({self._owners[name]!r}); "
                f"pass name=... to register {hook!r} beside it"
            )
        self._hooks[stage].append(Entry(name, hook, when))

    def fire(self, trainer: Trainer, stage: Stage, *data: Any) -> Any:
        """Run the hooks of ``stage``; returns the last of ``data`` as the hooks left it."""
        return self.run(self._hooks[stage], trainer, stage, *data)

    def entries(self, stage: Stage) -> tuple[Entry, ...]:
        """The hooks of ``stage`` in their order."""
        return tuple(self._hooks[stage])

    def run(self, entries: Sequence[Entry], trainer: Trainer, stage: Stage, *data: Any) -> Any:
        """Like :meth:`fire`, only some of the hooks."""
        for entry in entries:
            if entry.when is not None and not entry.when(trainer):
                continue
            result = entry.hook(trainer, *data)
            if result is None:
                continue
            if not data or not isinstance(result, TensorDictBase):
                allowed = "a TensorDict or None" if data else "None"
                raise TypeError(
                    f"hook {entry.name!r} at stage {stage.value!r} returned "
                    f"{type(result).__name__}; allowed: {allowed}"
                )
            data = (*data[:-1], result)
        return data[-1] if data else None

    def shut_down(self, trainer: Trainer) -> Exception | None:
        """Run every hook of ``shutdown``, whatever the others do; returns the first failure."""
        first = None
        for entry in self._hooks[Stage.SHUTDOWN]:
            try:
                if entry.when is None or entry.when(trainer):
                    entry.hook(trainer)
            except Exception as failure:
                logger.exception("hook %r failed at shutdown", entry.name)
                first = first or failure
        return first

    def state_dict(self) -> dict[str, Any]:
        """The state of every owner that has one, by name."""
        return {name: owner.state_dict() for name, owner in self._with_state().items()}

    def load_state_dict(self, state: dict[str, Any]) -> list[Restored]:
        """Restore :meth:`state_dict`, and tell what became of each hook."""
        owners, found = self._with_state(), []
        for name, owner in owners.items():
            if name in state:
                owner.load_state_dict(state[name])
                found.append(restored(f"hook {name}", owner))
            else:
                found.append(Restored(f"hook {name}", "fresh", "the checkpoint knows none"))
        for name in sorted(state.keys() - owners.keys()):
            found.append(Restored(f"hook {name}", "dropped", "this run has none"))
        return found

    def _with_state(self) -> dict[str, Any]:
        return {
            name: owner
            for name, owner in self._owners.items()
            if hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")
        }

    def __str__(self) -> str:
        lines = []
        for stage, entries in self._hooks.items():
            names = [entry.name + (" (conditional)" if entry.when else "") for entry in entries]
            lines.append(f"  {stage.value:<20} {', '.join(names) or '-'}")
        return "\n".join(lines)


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


def _owner(hook: Hook) -> Any:
    """Whose state is saved: the object a bound method belongs to, else the hook itself."""
    owner = getattr(hook, "__self__", hook)
    # A method of a trainer's subclass: the trainer is no part of its own state.
    return hook.__func__ if hasattr(owner, "register_hook") else owner  # type: ignore[attr-defined]  # bound methods have it


def _default_name(owner: Any) -> str:
    name = getattr(owner, "name", None) or getattr(owner, "__name__", None)
    return name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(owner).__name__).lower()
