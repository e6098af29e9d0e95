"""One training run, from a checked configuration to an exit code."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.commands import as_value, command
from trainers.config import ConfigError, TrainConfig, load_config, save_config
from trainers.config.env_id import check_env_id
from trainers.config.resume import changes
from trainers.config.run_dir import CONFIG_FILE
from trainers.config.writable import check_writable
from trainers.errors import NonFiniteError, innermost_reason
from trainers.plugins import load_plugins
from trainers.run_log import logging_to
from trainers.signals import stop_on_signals

if TYPE_CHECKING:
    from trainers.build import Built
    from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

FINISHED, FAILED, STOPPED = 0, 1, 75


def run(config: TrainConfig, run_dir: Path, resume_from: Path | None) -> int:
    """Train as configured, in ``run_dir``; the exit code.

    Args:
        config: a valid configuration.
        run_dir: made if it does not exist.
        resume_from: the run or the checkpoint to go on from; None starts anew.

    Raises:
        ConfigError: the input is wrong in a way that only shows now; nothing was written, but for
            the reason in the `train.log` of a run that could not be resumed.
    """
    # A fixed number of threads, since sums of floats depend on it; read when torch is loaded.
    os.environ["OMP_DYNAMIC"] = os.environ["MKL_DYNAMIC"] = "false"
    # Numpy in this process and those it starts: there is nothing to multiply but small matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    set_up_torch(config)
    load_plugins(config.plugins)
    check_env_id(config.env)
    from trainers.build import build
    from trainers.observe import observe

    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it tells of every buffer it makes
    if resume_from == run_dir and (end := _finished(config, run_dir)) is not None:
        print(f"{run_dir} is finished: {end}", file=sys.stderr)
        return FINISHED
    check_writable("run_dir", run_dir)
    built = build(config)
    with logging_to(run_dir / "train.log"):
        try:
            checkpoint = observe(built, config, run_dir)
        except ValueError as error:
            allowed = "hooks whose names are not taken yet"
            raise ConfigError("hooks", config.hooks, allowed, str(error)) from error
        trainer = built.trainer
        if resume_from is not None:
            _resume(built, resume_from, run_dir)
        # Only now: a resume that failed leaves the configuration it could not follow as it was.
        _write_down(config, run_dir / CONFIG_FILE)
        logger.info(_greeting(config, run_dir, trainer))
        if built.memory:
            logger.info(built.memory)
        logger.debug("%s", trainer)
        warm_up = getattr(config.algo, "init_random_frames", 0)
        if warm_up >= trainer.end:
            logger.warning("NOTHING WILL BE LEARNT: algo.init_random_frames=%d", warm_up)
        try:
            with stop_on_signals(trainer):
                trainer.train()
        except KeyboardInterrupt as error:
            logger.error(
                "%s: ended at once; resume=%s goes on from the last checkpoint", error, run_dir
            )
            sys.exit(FAILED)  # past Hydra: a sweep ends as well
        except Exception as error:
            logger.debug("the run ended with an error", exc_info=True)
            logger.error("%s: %s", type(error).__name__, error)
            if isinstance(error, NonFiniteError) and error.evidence:
                _keep_evidence(error, trainer, run_dir)
            logger.error(
                "ended at frame %d, update %d; the traceback is in %s; resume=%s goes on from the "
                "last checkpoint", trainer.frames, trainer.updates, run_dir / "train.log", run_dir
            )  # fmt: skip
            return FAILED
        logger.info(_farewell(config, run_dir, trainer, resumable=not checkpoint.failed))
        if checkpoint.failed:
            return FAILED
        for place in _to_look_at(config, run_dir):
            logger.info(place)
        return STOPPED if trainer.interrupted else FINISHED


def set_up_torch(config: TrainConfig) -> None:
    """What this process computes with; to be called before torch has made its threads."""
    import numpy as np
    import torch

    # Kept by numpy: up to version 2.3 it would warn, below, that there are no such numbers.
    _ = np.finfo(np.float16), np.finfo(np.float32), np.finfo(np.float64)
    # Adam's moments of units that are never active fade to denormal numbers, which take a processor
    # many times as long as others. Threads take this from the one that makes them.
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision(config.matmul_precision)
    # Networks of this size gain nothing from more than four.
    torch.set_num_threads(config.threads or min(4, len(os.sched_getaffinity(0))))


def _end(config: TrainConfig) -> int:
    return min(config.total_frames, config.stop_at or config.total_frames)


def _finished(config: TrainConfig, run_dir: Path) -> str | None:
    """How a finished run ended; None if there is something left to do.

    Its last line is the evaluation of its final policy, which is saved with every update made.
    """
    from trainers.hooks.checkpointing import checkpoints
    from trainers.saving.checkpoint import CheckpointError, load_plain

    try:
        last: dict[str, Any] = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
        state = load_plain(checkpoints(run_dir / "checkpoints")[0])
    except (OSError, IndexError, ValueError, CheckpointError):
        return None
    # Killed before the last checkpoint, or there was no room for it.
    if state["clock"]["frames"] != last["frames"] or "eval/episode_return" not in last:
        return None
    if state["rollout"] is not None:  # stopped between two updates: the others are still owed
        return None
    if last["frames"] >= _end(config):
        return f"{_end(config)} frames"
    reason = _early_stop(config, state)
    return None if reason is None else f"{last['frames']} frames, {reason}"


def _early_stop(config: TrainConfig, state: dict[str, Any]) -> str | None:
    """Why the run is over in this state by what is configured now; None if it is not."""
    from trainers.hooks import EarlyStop, WriteMetrics

    if "early_stop" not in state["hooks"]:
        return None
    early_stop = EarlyStop(WriteMetrics([], interval=0), config.early_stop)
    early_stop.load_state_dict(state["hooks"]["early_stop"])
    return early_stop.reason


def _resume(built: Built, source: Path, run_dir: Path) -> None:
    from trainers.hooks.checkpointing import checkpoints, load_first

    directory = run_dir / "checkpoints"
    candidates = checkpoints(directory) if source == run_dir else [source]
    found = load_first(candidates)
    if found is not None:
        _load(built, *found)
        for later in checkpoints(directory):
            if later.name > found[0].name:
                _pass_over(later, damaged=source == run_dir)
    elif candidates:
        damaged = "all of its checkpoints are damaged" if source == run_dir else "it is damaged"
        hint = f"{damaged}, see above; to start anew, take another run_dir"
        raise ConfigError("resume", str(source), "an intact checkpoint", hint)
    else:
        logger.warning("%s holds no checkpoint yet: the run starts from frame 0", run_dir)
        for stale in (run_dir / "metrics.jsonl", *(run_dir / "tensorboard").glob("*")):
            stale.unlink(missing_ok=True)


def _load(built: Built, checkpoint: Path, state: dict[str, Any]) -> None:
    trainer = built.trainer
    try:
        with built.keeping_settings():
            trainer.load_state_dict(state)
    except Exception as error:
        logger.debug("%s cannot be loaded", checkpoint, exc_info=True)
        raise ConfigError(
            "resume",
            str(checkpoint),
            "an intact checkpoint of the networks and hooks that are configured",
            innermost_reason(error),
        ) from error
    logger.info("resumed from %s: frame %d, update %d", checkpoint, trainer.frames, trainer.updates)


def _pass_over(later: Path, damaged: bool) -> None:
    """A checkpoint of frames that will be gone through again."""
    logger.warning("%s is passed over: the run goes on from before it", later)
    # It may only not be readable just now; else it goes once there is another one.
    aside = later.with_name(f"{'damaged' if damaged else 'later'}-{later.name}")
    shutil.rmtree(aside, ignore_errors=True)
    later.rename(aside)


def _write_down(config: TrainConfig, path: Path) -> None:
    """The configuration, where it is another one than is there; a run that goes on can do without.

    The terminal has shown what this command changes.
    """
    if path.is_file():
        stored = load_config(path)
        for change in changes(stored, config):
            logger.debug("changed by this command: %s", change)
        if config == stored:
            return
    try:
        save_config(config, path)
    except OSError as error:
        if not path.is_file():
            allowed = "a directory that can be written to"
            raise ConfigError("run_dir", str(path.parent), allowed, str(error)) from error
        logger.warning("%s stays as it was, give what you change again: %s", path, error)


def _keep_evidence(error: NonFiniteError, trainer: Trainer, run_dir: Path) -> None:
    """What was not finite, in a directory of its own that is like a checkpoint."""
    from trainers.saving import checkpoint

    path = run_dir / "non_finite" / f"{trainer.frames:010d}-{trainer.updates:010d}"
    counters = {"frames": trainer.frames, "updates": trainer.updates}
    try:
        checkpoint.save(path, {"what": str(error), **counters, "evidence": error.evidence})
        logger.error("what it was met in is kept in %s", path)
    except FileExistsError:
        logger.error("what it was met in is the same as before: see %s", path)
    except (OSError, TypeError) as failure:
        logger.error("what it was met in could not be kept in %s: %s", path, failure)


def _greeting(config: TrainConfig, run_dir: Path, trainer: Trainer) -> str:
    import torch

    device = next(iter(trainer.phases[0].parameters())).device
    threads = torch.get_num_threads()
    return (
        f"{config.about}, seed {config.seed}, "
        f"frames {trainer.frames} to {_end(config)}, {device}, "
        f"{threads} thread{'s' * (threads > 1)}; everything goes to {run_dir}"
    )


def _farewell(config: TrainConfig, run_dir: Path, trainer: Trainer, resumable: bool) -> str:
    why = f" ({trainer.stop_reason})" if trainer.stop_reason else ""
    end = f"ended at frame {trainer.frames}, update {trainer.updates}{why}"
    if not resumable:
        return f"{end}; THE LAST CHECKPOINT COULD NOT BE WRITTEN, see train.log"
    if trainer.complete and not trainer.interrupted:
        return f"{end}; metrics in {run_dir / 'metrics.jsonl'}"
    again = command("train.py", f"resume={as_value(run_dir)}", plugins=config.plugins)
    return f"{end}; go on with: {again}"


def _to_look_at(config: TrainConfig, run_dir: Path) -> Iterator[str]:
    """Where to see what has come of the run; only what is there."""
    page, best = run_dir / "report.html", run_dir / "best"
    if config.report.interval_s > 0 and page.is_file():  # else it may be an old one
        yield f"report: {page}"
    if best.is_dir():
        yield f"best policy: {best}{_achieved(best)}"
    arguments = [f"run_dir={as_value(run_dir)}"]
    if not best.is_dir():
        arguments.append("which=latest")
    if films := find_spec("av") is not None:
        arguments.append("video=true")
    line = command("evaluate.py", *arguments, plugins=config.plugins)
    yield f"film: {line}" if films else f"evaluation: {line}"


def _achieved(best: Path) -> str:
    from trainers.saving.checkpoint import CheckpointError, load_plain

    try:
        state = load_plain(best)
    except CheckpointError:
        return ""
    return f" (return {state['eval/episode_return']:.6g} at frame {state['frames']})"
