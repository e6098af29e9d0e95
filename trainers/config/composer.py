"""Hydra's composition of the YAML files and the command line, every failure a `ConfigError`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainers.config.errors import ConfigError, did_you_mean
from trainers.config.schema import leaves

CONFIG_DIR = Path(__file__).resolve().parents[2] / "configs"
CONFIG_NAME = "train"
VERSION_BASE = "1.3"
STORED = "stored"  # the preset that stands for the configuration of a stored run
NO_PRESET = "none"

_SEVERAL = ("logger",)  # groups of which several files can be chosen


class Composer:
    """Knows the config groups, and turns overrides into configurations."""

    def __init__(self, search_path: list[str]) -> None:
        self._search_path = search_path
        self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(self._loader)
        self.groups = self._loader.list_groups("")

    def parse(self, arguments: list[str]) -> list[Override]:
        """Each argument as an override whose group choice, if it is one, exists."""
        return [self._parse(argument) for argument in arguments]

    def argument(self, override: Override) -> str:
        """The override as it is handed to Hydra.

        A value is forced in, whether the key exists or not: a wrong key is found by the checks of
        the dataclasses, which know better what was meant, and free-form keys need no special mark.
        """
        text = override.input_line or ""
        theirs = override.key_or_group.startswith("hydra") or override.package is not None
        if theirs or override.is_delete() or self._is_choice(override):
            return text
        return "++" + text.lstrip("+")

    def jobs(self, overrides: list[Override]) -> list[list[str]]:
        """The arguments of every job of a sweep: one for each combination."""
        arguments = [self.argument(override) for override in overrides]
        with _as_config_error(arguments):
            parsed = self._parser.parse_overrides(arguments)
            (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        return jobs

    def single(self, overrides: list[Override], hint: str | None = None) -> list[str]:
        """The arguments of one job; a key with several values is refused, with this hint."""
        for override in overrides:
            if override.is_sweep_override():
                key, value = _key_and_value(override.input_line or "")
                raise ConfigError(key, value, "a single value", hint)
        return [self.argument(override) for override in overrides]

    def compose(self, arguments: list[str]) -> DictConfig:
        """The configuration of one job, nothing checked but the group choices."""
        for override in self.parse(arguments):
            self._check_choice(override)
        with _as_config_error(arguments):
            return compose(CONFIG_NAME, overrides=[*self._search_path, *arguments])

    def with_source(self, error: ConfigError, arguments: list[str]) -> ConfigError:
        """`error`, saying where the value is from if not the command line but a preset set it."""
        values, key = _unresolved(self.compose(arguments)), error.key
        if key not in values:
            return error
        if values[key] == _unresolved(self.compose(self.without(arguments))).get(key):
            return error
        preset = self.chosen("preset", arguments)
        source = "the stored run" if preset == STORED else f"the preset {preset}"
        hint = f"{error.hint}; " if error.hint else ""
        hint += f"{source} sets it: add {key}=..."
        return ConfigError(key, error.given, error.allowed, hint)

    def without(self, arguments: list[str], *keys: str) -> list[str]:
        """The arguments but for these keys, deletions and the preset."""
        taken = {*keys, "preset"}
        overrides = [each for each in self.parse(arguments) if not each.is_delete()]
        others = [each.input_line or "" for each in overrides if each.key_or_group not in taken]
        return [*others, f"preset={NO_PRESET}"]

    def chosen(self, group: str, arguments: list[str]) -> str:
        """The file of this group that the configuration of these arguments is made of."""
        overrides = [*self._search_path, *arguments]
        composed = compose(CONFIG_NAME, overrides, return_hydra_config=True)
        return composed.hydra.runtime.choices[group]

    def options(self, group: str) -> list[str]:
        """The files that there are in this group."""
        return self._loader.get_group_options(group, overrides=self._search_path)

    def _is_choice(self, override: Override) -> bool:
        """Whether it chooses a file instead of setting a value."""
        return override.key_or_group in self.groups

    def _parse(self, argument: str) -> Override:
        try:
            (override,) = self._parser.parse_overrides([argument])
        except OverrideParseException as error:
            key, value = _key_and_value(argument)
            if "=" not in argument:
                raise ConfigError("command line", argument, "key=value") from error
            hint = f"{first_line(error)}; put quotes around text that is not a plain word"
            raise ConfigError(key, value, "a value that Hydra can read", hint) from error
        return override

    def _check_choice(self, override: Override) -> None:
        """Hydra takes an unknown choice of an optional group for none at all."""
        if not self._is_choice(override) or override.is_delete():
            return
        group, chosen = override.key_or_group, override.value()
        choices = self.options(group)
        for choice in chosen if isinstance(chosen, list) and group in _SEVERAL else [chosen]:
            if choice not in choices:
                hints = [did_you_mean(choice, choices)]
                if group == "preset":
                    hints.append(f"preset={NO_PRESET} goes without one")
                hint = " ".join(each for each in hints if each)
                raise ConfigError(group, choice, f"one of {', '.join(choices)}", hint)


@contextmanager
def composing(config_dir: str | None = None) -> Iterator[Composer]:
    """A `Composer` over this project's `configs/`, and over `config_dir` before it."""
    search_path = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(str(CONFIG_DIR), version_base=VERSION_BASE):
        yield Composer(search_path)


def store(values: dict[str, Any]) -> None:
    """Make `values` the preset `STORED`: plain data, whatever its text looks like."""
    ConfigStore.instance().store(STORED, _escaped(values), group="preset", package="_global_")


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data, interpolations resolved."""
    for key, value in _unresolved(config).items():
        if value == "???":
            raise ConfigError(key, None, "a value", f"it has no default: add {key}=...")
    with _naming_the_key(config):
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]  # a dict, since a config is one


def resolved(config: DictConfig, key: str) -> Any:
    """The value of one key, interpolations resolved."""
    with _naming_the_key(config):
        return OmegaConf.select(config, key)


@contextmanager
def _naming_the_key(config: DictConfig) -> Iterator[None]:
    try:
        yield
    except OmegaConfBaseException as error:
        key, given = error.full_key or "", _unresolved(config).get(error.full_key or "")
        raise ConfigError(key, given, "a value that resolves", first_line(error)) from error


def _unresolved(config: DictConfig) -> dict[str, Any]:
    return leaves(OmegaConf.to_container(config))  # type: ignore[arg-type]  # likewise


def _escaped(value: Any) -> Any:
    """`value` such that OmegaConf resolves no interpolation in it."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, str):  # backslashes escape a "${", and one another in front of one
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return value


def _key_and_value(argument: str) -> tuple[str, str]:
    key, _, value = argument.partition("=")
    return key.lstrip("+~"), value


@contextmanager
def _as_config_error(arguments: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of Hydra, and what it lets through: ValueError, YAML's own
        causes = "; ".join(first_line(e) for e in (error, error.__cause__) if e)
        allowed = "overrides that can be composed"
        raise ConfigError("command line", arguments, allowed, causes) from error


def first_line(error: BaseException) -> str:
    """The gist of an exception whose text goes on with hints for developers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
