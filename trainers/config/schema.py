"""Typed, ranged configuration sections: one checker for all of them.

A section is a frozen dataclass whose fields carry their type as an annotation and their range as
metadata (see `number`). Making one checks it, so a section that exists is a valid one, whether it
came from the command line, from a file or from Python.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from trainers.config.errors import ConfigError, did_you_mean, nearest

_COMPARE: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "above"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "below"),
}
_INT64 = 2**63  # counters and sizes end up in 64-bit tensors


def number(default: float | str | None, **bounds: float) -> Any:
    """A field with a range: `ge`, `gt`, `le`. For a list, as metadata, they hold for each item."""
    return field(default=default, metadata=bounds)


class Section:
    """Base of all sections: checks its fields when made, converts from and to plain mappings."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for spec in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            object.__setattr__(self, spec.name, self.accept(spec.name, getattr(self, spec.name)))
        self.check()

    @classmethod
    def accept(cls, name: str, value: Any) -> Any:
        """`value` as field `name` will hold it; `ConfigError` if the field cannot."""
        bounds = cls.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]  # subclasses are dataclasses
        return _accept(cls.key(name), value, _kinds(cls)[name], bounds)

    def check(self) -> None:
        """Raise `ConfigError` where fields contradict each other."""

    @classmethod
    def key(cls, name: str) -> str:
        """The dotted key of field `name`, as a user types it."""
        name = _outside(name)
        return f"{cls.section}.{name}" if cls.section else name

    @classmethod
    def variant(cls, data: Mapping[str, Any]) -> type[Self]:
        """The class that `data` describes; sections with several kinds choose by a field."""
        return cls

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Make the section from a nested mapping; a `ConfigError` names the first wrong key."""
        if not isinstance(data, Mapping):
            raise ConfigError(cls.section or "configuration", data, "a section of keys and values")
        chosen = cls.variant(data)
        all_fields: tuple[Field[Any], ...] = fields(chosen)  # type: ignore[arg-type]  # a dataclass
        specs = {_outside(spec.name): spec for spec in all_fields}
        kinds = _kinds(chosen)
        for name, value in data.items():
            if name not in specs:
                where = f"a key of {cls.section}" if cls.section else "a key"
                allowed = f"{where}: {', '.join(specs)}"
                hint = cls._suggest(str(name), data, list(specs))
                raise ConfigError(chosen.key(str(name)), value, allowed, hint)
        for name, spec in specs.items():
            required = spec.default is MISSING and spec.default_factory is MISSING
            if required and name not in data:
                raise ConfigError(chosen.key(name), None, "a value", "it has no default")
        inside = {specs[name].name: value for name, value in data.items()}
        return chosen(**{name: _nested(kinds[name], value) for name, value in inside.items()})

    @classmethod
    def _suggest(cls, unknown: str, data: Mapping[str, Any], known: list[str]) -> str | None:
        nested = [key for key in leaves(data) if "." in key and key.partition(".")[0] in known]
        by_name = {key.rpartition(".")[2]: key for key in reversed(nested)}
        if unknown in by_name:  # the right name, without its section
            return f"did you mean {cls.key(by_name[unknown])}?"
        by_name |= {name: name for name in known}
        near = nearest(unknown, by_name)
        return f"did you mean {cls.key(by_name[near])}?" if near else None

    def to_dict(self) -> dict[str, Any]:
        """The section as plain data; `from_dict` is the inverse."""
        return asdict(self, dict_factory=_plain_names)  # type: ignore[call-overload]  # subclasses are dataclasses


def _outside(name: str) -> str:
    """A field's name as users know it: one that is a word of Python ends with an underscore."""
    return name.rstrip("_")


def _plain_names(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_outside(name): value for name, value in items}


@cache
def _kinds(section: type[Section]) -> dict[str, Any]:
    """The types of its fields."""
    return get_type_hints(section)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested mapping by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        flat |= leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _nested(kind: Any, value: Any) -> Any:
    """`value` made into a section where `kind` is one, `SomeSection | None` included."""
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, Section):
            optional = value is None and NoneType in _members(kind)
            return None if optional else member.from_dict(value)
    return value


def _accept(key: str, value: Any, kind: Any, bounds: Mapping[str, float]) -> Any:
    """`value` as `kind`, its range checked; `ConfigError` if it is neither."""
    for member in _members(kind):
        try:
            return _as_member(value, member, bounds)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ConfigError(key, value, _describe(kind, bounds), _hint(key, value, kind))


def _as_member(value: Any, kind: Any, bounds: Mapping[str, float]) -> Any:
    """`value` as `kind`, no union; TypeError or ValueError if it is not one."""
    origin = get_origin(kind)
    if kind in (int, float):
        return _as_number(value, kind, bounds)
    if origin is list and isinstance(value, list | tuple):
        if len(value) < bounds.get("min_items", 0):
            raise ValueError
        return [_as_member(item, get_args(kind)[0], bounds) for item in value]
    if origin is dict and isinstance(value, Mapping):
        return _plain(value)
    if origin is Literal and isinstance(value, str) and value in get_args(kind):
        return value
    if isinstance(kind, type) and isinstance(value, kind) and value != "":
        return value  # an empty name, path or id is a forgotten value
    raise TypeError


def _as_number(value: Any, kind: type, bounds: Mapping[str, float]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not math.isfinite(value) or abs(value) >= (_INT64 if kind is int else math.inf):
        raise ValueError
    if kind is int and value != int(value):  # 1e6 is a fine way to write 1000000
        raise ValueError
    value = kind(value)
    if not all(compare(value, bound) for compare, _, bound in _limits(bounds)):
        raise ValueError
    return value


def _plain(value: Any) -> Any:
    """Free-form data, if it is plain enough to be written to a YAML file and read back."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _describe(kind: Any, bounds: Mapping[str, float]) -> str:
    """What `_accept` takes, in words."""
    return " or ".join(_describe_member(member, bounds) for member in _members(kind))


def _describe_member(kind: Any, bounds: Mapping[str, float]) -> str:
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is list:
        items = f"each item {_describe(get_args(kind)[0], bounds)}"
        return f"a list, {items}" + (", at least one" if bounds.get("min_items") else "")
    if get_origin(kind) is dict:
        return "a mapping of names to plain values (numbers, text, true/false, null, lists)"
    if kind in (int, float):
        noun = "a whole number" if kind is int else "a number"
        ranges = " and ".join(f"{words} {bound}" for _, words, bound in _limits(bounds))
        return f"{noun} {ranges}".strip()
    return {bool: "true or false", str: "text"}.get(kind, f"a {kind.__name__}")


def _limits(bounds: Mapping[str, float]) -> list[tuple[Callable[[Any, Any], bool], str, float]]:
    return [(*_COMPARE[name], bound) for name, bound in bounds.items() if name in _COMPARE]


def _hint(key: str, value: Any, kind: Any) -> str | None:
    members = _members(kind)
    choices = [name for member in members if get_origin(member) is Literal
               for name in get_args(member)]  # fmt: skip
    if choices:
        return did_you_mean(value, choices)
    if isinstance(value, float) and not math.isfinite(value):
        return "it has to be finite"
    if str in members and isinstance(value, int | float):
        return f"quote it twice to make it text: {key}=\"'...'\""
    if any(get_origin(member) is list for member in members) and isinstance(value, str | int):
        return f"write {key}=[{value}]"
    return None
