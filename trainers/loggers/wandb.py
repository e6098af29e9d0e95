"""Weights & Biases, with or without a network."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.config import WandbConfig

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger("trainers")

# Seconds without an answer from the server before a start goes offline, an end gives up.
WANDB_TIMEOUT = 20


class WandbLogger:
    """Sends the lines to Weights & Biases, drawn over `frames`; offline without key or network.

    It never prompts and never raises: after the first failure it says so and does nothing more.
    The run's id is kept in `run_dir/wandb_id`, so that a resumed run goes on under the same one
    (offline: in a further directory `run_dir/wandb/offline-run-*`, to be sent by `wandb sync`).
    """

    def __init__(self, config: WandbConfig, run_dir: Path, run_config: Mapping[str, Any]) -> None:
        self._start = partial(_start_wandb, config, run_dir, run_config)
        self._run: Run | None = None

    def start(self) -> None:
        """Begin the run there, or go on with it."""
        with self._inert_on_error():
            self._run = self._start()
            self._run.define_metric("frames")
            self._run.define_metric("*", step_metric="frames")

    def write(self, line: Mapping[str, float | int]) -> None:
        if self._run is not None:
            with self._inert_on_error():
                self._run.log(dict(line))

    def write_video(self, name: str, path: Path, frames: int) -> None:
        """Raises what wandb raises: without a film the lines can still be sent."""
        if self._run is not None:
            import wandb

            self._run.log({"frames": frames, name: wandb.Video(str(path))})

    def close(self) -> None:
        if self._run is not None:
            with self._inert_on_error():
                self._run.finish()
        self._run = None

    @contextmanager
    def _inert_on_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever wandb comes up with, the run is worth more
            self._run = None
            log.warning("no more logging to Weights & Biases: %s", _describe(error))


def _start_wandb(config: WandbConfig, run_dir: Path, run_config: Mapping[str, Any]) -> Run:
    import wandb  # takes a second: only for those who use it

    settings = wandb.Settings(
        silent=True,  # the terminal is the progress bar's
        console="off",
        init_timeout=WANDB_TIMEOUT,
        finish_timeout=WANDB_TIMEOUT,
    )
    # wandb writes what it has every 15 seconds, and a killed run takes with it what is not written.
    # The setting is no part of its promised interface: a version may lack it.
    if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
        settings.x_transaction_log_flush_interval = 1.0
    wandb.setup(settings)  # before the first chance to print or to prompt
    run_id = _wandb_id(run_dir)

    def start(mode: str) -> Run:
        return wandb.init(
            dir=run_dir.resolve(),  # wandb's service may have started in another directory
            id=run_id,
            resume="allow",
            reinit="create_new",  # trainers side by side in one process get a run each
            project=config.project,
            entity=config.entity,
            group=config.group,
            name=config.name or run_dir.name,
            tags=config.tags,
            config=dict(run_config),
            mode=mode,  # type: ignore[arg-type]  # checked by the configuration
            settings=settings,
        )

    mode = os.environ.get("WANDB_MODE", "auto") if config.mode == "auto" else config.mode
    if mode not in ("auto", "online"):
        return start(mode)
    try:
        if wandb.login(prompt=False, verify=False):
            return start("online")
        reason = "there is no API key"
    except Exception as error:
        reason = _describe(error)
        wandb.teardown()  # else the id counts as taken
    log.log(
        logging.WARNING if mode == "online" else logging.INFO,
        "Weights & Biases is offline (`wandb sync %s` sends it later): %s",
        *(run_dir / "wandb" / f"offline-run-*-{run_id}", reason),
    )
    return start("offline")


def _wandb_id(run_dir: Path) -> str:
    """The id of the run, made up and written down at its first start."""
    path = run_dir / "wandb_id"
    if path.exists():
        run_id = path.read_text(errors="replace").strip()
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id):
            return run_id
        log.warning("%s holds no valid id: Weights & Biases gets a new run", path)
    run_id = secrets.token_hex(4)
    path.write_text(run_id + "\n")
    return run_id


def _describe(error: Exception) -> str:
    """The error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
