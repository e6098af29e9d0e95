"""Going on with a stored run: its configuration, and what may differ from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainers.config.composer import NO_PRESET, STORED, Composer, store
from trainers.config.errors import ConfigError, cut, show
from trainers.config.schema import leaves
from trainers.config.train import TrainConfig

# What says how to resume is no part of the run; when to stop early was for an earlier command.
_OWN = ("run_dir", "resume", "resume_override")
_PER_COMMAND = (*_OWN, "stop_at", "max_seconds")

# What may change without the run becoming another one: a key, or a section and all in it.
_FREE = {
    *("stop_at", "max_seconds", "device", "threads", "capture", "plugins", "hooks"),
    "progress",
    *("env.worker_timeout_s", "env.worker_restarts"),
    *("log", "eval", "checkpoint", "report", "early_stop", "logger"),
}


def on_top_of(
    stored: TrainConfig, composer: Composer, arguments: list[str], again: bool
) -> list[str]:
    """The arguments that compose `arguments` on top of the stored configuration.

    It takes the place of the preset, so the command line wins over it. A group that the command
    line chooses anew replaces the stored section whole. `again` says that it is the command that
    started the run, so a preset in it is one that the stored values contain.
    """
    overrides = composer.parse(arguments)
    chosen = {o.key_or_group: o.value() for o in overrides if o.key_or_group in composer.groups}
    if chosen.get("preset", NO_PRESET) not in (NO_PRESET, None) and not again:  # None: ~preset
        raise ConfigError("preset", chosen["preset"], "none with resume", "stored values apply")
    values = _taken_over(stored)
    for group, name in (("algo", stored.algo.name), ("env", stored.env.name), ("logger", None)):
        if group in chosen and chosen[group] != name:
            del values[group]
    store(values)
    base = {"algo": stored.algo.name, "env": "gym"}
    choices = [f"{group}={name}" for group, name in base.items() if group not in chosen]
    own = [o.input_line or "" for o in overrides if o.key_or_group != "preset"]
    return [*choices, f"preset={STORED}", *own]


def _taken_over(stored: TrainConfig) -> dict[str, Any]:
    """The part of a stored configuration that holds for a resumed run.

    Plugins are code: whoever resumes must name them again, a file cannot have them imported.
    """
    values = stored.to_dict()
    for key in (*_PER_COMMAND, "plugins"):
        del values[key]
    return values


def check_plugins(stored: Sequence[str], given: Sequence[str]) -> None:
    """Raise a `ConfigError` if a run was started with plugins and none are given again."""
    if stored and not given:
        again = f"plugins=[{','.join(stored)}]"
        hint = f"add {again}: modules named in a stored file are not imported"
        raise ConfigError("plugins", [], "the plugins that the run was started with", hint)


def changes(stored: TrainConfig, config: TrainConfig) -> list[str]:
    """What `config` changes, a line each; `ConfigError` unless all of it is allowed."""
    check_plugins(stored.plugins, config.plugins)
    before = leaves(_taken_over(stored) | {"plugins": stored.plugins})
    after = leaves(config.to_dict())
    keys = dict.fromkeys([*before, *after])
    changed = [key for key in keys if key not in _OWN and before.get(key) != after.get(key)]
    scheduled = stored.algo.has_schedule() or config.algo.has_schedule()
    free = _FREE if scheduled else _FREE | {"total_frames"}
    refused = [key for key in changed if not {key, key.split(".")[0]} & free]
    if refused and not config.resume_override:
        raise _refusal(refused, before, after)
    return [f"{key}: {show(before.get(key))} -> {show(after.get(key))}" for key in changed]


def _refusal(keys: list[str], before: dict[str, Any], after: dict[str, Any]) -> ConfigError:
    given, was, it = _listed(keys, after), _listed(keys, before), "them"
    if len(keys) == 1:
        given, was, it = after.get(keys[0]), show(before.get(keys[0])), "it"
    allowed, hint = f"{was}, which the run was started with", f"resume_override=true changes {it}"
    return ConfigError(", ".join(keys), given, allowed, hint)


def _listed(keys: list[str], values: dict[str, Any]) -> str:
    """`values` of these keys, text without quotes: they are around all of it."""
    each = {key: values.get(key) for key in keys}
    return cut(" ".join(f"{k}={v if isinstance(v, str) else show(v)}" for k, v in each.items()))
