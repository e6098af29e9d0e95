"""What a resumed run has of the one that was saved, component by component, and why not all."""

from __future__ import annotations

import platform
from copy import copy
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from trainers.saving.segments import Rows

How = Literal["exact", "statistical", "fresh", "dropped"]

_PACKAGES = (
    "trainers",
    "torch",
    "torchrl",
    "tensordict",
    "numpy",
    "gymnasium",
    "mujoco",
    "envpool",
    "ale-py",
    "Box2D",
)
_COSTS = {
    "threads": "sums of floats are taken in another order",
    "device": "random numbers and sums of floats differ",
    "cpu": "sums of floats may be taken in another order",
}


class Restored(NamedTuple):
    """A component after a resume.

    ``exact``: bit for bit as it was. ``statistical``: the run is of the same kind, not the same.
    ``fresh``: as at the start of a run. ``dropped``: saved, but there is no place for it.
    """

    component: str
    how: How = "exact"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.component}: {self.how}, {self.why}" if self.why else self.component


def restored(component: str, owner: Any) -> Restored:
    """What ``owner`` says of itself after its ``load_state_dict``; exact, if it says nothing.

    It says so by an attribute ``restored``, ``(how, why)``.
    """
    said = getattr(owner, "restored", None)
    how, why = said if isinstance(said, tuple) and len(said) == 2 else ("exact", "")
    return Restored(component, how, why)


def resumed_exactly(collector: Any) -> bool:
    """Whether it has brought back its open episodes: those that say nothing have not."""
    return getattr(collector, "restored", ("fresh", ""))[0] == "exact"


class Continuity:
    """Tells a hook that keeps something of open episodes whether they still go on."""

    def __init__(self) -> None:
        self._resumed = False

    def resumed(self) -> None:
        """What the hook keeps has been loaded."""
        self._resumed = True

    def is_broken(self, collector: Any) -> bool:
        """Whether what was loaded is of episodes that the collector has not brought back.

        Asked once for each rollout: from the second one on it is the hook's own again.
        """
        resumed, self._resumed = self._resumed, False
        return resumed and not resumed_exactly(collector)


def surroundings(device: torch.device) -> dict[str, str]:
    """All that has to stay the same for the same numbers to come out."""
    return {
        **_versions(),
        "cpu": _cpu(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": str(torch.get_num_threads()),
    }


def changed(before: dict[str, str], now: dict[str, str]) -> list[Restored]:
    """What differs in the surroundings, and what it costs."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        one, two = before.get(name, "none"), now.get(name, "none")
        if one != two:
            cost = _COSTS.get(name, "another version may compute something else")
            found.append(Restored(name, "statistical", f"{one} -> {two}: {cost}"))
    return found


def report(components: list[Restored]) -> tuple[str, list[str]]:
    """The exact ones in a line, and a line for each of the others."""
    exact = ", ".join(each.component for each in components if each.how == "exact")
    return f"restored bit for bit: {exact}", [str(e) for e in components if e.how != "exact"]


def component(path: str) -> str:
    """What a user would call that of which a state has a part at ``path``, ``/phases/0/loss``."""
    _, top, *rest = path.split("/")
    if top == "phases":
        return "optimizers" if "optimizers" in rest else "networks"
    if top == "hooks":
        return f"hook {rest[0]}"
    names = {"clock": "counters", "collector": "environments", "random": "random numbers"}
    return names.get(top, top)


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an extra
            continue
    return found


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def copied(state: Any) -> Any:
    """A state that stays as it is, whatever becomes of what it was taken from."""
    if isinstance(state, Rows):
        tables, first = state.tables(), state.first  # which copies
        return Rows(
            first,
            state.end,
            lambda begin, end: {name: t[begin - first : end - first] for name, t in tables.items()},
        )
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(copied, state))
    return state.clone() if isinstance(state, Tensor) else copy(state)
