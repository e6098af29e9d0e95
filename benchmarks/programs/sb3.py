"""Stable-Baselines3, or with `jax` its version in JAX (SBX), which is called the same."""

from __future__ import annotations

import numpy as np
from common import Marks, read_settings
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise

settings = read_settings()
if settings.jax:
    from flax import linen
    from sbx import DDPG, PPO, SAC, TD3

    relu, tanh = linen.relu, linen.tanh
else:
    from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3
    from torch import nn

    relu, tanh = nn.ReLU, nn.Tanh


def count_updates() -> int:
    """Steps of the critics' optimizer, or of PPO's: SB3 itself counts PPO's epochs instead."""
    on_policy = settings.algo == "ppo"
    if settings.jax:
        return int((model.policy.actor_state if on_policy else model.policy.qf_state).step)
    optimizer = (model.policy if settings.algo in ("ppo", "dqn") else model.critic).optimizer
    return next((int(state["step"]) for state in optimizer.state.values()), 0)


class TakeMarks(BaseCallback):
    """At the beginning of a rollout all updates on the frames before it are made."""

    def _on_training_start(self) -> None:
        self.marks = Marks(settings)  # `learn` has made and reset the environments by then
        self.reached = False
        # HalfCheetah's episodes have 1,000 frames; CartPole's have any number.
        self.line_due = 1_000 if settings.algo == "dqn" else float("inf")

    def _on_rollout_start(self) -> None:
        act = lambda observation: model.predict(observation, deterministic=True)[0]  # noqa: E731  # handed on once
        self.reached = self.marks(self.num_timesteps, count_updates, act)
        if self.num_timesteps >= self.line_due:
            self.line_due += 1_000
            self.model.dump_logs()

    def _on_step(self) -> bool:
        return not self.reached

    def _on_training_end(self) -> None:
        self.marks(self.num_timesteps, count_updates)
        self.marks.print()


env = make_vec_env(settings.env_id, n_envs=settings.num_envs, seed=settings.seed)
common = {
    "env": env,
    "learning_rate": settings.lr,
    "gamma": settings.gamma,
    "batch_size": settings.batch_size,
    "seed": settings.seed,
    "device": "cpu",
    "verbose": 0,
}
if settings.algo == "sac":
    model = SAC(
        "MlpPolicy",
        tau=settings.tau,
        buffer_size=settings.buffer_size,
        learning_starts=settings.warm_up,
        # A "step" of train_freq is one of the vector: num_envs frames, then as many updates.
        train_freq=(1, "step"),
        gradient_steps=settings.num_envs * settings.updates_per_frame,
        ent_coef="auto",  # from 1.0, towards minus the number of action dimensions
        target_entropy="auto",
        policy_kwargs={"net_arch": settings.hidden, "activation_fn": relu, "n_critics": 2},
        **common,
    )
elif settings.algo in ("td3", "ddpg"):
    # To them DDPG is TD3 without its delay, its smoothing and its second critic.
    twins = settings.algo == "td3"
    own = {"qf_learning_rate": settings.lr} if settings.jax else {}  # SBX has another
    if twins:
        own |= {
            "policy_delay": settings.policy_delay,
            "target_policy_noise": settings.policy_noise,
            "target_noise_clip": settings.noise_clip,
        }
    shape = env.action_space.shape
    model = (TD3 if twins else DDPG)(
        "MlpPolicy",
        action_noise=NormalActionNoise(np.zeros(shape), np.full(shape, settings.exploration_noise)),
        tau=settings.tau,
        buffer_size=settings.buffer_size,
        learning_starts=settings.warm_up,
        train_freq=(1, "step"),
        gradient_steps=settings.num_envs * settings.updates_per_frame,
        policy_kwargs={
            "net_arch": settings.hidden,
            "activation_fn": relu,
            "n_critics": 2 if twins else 1,
        },
        **own,
        **common,
    )
elif settings.algo == "dqn":
    frames = settings.frames_per_batch
    model = DQN(
        "MlpPolicy",
        tau=settings.tau,
        buffer_size=settings.buffer_size,
        learning_starts=settings.warm_up,
        train_freq=(frames, "step"),
        gradient_steps=round(frames * settings.updates_per_frame),
        target_update_interval=settings.frames_per_target_update,
        exploration_initial_eps=settings.epsilon_start,
        exploration_final_eps=settings.epsilon_end,
        exploration_fraction=settings.exploration_fraction,
        max_grad_norm=settings.max_grad_norm,
        policy_kwargs={"net_arch": settings.hidden, "activation_fn": relu},
        **common,
    )
else:
    model = PPO(
        "MlpPolicy",
        n_steps=settings.frames_per_batch // settings.num_envs,  # of each environment
        n_epochs=settings.num_epochs,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_epsilon,
        clip_range_vf=None,
        normalize_advantage=True,
        ent_coef=settings.entropy_coeff,
        vf_coef=settings.critic_coeff,
        max_grad_norm=settings.max_grad_norm,
        policy_kwargs={"net_arch": settings.hidden, "activation_fn": tanh},
        **common,
    )
model.set_logger(configure("run", ["json"]))
# As often as ours: every 1,000 frames, which are an episode, or every rollout with PPO.
episodes = None if settings.algo == "dqn" else 1
model.learn(settings.total_frames, callback=TakeMarks(), log_interval=episodes)
