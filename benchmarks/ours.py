"""This project, by its public parts: what `scripts/train.py` runs, without its files."""

from __future__ import annotations

import torch
from common import ENV_ID, Marks, read_settings
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers import Stage
from trainers.build import build
from trainers.config import EnvConfig, NetworkConfig, PPOConfig, SACConfig, TrainConfig
from trainers.hooks import LogEpisodes, LogLosses, WriteMetrics

settings = read_settings()
if settings.algo == "sac":
    activation = "relu"
    algo = SACConfig(
        lr=settings.lr,
        gamma=settings.gamma,
        batch_size=settings.batch_size,
        tau=settings.tau,
        buffer_size=settings.buffer_size,
        init_random_frames=settings.warm_up,
        utd_ratio=settings.updates_per_frame,
        num_critics=2,
        alpha_init=1.0,
        max_grad_norm=None,  # the others have no such option
    )
else:
    activation = "tanh"
    algo = PPOConfig(
        lr=settings.lr,
        lr_schedule="constant",
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        recompute_advantage=False,  # the others do it once a rollout
        normalize_advantage=True,
        frames_per_batch=settings.frames_per_batch,
        num_epochs=settings.num_epochs,
        minibatch_size=settings.batch_size,
        clip_epsilon=settings.clip_epsilon,
        clip_value=False,
        critic_coeff=settings.critic_coeff,
        entropy_coeff=settings.entropy_coeff,
        max_grad_norm=settings.max_grad_norm,
        normalize_observation=False,
        normalize_reward=False,
    )
config = TrainConfig(
    algo=algo,
    # Not staggered: the others do not cut their first episodes.
    env=EnvConfig(id=ENV_ID, name=ENV_ID, num_envs=settings.num_envs, stagger=False),
    network=NetworkConfig(hidden=settings.hidden, activation=activation),
    total_frames=settings.total_frames,
    seed=settings.seed,
    device="cpu",
)
built = build(config)
trainer, policy = built.trainer, built.policy


@torch.no_grad()
def act(observation):
    """The deterministic policy."""
    data = TensorDict({"observation": torch.from_numpy(observation).float()})
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(data)["action"].numpy()


def take_mark(trainer, rollout):
    """All updates on the frames so far are made."""
    if marks(trainer.frames, lambda: trainer.updates, act):
        trainer.stop("the evaluation has passed")


# The others keep episode returns and losses in memory as well.
trainer.register_hook(Stage.POST_COLLECT, LogEpisodes())
trainer.register_hook(Stage.POST_OPTIM, LogLosses())
trainer.register_hook(Stage.POST_STEPS, WriteMetrics([], interval=1_000))
trainer.register_hook(Stage.POST_STEPS, take_mark)
marks = Marks(settings)
trainer.train()
marks.print()
