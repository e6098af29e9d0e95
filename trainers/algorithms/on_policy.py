"""What the algorithms that learn from what their present policy did have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torch.optim import Adam, Optimizer
from torchrl.data import TensorSpec, Unbounded
from torchrl.objectives.value import TD0Estimator, TD1Estimator, TDLambdaEstimator

from trainers.advantages import GAE, VTrace
from trainers.algorithms.common import (
    anneal_rates,
    clip_gradients,
    grouped_adam,
    sync_weights,
)
from trainers.config import ConfigError, NetworkConfig
from trainers.config.on_policy import OneUpdateConfig, OnPolicyConfig
from trainers.hooks import (
    Advantage,
    Minibatches,
    NormalizeAdvantage,
    ScaleReward,
    UpdateNormalizer,
    first_epoch,
)
from trainers.networks.acting import in_numpy
from trainers.networks.actors import action_head, stochastic_actor
from trainers.networks.cnn import Inputs, make_net
from trainers.networks.mlps import orthogonal
from trainers.networks.normalization import RunningNorm
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import Epochs

# So small that the first policy hardly depends on the observation (Andrychowicz et al. 2021).
_POLICY_GAIN = 0.01


class Networks(NamedTuple):
    """What is trained. On a shared trunk the value head reads what the actor's trunk wrote."""

    actor: Any
    value_head: TensorDictModule  # the critic, without a trunk that the actor has run already
    critic: TensorDictModule | TensorDictSequential  # observation -> state_value
    norm: RunningNorm | None

    @property
    def policy(self) -> nn.Module:
        """The actor, in numpy where that is faster."""
        return in_numpy(self.actor)


class Agent(NamedTuple):
    """What an algorithm acts with and trains; its networks are where the action spec is."""

    networks: Networks
    loss: Any
    optimizer: Optimizer
    value_estimator: Any


def make_networks(
    inputs: Inputs, action_spec: TensorSpec, network: NetworkConfig, config: OnPolicyConfig
) -> Networks:
    """Actor and critic apart, or on one trunk, with orthogonal first weights.

    Raises:
        ConfigError: pictures, which the network scales by itself, would be normalised, or the mean
            of actions that have no bounds be kept in them.
    """
    norm = None
    if config.normalize_observation:
        if not isinstance(inputs, int):
            allowed = "false with pictures: their network brings them to one scale"
            raise ConfigError("algo.normalize_observation", True, allowed)
        norm = RunningNorm([inputs])
    if config.tanh_loc and isinstance(action_spec, Unbounded):
        raise ConfigError("algo.tanh_loc", True, "false with actions that have no bounds")
    head = action_head(action_spec, config.predict_std, config.log_std_init, config.tanh_loc)

    def body(num_outputs: int, last_gain: float) -> nn.Sequential:
        net = make_net(inputs, num_outputs, network.hidden, network.activation)
        orthogonal(net, last_gain)
        return net if norm is None else nn.Sequential(norm, *net)

    if not config.shared_trunk:
        policy = nn.Sequential(body(head.num_inputs, _POLICY_GAIN), head)
        critic = TensorDictModule(body(1, 1.0), ["observation"], ["state_value"])
        actor = stochastic_actor(policy, ["observation"], action_spec)
        return _on_device(Networks(actor, critic, critic, norm), action_spec)
    layers = list(body(1, 1.0))[:-1]  # all but the last, which the heads have each for itself
    trunk = TensorDictModule(nn.Sequential(*layers), ["observation"], ["hidden"])
    last, value = (nn.Linear(network.hidden[-1], n) for n in (head.num_inputs, 1))
    orthogonal(last, _POLICY_GAIN)
    orthogonal(value, 1.0)
    value_head = TensorDictModule(value, ["hidden"], ["state_value"])
    actor = stochastic_actor(nn.Sequential(last, head), ["hidden"], action_spec, trunk)
    critic = TensorDictSequential([trunk, value_head])
    return _on_device(Networks(actor, value_head, critic, norm), action_spec)


