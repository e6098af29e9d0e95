"""SAC's losses of TorchRL's values and gradients, much faster for the shipped networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional
from torchrl.objectives import SACLoss, ValueEstimators
from torchrl.objectives.utils import _cache_values

from trainers.backprop import Gradients, Perceptron, with_gradients
from trainers.config import SACConfig
from trainers.networks import BELOW_ONE, StateActionValue, TanhNormalActor

# How far a value is from its target, and the slope of that.
_DISTANCES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "l2": lambda error: (error.square(), 2.0 * error),
    "l1": lambda error: (error.abs(), error.sign()),
    "smooth_l1": lambda error: (
        functional.huber_loss(error, torch.zeros_like(error), reduction="none"),
        error.clamp(-1.0, 1.0),
    ),
}


class FastSACLoss(SACLoss):
    """TorchRL's ``SACLoss`` for the shipped networks: the same keywords, state, values, gradients.

    Forward and backward pass are written out, and their results go into memory that is kept.
    TorchRL maps over the critics with ``vmap``, passes every result through a TensorDict and has
    autograd remember it.

    Args:
        actor_network: the shipped actor.
        qvalue_network: critics made of the shipped :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    def __init__(
        self, actor_network: TanhNormalActor, qvalue_network: list[Any], **kwargs: Any
    ) -> None:
        super().__init__(actor_network, qvalue_network, **kwargs)
        # In a tuple, else their parameters would be registered a second time. The actor's are the
        # very ones this loss trains; of the critic only the layout is used.
        self._networks_used: tuple[Any, Any] = (actor_network, qvalue_network[0].module)
        self._passes: _Passes | None = None

    @staticmethod
    def fits(actor: nn.Module, critics: list[nn.Module], config: SACConfig) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        critics_fit = all(type(getattr(c, "module", None)) is StateActionValue for c in critics)
        config_fits = config.value_estimator == "td0" and config.reduction != "none"
        config_fits &= not (config.skip_done_states or config.value_network)
        return type(actor) is TanhNormalActor and critics_fit and config_fits

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch ``[B]`` of transitions; writes ``td_error`` ``[B]`` into it."""
        layers = self._layers
        addresses = [tensor.data_ptr() for network in layers for tensor in network]
        passes = self._passes
        if passes is None or not passes.fit(len(tensordict), addresses):
            passes = self._passes = _Passes(self, layers, len(tensordict), addresses)
        differentiable = torch.is_grad_enabled()
        with torch.no_grad():
            values, reported = self._evaluate(tensordict, passes, differentiable)
        if differentiable:
            passes.free = False
            values = with_gradients(values, passes.gradients, passes.release)
        names = ("loss_actor", "loss_qvalue", "loss_alpha")
        return TensorDict({**dict(zip(names, values, strict=True)), **reported})

    def _evaluate(
        self, data: Any, passes: _Passes, differentiable: bool
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        keys = self.tensor_keys
        observation, next_observation = data["observation"], data["next", "observation"]
        reward, terminated = data["next", keys.reward], data["next", keys.terminated]
        share = self._share(self._maybe_get_priority_weight(data), len(data))
        settings: Any = self  # buffers of TorchRL's
        alpha, gamma = settings._alpha, settings.value_estimator.gamma
        log_alpha, target_entropy = settings.log_alpha, settings.target_entropy
        steps = data.get(self.value_estimator.tensor_keys.steps_to_next_obs, None)
        if steps is not None:
            gamma = gamma**steps

        policy = passes.act(next_observation, observation)
        (next_action, new_action), (next_log_prob, log_prob) = policy.action, policy.log_prob

        next_q = passes.targets(next_observation, next_action).amin(0)
        next_value = next_q - alpha * next_log_prob.unsqueeze(-1)
        target = reward + gamma * ~terminated * next_value
        error = passes.critics(observation, data[keys.action]) - target
        distance, slope = _DISTANCES[self.loss_function](error)
        each_critic = (distance * share).sum((1, 2))
        if differentiable:
            passes.critics_backward(slope * share)

        new_q, lowest = passes.critics(observation, new_action).min(0, keepdim=True)
        loss_actor = ((alpha * log_prob.unsqueeze(-1) - new_q) * share).sum()
        excess = ((log_prob.unsqueeze(-1) + target_entropy) * share).sum()
        if differentiable:
            d_q = torch.zeros_like(error).scatter_(0, lowest, (-share).expand_as(lowest))
            d_action = passes.critics_input_gradient(d_q)
            passes.actor_backward(policy.backward(d_action, alpha * share))
            passes.alpha_backward(-excess)

        data.set(keys.priority, error.abs().amax(0).squeeze(-1))
        reported = {
            "alpha": alpha,
            "entropy": -log_prob.mean(),
            **{f"qvalue_{index}": loss for index, loss in enumerate(each_critic.unbind())},
        }
        return (loss_actor, each_critic.sum(), -log_alpha * excess), reported

    def _share(self, weights: Tensor | None, rows: int) -> Tensor:
        """How much each row counts, ``[B, 1]``: TorchRL's ``reduction`` is a sum of shares."""
        if weights is None:
            share = 1.0 / rows if self.reduction == "mean" else 1.0
            log_alpha: Any = self.log_alpha
            return log_alpha.new_full((1, 1), share)
        share = weights / weights.sum() if self.reduction == "mean" else weights
        return share.unsqueeze(-1)

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> Any:
        """TorchRL's TD(0), the only one that this loss knows.

        Raises:
            NotImplementedError: another one is asked for.
        """
        if value_type not in (None, ValueEstimators.TD0):
            raise NotImplementedError(f"FastSACLoss knows TD0 only, got {value_type}: use SACLoss")
        return super().make_value_estimator(ValueEstimators.TD0, **hyperparams)

    @property
    @_cache_values  # until the parameters are moved to another device
    def _layers(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Weights and biases of the actor, and, stacked, of the critics and their targets."""
        actor, critic = self._networks_used
        keys = [
            ("module", "net", str(index), kind)
            for index, layer in enumerate(critic.net)
            if isinstance(layer, nn.Linear)
            for kind in ("weight", "bias")
        ]
        current, target = self.qvalue_network_params, self.target_qvalue_network_params
        return (
            _weights_and_biases(actor.net),
            [current[key] for key in keys],
            [target[key] for key in keys],
        )


class _Policy:
    """Squashed Gaussians: actions drawn from the actor's outputs, and how likely they were.

    Args:
        actor: knows the bounds.
        outputs: ``[2, B, 2 n]``.
        noise: ``[2, B, n]``, standard normal.

    Attributes:
        action: ``[2, B, n]``.
        log_prob: ``[2, B]``.
    """

    def __init__(self, actor: TanhNormalActor, outputs: Tensor, noise: Tensor) -> None:
        self._actor, self._noise = actor, noise
        mean, spread = outputs.chunk(2, -1)
        to_std: Any = actor.to_std
        self._spread = spread + to_std.bias
        self._std = functional.softplus(self._spread) + to_std.min_val
        before = torch.addcmul(mean, self._std, noise)
        self._squashed = before.tanh().clamp_(-BELOW_ONE, BELOW_ONE)
        self.action = actor.in_bounds(self._squashed)
        self.log_prob = actor.log_prob(before, self._std, noise)

    def backward(self, d_action: Tensor, d_log_prob: Tensor) -> Tensor:
        """The gradient ``[B, 2 n]`` of the second half's outputs."""
        squashed, std, noise = self._squashed[1], self._std[1], self._noise[1]
        d_squashed = d_action * self._actor.half_range
        # The log-density falls by log(1 - tanh(x)^2), the slope of which is -2 tanh(x).
        d_mean = d_squashed * (1.0 - squashed * squashed) + (2.0 * d_log_prob) * squashed
        d_std = d_mean * noise - d_log_prob / std
        return torch.cat([d_mean, d_std * self._spread[1].sigmoid()], -1)


class _Passes:
    """The passes of an update through all networks, in memory for batches of ``rows``."""

    def __init__(
        self,
        loss: FastSACLoss,
        layers: tuple[list[Tensor], list[Tensor], list[Tensor]],
        rows: int,
        addresses: list[int],
    ) -> None:
        self._actor, critic = loss._networks_used
        self._fits_to = (rows, addresses)
        self.free = True
        of_actor, of_critics, of_targets = layers
        number, like = loss.num_qvalue_nets, of_actor[0].detach()

        activation = type(self._actor.net[1]) if len(self._actor.net) > 1 else nn.ReLU
        self._actor_net = Perceptron(of_actor, activation)
        self._outputs = like.new_empty(2, rows, len(of_actor[-1]))
        self._actor_memories = [self._actor_net.memory(output) for output in self._outputs]
        self._noise = like.new_empty(2, rows, len(of_actor[-1]) // 2)

        activation = type(critic.net[1]) if len(critic.net) > 1 else nn.ReLU
        self._critics, self._targets = (
            [Perceptron([tensor[i] for tensor in stacked], activation) for i in range(number)]
            for stacked in (of_critics, of_targets)
        )
        self._inputs = like.new_empty(rows, of_critics[0].shape[-1])
        self._num_observations = of_actor[0].shape[-1]
        self._values = like.new_empty(number, rows, 1)
        self._memories = [self._critics[0].memory(value) for value in self._values]

        named = dict(loss.named_parameters())
        trained = [
            [p for name, p in named.items() if name.startswith(network)]
            for network in ("actor_network_params", "qvalue_network_params", "log_alpha")
        ]
        self.gradients = [Gradients(parameters) for parameters in trained]
        self._actor_gradients = self.gradients[0].of(of_actor)
        stacked = self.gradients[1].of(of_critics)
        self._critic_gradients = [[gradient[i] for gradient in stacked] for i in range(number)]
        self._alpha_gradient = self.gradients[2].of(trained[2])

    def fit(self, rows: int, addresses: list[int]) -> bool:
        """Whether this memory is made for such a batch, and no gradients in it wait to be used."""
        return self.free and self._fits_to == (rows, addresses)

    def release(self) -> None:
        """The gradients have been used."""
        self.free = True

    def act(self, *observations: Tensor) -> _Policy:
        """What to do in the next states, and in these."""
        passes = zip(observations, self._actor_memories, self._noise, strict=True)
        for observation, memory, noise in passes:
            self._actor_net.forward(observation, memory)
            noise.normal_()
        return _Policy(self._actor, self._outputs, self._noise)

    def targets(self, observation: Tensor, action: Tensor) -> Tensor:
        """The target critics' values ``[critics, B, 1]``."""
        return self._evaluate(self._targets, observation, action)

    def critics(self, observation: Tensor, action: Tensor) -> Tensor:
        """The critics' values ``[critics, B, 1]``."""
        return self._evaluate(self._critics, observation, action)

    def _evaluate(self, critics: list[Perceptron], observation: Tensor, action: Tensor) -> Tensor:
        torch.cat([observation, action], -1, out=self._inputs)
        for critic, memory in zip(critics, self._memories, strict=True):
            critic.forward(self._inputs, memory)
        return self._values

    def critics_backward(self, d_values: Tensor) -> None:
        """Their parameters' gradients, by the values of the last pass."""
        passes = zip(self._critics, d_values, self._memories, self._critic_gradients, strict=True)
        for critic, d_value, memory, gradients in passes:
            critic.backward(d_value, memory, gradients)

    def critics_input_gradient(self, d_values: Tensor) -> Tensor:
        """That of the actions, by the values of the last pass."""
        passes = zip(self._critics, d_values, self._memories, strict=True)
        first = self._num_observations
        each = [
            critic.input_gradient(critic.backward(d_value, memory), first)
            for critic, d_value, memory in passes
        ]
        return sum(each[1:], each[0])

    def actor_backward(self, d_outputs: Tensor) -> None:
        """Its parameters' gradients, by its outputs in these states."""
        self._actor_net.backward(d_outputs, self._actor_memories[1], self._actor_gradients)

    def alpha_backward(self, d_log_alpha: Tensor) -> None:
        """The temperature's, unless it is fixed."""
        for gradient in self._alpha_gradient:
            gradient.copy_(d_log_alpha)


def _weights_and_biases(net: nn.Sequential) -> list[Tensor]:
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
