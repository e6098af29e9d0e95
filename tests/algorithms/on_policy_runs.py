"""What is asked of every on-policy algorithm's runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers import assert_same, sac_loss, timeless, watched

from trainers import seeding
from trainers.config import TrainConfig
from trainers.trainer import Trainer


def assert_everything_learns(trainer: Trainer) -> None:
    """Every parameter of the loss is optimized, once, and moves."""
    named = dict(sac_loss(trainer).named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    trainer.train()
    (optimizer,) = trainer.phases[0].optimizers
    optimized = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert optimized == sum(parameter.numel() for parameter in named.values())
    still = [name for name, parameter in named.items() if torch.equal(parameter, before[name])]
    assert still == []


def assert_resumes(config: TrainConfig, stop_at: int, tmp_path: Path) -> None:
    """A run that was stopped and resumed is the run that was not, bit for bit."""
    straight, all_lines = watched(config)
    straight.train()
    stopped, first_lines = watched(config)
    stopped.stop_at = stop_at
    stopped.register_hook("checkpoint", lambda t: t.save(tmp_path / "c") if t.ending else None)
    stopped.train()
    assert stopped.frames == stop_at < straight.frames
    seeding.seed_everything(123)
    resumed, more_lines = watched(config)
    resumed.load(tmp_path / "c")
    resumed.train()
    ignored = ("/stopwatch", "/window/seconds")
    assert_same(resumed.state_dict(), straight.state_dict(), ignored)
    lines = timeless(first_lines.lines) + timeless(more_lines.lines)
    assert lines == timeless(all_lines.lines)


def rollouts_of(trainer: Trainer, stage: str) -> list[Any]:
    """Filled with copies of the rollouts, as they are at ``stage``."""
    seen: list[Any] = []
    trainer.register_hook(stage, lambda t, rollout: seen.append(rollout.clone()), name="copies")
    return seen
