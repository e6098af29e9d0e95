"""SAC's losses of TorchRL's values and gradients, much faster for the shipped networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional
from torchrl.objectives import SACLoss, ValueEstimators
from torchrl.objectives.utils import _cache_values

from trainers.backprop import Gradients, Perceptrons
from trainers.config import SACConfig
from trainers.known_gradients import with_known_gradients
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
            values = with_known_gradients(values, passes.differentiate, passes.leaves)
        names = ("loss_actor", "loss_qvalue", "loss_alpha")
        return TensorDict({**dict(zip(names, values, strict=True)), **reported})

    def _evaluate(
        self, data: Any, passes: _Passes, differentiable: bool
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        keys, following = self.tensor_keys, data["next"]
        share = self._share(self._maybe_get_priority_weight(data), len(data))
        settings: Any = self  # buffers of TorchRL's
        alpha, gamma = settings._alpha, settings.value_estimator.gamma
        log_alpha, target_entropy = settings.log_alpha, settings.target_entropy
        steps = data.get(self.value_estimator.tensor_keys.steps_to_next_obs, None)
        if steps is not None:
            gamma = gamma**steps

        passes.enter(data["observation"], data[keys.action], following["observation"])
        policy = passes.act()
        next_log_prob, log_prob = policy.log_prob
        target_values, values, new_values = passes.criticize(*policy.action)

        next_value = target_values.amin(0) - alpha * next_log_prob
        live = ~following[keys.terminated]
        error = values - torch.addcmul(following[keys.reward], gamma * live, next_value)
        distance, slope = _DISTANCES[self.loss_function](error)
        each_critic = (distance * share).sum((1, 2))
        lowest, which = new_values.min(0, keepdim=True)
        loss_actor = ((alpha * log_prob - lowest) * share).sum()
        excess = ((log_prob + target_entropy) * share).sum()
        if differentiable:
            d_action = passes.critics_backward(slope * share, which, share)
            passes.actor_backward(policy.backward(d_action, alpha * share))
            passes.alpha_backward(-excess)

        data.set(keys.priority, error.abs().amax(0).squeeze(-1))
        reported = {
            "alpha": alpha,
            "entropy": -log_prob.mean(),
            **{f"qvalue_{index}": loss for index, loss in enumerate(each_critic.unbind())},
        }
        return (loss_actor, each_critic.sum(), -log_alpha * excess), reported

    def _share(self, weights: Tensor | None, rows: int) -> Tensor | float:
        """How much each row counts, ``[B, 1]``: TorchRL's ``reduction`` is a sum of shares."""
        if weights is None:
            return 1.0 / rows if self.reduction == "mean" else 1.0
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
        log_prob: ``[2, B, 1]``.
    """

    def __init__(self, actor: TanhNormalActor, outputs: Tensor, noise: Tensor) -> None:
        self._actor, self._noise = actor, noise
        mean, spread = outputs.chunk(2, -1)
        to_std: Any = actor.to_std
        self._spread = spread + to_std.bias
        self._std = functional.softplus(self._spread).add_(to_std.min_val)
        before = torch.addcmul(mean, self._std, noise)
        self._squashed = before.tanh().clamp_(-BELOW_ONE, BELOW_ONE)
        self.action = actor.in_bounds(self._squashed)
        self.log_prob = actor.log_prob(before, self._std, noise).unsqueeze(-1)

    def backward(self, d_action: Tensor, d_log_prob: Tensor) -> Tensor:
        """The gradient ``[B, 2 n]`` of the second half's outputs."""
        squashed, std, noise = self._squashed[1], self._std[1], self._noise[1]
        d_squashed = d_action * self._actor.half_range
        # The log-density falls by log(1 - tanh(x)^2), the slope of which is -2 tanh(x).
        d_mean = d_squashed * (1.0 - squashed * squashed) + (2.0 * d_log_prob) * squashed
        d_std = d_mean * noise - d_log_prob / std
        return torch.cat([d_mean, d_std * self._spread[1].sigmoid()], -1)


