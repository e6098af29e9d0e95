"""TorchRL's own SACTrainer and PPOTrainer, without their logging, progress bar and checkpoints."""

from __future__ import annotations

import warnings

import torch
from common import Marks, read_settings
from tensordict.nn import AddStateIndependentNormalScale, NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SamplerWithoutReplacement, TensorDictReplayBuffer
from torchrl.envs import DoubleToFloat, GymEnv, SerialEnv, TransformedEnv
from torchrl.modules import MLP, IndependentNormal, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss, SACLoss, SoftUpdate
from torchrl.objectives.value import GAE
from torchrl.trainers.algorithms import PPOTrainer, SACTrainer

warnings.simplefilter("ignore", UserWarning)  # that the trainers are experimental
settings = read_settings()
torch.manual_seed(settings.seed)


def make_env():
    """One environment, or several one after the other in this process, as the others have them."""
    if settings.num_envs == 1:
        env = GymEnv(settings.env_id)
    else:
        env = SerialEnv(settings.num_envs, lambda: GymEnv(settings.env_id))
    return TransformedEnv(env, DoubleToFloat())


def mlp(inputs, outputs, activation):
    """A network of the hidden layers that are asked for."""
    cells = settings.hidden
    return MLP(
        in_features=inputs, out_features=outputs, num_cells=cells, activation_class=activation
    )


def actor(net, distribution, **keywords):
    """A stochastic policy whose log-probabilities are in the rollouts if `return_log_prob`."""
    module = TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"])
    return ProbabilisticActor(
        module,
        spec=env.action_spec_unbatched,
        in_keys=["loc", "scale"],
        distribution_class=distribution,
        **keywords,
    )


def make_sac():
    """One frame of each environment, then `updates_per_frame` times as many updates."""
    policy = actor(
        nn.Sequential(mlp(observations, 2 * actions, nn.ReLU), NormalParamExtractor()), TanhNormal
    )
    critic = ValueOperator(
        mlp(observations + actions, 1, nn.ReLU), in_keys=["observation", "action"]
    )
    loss = SACLoss(
        policy, critic, num_qvalue_nets=2, loss_function="l2", alpha_init=1.0, target_entropy="auto"
    )
    loss.make_value_estimator(gamma=settings.gamma)
    collector = Collector(
        env,
        policy,
        frames_per_batch=settings.num_envs,
        total_frames=settings.total_frames,
        init_random_frames=settings.warm_up,
    )
    return SACTrainer(
        optim_steps_per_batch=settings.num_envs * settings.updates_per_frame,
        replay_buffer=TensorDictReplayBuffer(
            storage=LazyTensorStorage(settings.buffer_size), batch_size=settings.batch_size
        ),
        target_net_updater=SoftUpdate(loss, tau=settings.tau),
        clip_norm=None,
        **common(collector, loss, eps=1e-8),
    )


def make_ppo():
    """Epochs of minibatches over each rollout."""
    body = mlp(observations, actions, nn.Tanh)
    # Not clipped to the bounds before it is stored or stepped: the simulator does that.
    policy = actor(
        nn.Sequential(body, AddStateIndependentNormalScale(actions)),
        IndependentNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(mlp(observations, 1, nn.Tanh), in_keys=["observation"])
    loss = ClipPPOLoss(
        policy,
        critic,
        clip_epsilon=settings.clip_epsilon,
        entropy_coeff=settings.entropy_coeff,
        critic_coeff=settings.critic_coeff,
        loss_critic_type="l2",
        normalize_advantage=True,
    )
    collector = Collector(
        env,
        policy,
        frames_per_batch=settings.frames_per_batch,
        total_frames=settings.total_frames,
    )
    trainer = PPOTrainer(
        optim_steps_per_batch=None,  # as many as there are minibatches
        num_epochs=settings.num_epochs,
        replay_buffer=TensorDictReplayBuffer(
            storage=LazyTensorStorage(settings.frames_per_batch),
            sampler=SamplerWithoutReplacement(),
            batch_size=settings.batch_size,
        ),
        clip_grad_norm=True,
        clip_norm=settings.max_grad_norm,
        add_gae=False,
        **common(collector, loss, eps=1e-5),
    )
    gae = GAE(gamma=settings.gamma, lmbda=settings.gae_lambda, value_network=critic)
    # Once a rollout: the trainer by itself would do it in every epoch.
    trainer.register_op("batch_process", gae)
    return trainer


def common(collector, loss, eps):
    """The arguments that both trainers have."""
    return {
        "collector": collector,
        "loss_module": loss,
        "optimizer": torch.optim.Adam(loss.parameters(), lr=settings.lr, eps=eps, fused=True),
        "total_frames": settings.total_frames,
        "frame_skip": 1,
        "seed": settings.seed,
        "progress_bar": False,
        "enable_logging": False,
        "auto_log_optim_steps": False,
    }


def count_updates():
    """Steps of the optimizer: the trainer's own count has one more for each epoch."""
    return next((int(state["step"]) for state in trainer.optimizer.state.values()), 0)


env = make_env()
observations = env.observation_spec["observation"].shape[-1]
actions = env.action_spec.shape[-1]
trainer = make_sac() if settings.algo == "sac" else make_ppo()
trainer.register_op("post_steps", lambda: marks(trainer.collected_frames, count_updates))
marks = Marks(settings)
trainer.train()
marks.print()