def _on_device(networks: Networks, action_spec: TensorSpec) -> Networks:
    for network in (networks.actor, networks.critic):
        network.to(action_spec.device)
    return networks


def make_value_estimator(critic: Any, config: OnPolicyConfig, actor: Any = None) -> Any:
    """An estimator of advantages and value targets; V-trace asks the actor too."""
    common = {"gamma": config.gamma, "value_network": critic}
    kind, lmbda = config.value_estimator, config.gae_lambda
    if kind == "gae":
        return GAE(critic, config.gamma, lmbda)
    if kind == "vtrace":
        # A loss of several updates weighs each frame itself, by the ratio of the two policies.
        return VTrace(critic, actor, config.gamma, weighs=isinstance(config, OneUpdateConfig))
    # To look one step ahead and no further is TD0; TorchRL's other two estimators fail on that.
    further = config.gamma * (lmbda if kind == "td_lambda" else 1.0)
    if kind == "td0" or further < 1e-6:
        return TD0Estimator(**common)
    if kind == "td1":
        return TD1Estimator(**common)
    return TDLambdaEstimator(lmbda=lmbda, **common)


def learning_rates(config: OnPolicyConfig) -> dict[str, float]:
    """One each for actor and critic; a shared trunk is the actor's."""
    return {"actor": config.actor_lr or config.lr, "critic": config.critic_lr or config.lr}


def actor_critic_adam(loss: nn.Module, config: OnPolicyConfig, flat: bool) -> Adam:
    """One Adam with a learning rate each for actor and critic."""
    # OpenAI Baselines' epsilon, which other implementations have taken over.
    return grouped_adam(loss, learning_rates(config), eps=1e-5, flat=flat)


class OnPolicyTrainer(Trainer):
    """The timetable of learning from rollouts of the present policy.

    Args:
        collector: rollouts ``[..., T]``, ordered in time.
        loss_module: a TorchRL loss of the algorithm's kind, or any that learns from ``advantage``
            and ``value_target``.
        optimizer: over the parameters of the loss.
        value_estimator: writes these two; default: the loss's own, with its own discount.
        total_frames: end of the run in frames.
        config: everything else, in numbers.
        normalizer: of the observations, in the networks; its statistics follow the rollouts.
    """

    config_class: ClassVar[type[OnPolicyConfig]]

    def __init__(
        self,
        *,
        collector: Any,
        loss_module: Any,
        optimizer: Optimizer | Sequence[Optimizer],
        total_frames: int,
        value_estimator: Any = None,
        config: Any = None,
        normalizer: RunningNorm | None = None,
    ) -> None:
        config = config or self.config_class()
        epochs = self.epochs(config)
        super().__init__(
            collector=collector,
            loss_module=loss_module,
            optimizer=optimizer,
            total_frames=total_frames,
            update_plan=epochs,
        )

        on = self.register_hook
        if config.normalize_reward:
            on(Stage.PRE_EPOCH, ScaleReward(config.gamma), when=first_epoch)
        advantage = self.make_advantage(loss_module, value_estimator, config)
        again = getattr(config, "recompute_advantage", False)
        on(Stage.PRE_EPOCH, advantage, when=None if again else first_epoch)
        if isinstance(config, OneUpdateConfig) and config.normalize_advantage:
            on(Stage.PRE_EPOCH, NormalizeAdvantage())
        if epochs.minibatch_size is not None:
            on(Stage.PROCESS_OPTIM_BATCH, Minibatches(epochs.minibatch_size))
        if config.lr_schedule == "linear":
            anneal_rates(self)
        if config.max_grad_norm is not None:
            clip_gradients(self, config.max_grad_norm)
        if normalizer is not None:
            on(Stage.POST_STEPS, UpdateNormalizer(normalizer))
        sync_weights(self)

    def epochs(self, config: Any) -> Epochs:
        """One update on the whole rollout, unless an algorithm says otherwise."""
        return Epochs()

    def make_advantage(self, loss_module: Any, value_estimator: Any, config: Any) -> Any:
        """The hook that writes ``advantage``, and for a critic ``value_target``."""
        return Advantage(value_estimator or loss_module.value_estimator)
