"""The policy of a run directory: rebuilt as it was configured, with the weights it was left with.

Nothing depends on where the run was trained: a copy of the run directory serves, and so does one of
a single checkpoint, as long as the run's ``config.yaml`` is copied along, into it or beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainers.config import ConfigError, TrainConfig, load_config
from trainers.config.env_id import check_env_id
from trainers.config.resume import check_plugins
from trainers.config.run_dir import CONFIG_FILE, why_no_run
from trainers.errors import innermost_reason
from trainers.plugins import load_plugins

if TYPE_CHECKING:
    from torch import nn

    from trainers.build import Built
    from trainers.environments.envs import Envs

Which = Literal["best", "latest"]


@dataclass(frozen=True)
class LoadedPolicy:
    """A trained policy, on the CPU, and what belongs to it."""

    policy: nn.Module
    """Called on a TensorDict with ``observation``; writes ``action``. In evaluation mode."""
    envs: Envs
    """One environment of the kind it was trained in, stepped in this process. Close it."""
    config: TrainConfig
    """The run's, as it is stored."""
    frames: int
    """After how many frames of training it was saved."""
    source: Path
    """The directory that its weights are from."""


def locate_run(run_dir: Path) -> tuple[Path, Path | None]:
    """The directory with the run's configuration, and the checkpoint if ``run_dir`` is one.

    Raises:
        ConfigError: it is neither a run directory nor a checkpoint with a configuration.
    """
    is_checkpoint = (run_dir / "manifest.json").is_file()
    if is_checkpoint and run_dir.name in ("", ".."):
        run_dir = run_dir.resolve()  # files are named after it
    checkpoint = run_dir if is_checkpoint else None
    places = [run_dir]
    if is_checkpoint:
        absolute = run_dir.absolute()
        places += [absolute.parent]
        places += [absolute.parent.parent] * (absolute.parent.name == "checkpoints")
    for place in places:
        if (place / CONFIG_FILE).is_file():
            return place, checkpoint
    beside = f"the run's {CONFIG_FILE} is neither in it nor beside it"
    why = beside if is_checkpoint else why_no_run(run_dir)
    raise ConfigError("run_dir", str(run_dir), "a run directory or a checkpoint of one", why)


def check_run(run_dir: Path, which: Which, plugins: Sequence[str] = ()) -> TrainConfig:
    """The configuration of the run, after every check of :func:`load_policy` without torch.

    Raises:
        ConfigError: as :func:`load_policy`.
    """
    place, checkpoint = locate_run(run_dir)
    config = load_config(place / CONFIG_FILE)
    check_plugins(config.plugins, plugins)
    if checkpoint is None:
        there = [name for name in ("best", "latest") if _saved(place, name)]
        if not there:
            allowed = "a run that has saved a policy"
            raise ConfigError("run_dir", str(run_dir), allowed, "it has no checkpoint yet")
        if which not in there:
            raise ConfigError("which", which, there[0], f"there is no other in {run_dir}")
    return config


def _saved(run_dir: Path, which: str) -> bool:
    if which == "best":
        return (run_dir / "best").is_dir()
    return any(_checkpoints_in(run_dir).glob("[0-9]*"))


def _checkpoints_in(run_dir: Path) -> Path:
    """Where its checkpoints are: beside the configuration if they were copied alone."""
    usual = run_dir / "checkpoints"
    return usual if usual.is_dir() else run_dir


def load_policy(run_dir: Path, which: Which = "best", plugins: Sequence[str] = ()) -> LoadedPolicy:
    """Rebuild the policy of a run.

    Args:
        run_dir: what ``scripts/train.py`` left, a copy of it, or a checkpoint (see above), which
            has one policy, whatever ``which`` says.
        which: ``best`` by evaluation, or ``latest``: of the newest intact checkpoint.
        plugins: modules to import; those that the run was started with have to be named again.

    Raises:
        ConfigError: it is no run, nothing usable was saved in it, its plugins are not given, its
            environment cannot be made, or the weights do not fit the networks in its configuration.
    """
    config = check_run(run_dir, which, plugins)
    load_plugins(plugins)
    check_env_id(config.env)
    from trainers.build import build

    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it tells of every buffer it makes
    # Hooks of the user's have nothing to do here: no loop will run.
    env = replace(config.env, backend="sync", num_envs=1)
    built = build(replace(config, env=env, device="cpu", hooks=[]), will_train=False)
    envs: Envs = built.trainer.collector.envs
    try:
        source = _source(run_dir, which)
        frames = _load_weights(built, source, config)
    except BaseException:
        envs.close()
        raise
    return LoadedPolicy(built.policy.eval(), envs, config, frames, source)


def _source(run_dir: Path, which: Which) -> Path:
    from trainers.hooks.checkpointing import newest_valid

    place, checkpoint = locate_run(run_dir)
    source = checkpoint or (
        place / "best" if which == "best" else newest_valid(_checkpoints_in(place))
    )
    if source is None:
        raise ConfigError("run_dir", str(run_dir), "a run with an intact checkpoint")
    return source


def _load_weights(built: Built, source: Path, config: TrainConfig) -> int:
    """Into the policy; returns the frames it was trained for."""
    from trainers.saving import checkpoint

    try:
        state = checkpoint.load(source)
        kept = "policy" in state  # by an evaluation
        about = (state if kept else state["hooks"].get("evaluation", {})).get("about")
        if about and about != config.about:  # earlier versions did not say
            raise ValueError(f"it is of {about}, {CONFIG_FILE} of {config.about}")
        if kept:
            built.policy.load_state_dict(state["policy"])
            return state["frames"]
        # As a resume does: what a loss trains are the policy's very parameters.
        for phase, saved in zip(built.trainer.phases, state["phases"], strict=True):
            if phase.keeps_loss:
                phase.loss.load_state_dict(saved["loss"])  # type: ignore[attr-defined]  # a module
        return state["clock"]["frames"]
    except Exception as error:
        allowed = f"intact weights of the networks and environment in {CONFIG_FILE}"
        raise ConfigError("run_dir", str(source), allowed, innermost_reason(error)) from error
