"""What the configurations of all algorithms have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

from trainers.config.errors import ConfigError, did_you_mean, show
from trainers.config.keywords import ALIASES, WHY_NOT, WHY_NOT_OF
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

    def learns_from_older(self) -> bool:
        """Whether what an older policy did can be learnt from."""
        return not self.on_policy

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
        ours = ALIASES.get(unknown, unknown)
        if ours in known:
            return f"did you mean {cls.key(ours)}?"
        if reason := WHY_NOT_OF.get(data["name"], {}).get(unknown):
            return f"TorchRL's {unknown} has no key: {reason}"
        if others := cls._having(unknown):
            return f"a key of algo={others}"
        if others := cls._having(ours):
            return f"{cls.key(ours)} is a key of algo={others}"
        if reason := WHY_NOT.get(unknown):
            return f"TorchRL's {unknown} has no key: {reason}"
        return super()._suggest(unknown, data, known)

    @classmethod
    def _having(cls, name: str) -> str:
        """The algorithms that have this key."""
        return ", ".join(
            algo for algo, other in cls.known.items() if name in other.__dataclass_fields__
        )
