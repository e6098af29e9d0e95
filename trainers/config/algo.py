"""What the configurations of all algorithms have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

from trainers.config.errors import ConfigError, did_you_mean, show
from trainers.config.keywords import ALIASES, ELSEWHERE, WHY_NOT, WHY_NOT_OF, ours
from trainers.config.schema import Section, number


@dataclass(frozen=True)
class AlgoConfig(Section):
    """Base of the algorithms' configurations; a subclass is found by its `name`."""

    section: ClassVar[str] = "algo"
    known: ClassVar[dict[str, type[AlgoConfig]]] = {}
    on_policy: ClassVar[bool] = False
    policy_draws: ClassVar[bool] = True
    """Whether the policy is a distribution of actions; what explores beside it is no part of it."""

    name: str = ""
    lr_schedule: Literal["constant", "linear"] = "constant"
    frames_per_batch: int | None = number(None, ge=1)

    def __init_subclass__(cls) -> None:
        if cls.name:  # else it has what several of them share
            AlgoConfig.known[cls.name] = cls

    def has_schedule(self) -> bool:
        """Whether anything moves over the run's horizon, `total_frames`."""
        return self.lr_schedule != "constant"

    def refuse_unused(self, names: Iterable[str], why: str) -> None:
        """Raise a `ConfigError` unless these keys, which would do nothing, are as by default."""
        for name in names:
            unused, value = self.__dataclass_fields__[name].default, getattr(self, name)
            if value != unused:
                allowed = unused if isinstance(unused, str) else show(unused)
                hint = "it would do nothing there"
                raise ConfigError(self.key(name), value, f"{allowed} {why}", hint)

    def check_envs(self, num_envs: int) -> None:
        """Raise a `ConfigError` for what does not fit the number of environments."""
        frames = self.frames_per_batch
        if frames is not None and frames % num_envs:
            allowed = f"a multiple of env.num_envs={num_envs}"
            raise ConfigError("algo.frames_per_batch", frames, allowed)

    def check_async(self) -> None:
        """Raise a `ConfigError` unless what an older policy did can be learnt from."""

    def check_actions(self, choices: int | None) -> None:
        """Raise a `ConfigError` for what does not fit so many actions; None is a continuum."""

    @classmethod
    def variant(cls, data: Mapping[str, Any]) -> type[Self]:
        """The subclass whose `name` is in `data`."""
        name = data.get("name")
        if name not in cls.known:
            allowed = f"one of {', '.join(cls.known)}"
            raise ConfigError("algo.name", name, allowed, did_you_mean(name, cls.known))
        return cast(type[Self], cls.known[name])

    @classmethod
    def _suggest(cls, unknown: str, data: Mapping[str, Any], known: list[str]) -> str | None:
        if hint := ours(unknown, known):
            return hint
        if reason := WHY_NOT_OF.get(data.get("name", ""), {}).get(unknown):
            return f"TorchRL's {unknown} has no key: {reason}"
        for name in (unknown, *ALIASES.get(unknown, ())):
            if others := cls._having(name):
                return f"{cls.key(name)} is a key of algo={others}"
        if reason := WHY_NOT.get(unknown):
            return f"TorchRL's {unknown} has no key: {reason}"
        return super()._suggest(unknown, data, known)

    @classmethod
    def suggest(cls, unknown: str, algo: Any) -> str | None:
        """A hint for a key without its section, if any algorithm, here or elsewhere, has it."""
        if not isinstance(algo, Mapping) or unknown in algo:
            return None
        named = unknown in ALIASES or unknown in ELSEWHERE or cls._having(unknown)
        return cls._suggest(unknown, algo, list(algo)) if named else None

    @classmethod
    def _having(cls, name: str) -> str:
        """The algorithms that have this key."""
        return ", ".join(
            algo for algo, other in cls.known.items() if name in other.__dataclass_fields__
        )
