"""Is the environment one of the file that was chosen for it? It names the preset and the run."""

from __future__ import annotations

import re

from trainers.config.composer import Composer, resolved
from trainers.config.errors import ConfigError
from trainers.config.sections import EnvConfig


def check_env_file(env: EnvConfig, composer: Composer, arguments: list[str]) -> None:
    """Raise a `ConfigError` if `env.id=` was given that is of another environment than the file.

    Another version of it will do, and a file without an id (env=gym, env=atari) takes any.
    """
    if "env.id" not in {override.key_or_group for override in composer.parse(arguments)}:
        return
    own = _id_in_file(composer, arguments)
    if own is None or _without_version(own) == _without_version(env.id):
        return
    file = composer.chosen("env", arguments)
    allowed = f"a version of {_without_version(own)} with env={file}"
    raise ConfigError("env.id", env.id, allowed, f"use {_right(env, composer)}")


def _id_in_file(composer: Composer, arguments: list[str]) -> str | None:
    return resolved(composer.compose(composer.without(arguments, "env.id")), "env.id")


def _right(env: EnvConfig, composer: Composer) -> str:
    """What to type for `env`."""
    given = f"env.id={env.id}"
    of_any = f"env={'atari' if env.is_game else 'gym'} {given}"
    name = _without_version(env.id).rpartition("/")[2]
    if name not in composer.options("env"):
        return of_any
    own = _id_in_file(composer, [f"env={name}"])
    if own is None or _without_version(own) != _without_version(env.id):
        return of_any
    return f"env={name}, or {of_any}" if own == env.id else f"env={name} {given}, or {of_any}"


def _without_version(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id)
