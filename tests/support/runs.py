"""Small runs that are over, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.build import Built, build
from trainers.config import TrainConfig, save_config
from trainers.observe import observe


def trained(config: TrainConfig, run_dir: Path) -> Built:
    """Train in ``run_dir``, as `scripts/train.py` does; what was trained."""
    built = build(config)
    run_dir.mkdir(parents=True)
    observe(built, config, run_dir)
    save_config(config, run_dir / "config.yaml")
    built.trainer.train()
    return built


def likeliest(policy: Any, observations: np.ndarray) -> np.ndarray:
    """The policy's deterministic actions."""
    data = TensorDict({"observation": torch.from_numpy(observations)}, [len(observations)])
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(data)["action"].numpy()


def some_observations(policy_inputs: int, number: int = 20) -> np.ndarray:
    """Numbers that are no observation of an environment in particular."""
    return 3 * np.random.default_rng(0).normal(size=(number, policy_inputs)).astype(np.float32)