class _Passes:
    """The passes of an update through all networks, in memory for batches of ``rows``.

    The actor is asked in the next states and in these at once, the critics about the actions that
    were taken and about new ones.
    """

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
        self._actor_net = Perceptrons([tensor.unsqueeze(0) for tensor in of_actor], activation)
        self._states = like.new_empty(2, rows, of_actor[0].shape[-1])
        both = self._actor_net.memory(self._states.view(1, 2 * rows, -1))
        self._of_actor, self._of_acting = both, both.rows(rows, 2 * rows)
        self._outputs = both.results[-1].view(2, rows, -1)
        self._noise = like.new_empty(2, rows, self._outputs.shape[-1] // 2)

        activation = type(critic.net[1]) if len(critic.net) > 1 else nn.ReLU
        self._critics = Perceptrons(of_critics, activation)
        self._targets = Perceptrons(of_targets, activation)
        inputs = of_critics[0].shape[-1]
        self._questions = like.new_empty(3, rows, inputs)  # next, taken and new actions
        asked = self._questions.view(1, 3 * rows, inputs).expand(number, -1, -1)
        self._of_targets = self._targets.memory(asked[:, :rows])
        self._of_critics = self._critics.memory(asked[:, rows:])
        self._of_taken = self._of_critics.rows(0, rows)
        self._of_new = self._of_critics.rows(rows, 2 * rows)

        named = dict(loss.named_parameters())
        trained = [
            [p for name, p in named.items() if name.startswith(network)]
            for network in ("actor_network_params", "qvalue_network_params", "log_alpha")
        ]
        self.gradients = [Gradients(parameters) for parameters in trained]
        self.leaves = [leaf for each in self.gradients for leaf, _ in each.leaves]
        self._actor_gradients = [each.unsqueeze(0) for each in self.gradients[0].of(of_actor)]
        self._critic_gradients = self.gradients[1].of(of_critics)
        self._alpha_gradient = self.gradients[2].of(trained[2])

    def fit(self, rows: int, addresses: list[int]) -> bool:
        """Whether this memory is made for such a batch, and no gradients in it wait to be used."""
        return self.free and self._fits_to == (rows, addresses)

    def differentiate(self, weights: Sequence[Tensor | float]) -> list[Tensor]:
        """The gradients of ``leaves``, for losses of these weights; the memory is free then."""
        self.free = True
        pairs = zip(self.gradients, weights, strict=True)
        return [gradient for each, weight in pairs for gradient in each.times(weight)]

    def enter(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> None:
        """Begin an update of this batch."""
        number = observation.shape[-1]
        torch.stack([next_observation, observation], out=self._states)
        self._questions[0, :, :number] = next_observation
        self._questions[1:, :, :number] = observation
        self._questions[1, :, number:] = action

    def act(self) -> _Policy:
        """What to do in the next states, and in these."""
        self._actor_net.forward(self._of_actor)
        for noise in self._noise:
            noise.normal_()
        return _Policy(self._actor, self._outputs, self._noise)

    def criticize(self, next_action: Tensor, new_action: Tensor) -> tuple[Tensor, ...]:
        """The targets' values, and the critics' of the actions taken and of new ones.

        Each is ``[critics, B, 1]``.
        """
        number = self._states.shape[-1]
        self._questions[0, :, number:] = next_action
        self._questions[2, :, number:] = new_action
        self._targets.forward(self._of_targets)
        self._critics.forward(self._of_critics)
        memories = (self._of_targets, self._of_taken, self._of_new)
        return tuple(memory.results[-1] for memory in memories)

    def critics_backward(self, d_taken: Tensor, lowest: Tensor, share: Tensor | float) -> Tensor:
        """Their parameters' gradients, by the actions taken; returns that of the new actions.

        The latter ``[B, actions]`` is of minus the lowest value, as far as each row counts.
        """
        of_taken, of_new = self._of_taken.gradients[-1], self._of_new.gradients[-1]
        of_taken.copy_(d_taken)
        if isinstance(share, Tensor):
            of_new.zero_().scatter_(0, lowest, -share.expand_as(lowest))
        else:
            of_new.zero_().scatter_(0, lowest, -share)
        self._critics.backward(self._of_critics, self._critic_gradients, by=self._of_taken)
        first = self._states.shape[-1]
        return self._critics.input_gradient(self._of_new.gradients[0], first).sum(0)

    def actor_backward(self, d_outputs: Tensor) -> None:
        """Its parameters' gradients, by its outputs in these states."""
        self._of_acting.gradients[-1].copy_(d_outputs)
        self._actor_net.backward(self._of_acting, self._actor_gradients)

    def alpha_backward(self, d_log_alpha: Tensor) -> None:
        """The temperature's, unless it is fixed."""
        for gradient in self._alpha_gradient:
            gradient.copy_(d_log_alpha)


def _weights_and_biases(net: nn.Sequential) -> list[Tensor]:
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
