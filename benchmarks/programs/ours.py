"""This project, as `scripts/train.py` runs it, with its default metrics in a file.

Equal for everyone: networks and activations; learning rates, discount, Adam (eps 1e-5 for PPO, else
1e-8); SAC's buffer, batches, target networks, warm-up of random actions and one update for each
frame after it, its entropy coefficient from 1.0 towards minus the number of action dimensions;
PPO's rollouts, epochs, minibatches with normalised advantages (made once a rollout), clipping of
ratios and gradients, squared errors of values; nothing else normalised; TD3's delay, noise, and
smoothing of targets; DQN's (not double) rollouts of four frames for an update, epsilon by frames,
clipping of gradients and of errors, targets copied every 256 frames; Gymnasium's
environments in their default wrappers, in one process; threads. Ours, SB3 and SBX write metrics of
episodes and losses to a file of JSON lines, every 1,000 frames or, with PPO, every rollout.

What is left is how a library does it, and no setting of it:

- SB3 and SBX store SAC's observations in float64, the environment's type, and convert each batch;
  we and TorchRL's trainer store float32. They halve the errors of SAC's critics, which Adam undoes,
  and step the critics before the actor's loss is computed, we and TorchRL's trainer after.
- SBX halves the errors of TD3's and DDPG's critics as well. It and SB3 draw noise for the targets
  of DDPG, clipped to 0, and add exploration noise to the random actions of the warm-up.
- SBX moves the targets of TD3 in every update, we and SB3 in every second; its actor goes by the
  least of the critics, the others by the first.
- SBX clips the gradients of PPO's actor and of its critic, the others those of both together.
- SB3 and SBX ask PPO's critic at every step of a rollout, we and TorchRL's trainer all at once.
- SB3 and SBX read losses from every update, we read them for a line.
- Our lines hold more than theirs: rewards, actions, observations. TorchRL's trainers write none
  and know no episodes, but compute the norm of all gradients at every update.
- SB3 and SBX put a Monitor around environments, we a recorder for resuming.
- TorchRL's SACTrainer leaves the frames of the warm-up out of its buffer.
- Weights are drawn as each library does it; only the time to a return could tell.

Algorithms that are measured beside no peer are as shipped, without presets.
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import Marks, read_settings
from configured import configured
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers import Stage
from trainers.build import build
from trainers.observe import observe
from trainers.run import set_up_torch

settings = read_settings()
config = configured(settings)
set_up_torch(config)
built = build(config)
trainer, policy = built.trainer, built.policy


@torch.no_grad()
def act(observation):
    """The deterministic policy."""
    data = TensorDict({"observation": torch.from_numpy(observation).float()})
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(data)["action"].numpy()


def take_mark(trainer, rollout):
    """All updates on the frames so far are made, and their metrics written."""
    if marks(trainer.frames, lambda: trainer.updates, act):
        trainer.stop("the evaluation has passed")


run_dir = Path("run")
run_dir.mkdir()
observe(built, config, run_dir)
trainer.register_hook(Stage.POST_STEPS, take_mark)
marks = Marks(settings)
trainer.train()
marks.print()
