"""SAC's losses of TorchRL's values and gradients, much faster for the shipped networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import SACLoss
from torchrl.objectives.utils import _cache_values

from trainers.arrays import DISTANCES, Array, as_array, as_factor, as_tensor, library_for
from trainers.config import SACConfig
from trainers.losses.forward import TD0Only, discounts, plain_forward, share_of_rows
from trainers.networks.actors import TanhNormalActor
from trainers.networks.critics import StateActionValue
from trainers.networks.squashed import Drawn, SquashedGaussian
from trainers.networks.torch_hooks import hooked
from trainers.optimization.backprop import Gradients, Perceptrons, Scratch
from trainers.optimization.known_gradients import Differentiate, Weight, with_known_gradients
from trainers.tensordicts import tensordict_of


@plain_forward
class FastSACLoss(TD0Only, SACLoss):
    """TorchRL's ``SACLoss`` for the shipped networks: the same keywords, state, values, gradients.

    Forward and backward pass are written out, and their results go into memory that is kept.
    TorchRL maps over the critics with ``vmap``, passes every result through a TensorDict and has
    autograd remember it.

    Args:
        actor_network: the shipped actor.
        qvalue_network: critics made of the shipped :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    capturable = True

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
        unhooked = not hooked(actor, *critics)
        return type(actor) is TanhNormalActor and critics_fit and unhooked and config_fits

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch ``[B]`` of transitions; writes ``td_error`` ``[B]`` into it."""
        layers = self._layers
        addresses = [tensor.data_ptr() for network in layers for tensor in network]
        passes = self._passes
        if passes is None or not passes.fit(len(tensordict), addresses):
            with torch.inference_mode(False):  # else nobody else could write to this memory
                passes = self._passes = _Passes(self, layers, len(tensordict), addresses)
        with torch.no_grad(), np.errstate(all="ignore"):  # what is not finite shows in the losses
            values, backward, reported = self._evaluate(tensordict, passes)
        if torch.is_grad_enabled():
            values = with_known_gradients(values, passes.keep_for(backward), passes.leaves)
        names = ("loss_actor", "loss_qvalue", "loss_alpha")
        return tensordict_of(dict(zip(names, values, strict=True)) | reported)

    def _evaluate(
        self, data: Any, passes: _Passes
    ) -> tuple[list[Tensor], Callable[..., None], dict[str, Tensor]]:
        """The losses, the way back from their weights to the gradients, what else is reported."""
        xp, keys, following = passes.xp, self.tensor_keys, data["next"]
        reward, terminated = (as_array(following[key]) for key in (keys.reward, keys.terminated))
        share, gamma = share_of_rows(self, data), discounts(self.value_estimator, data)
        settings: Any = self  # buffers of TorchRL's
        log_alpha = self._log_alpha()
        alpha = xp.exp(log_alpha)

        passes.enter(data["observation"], data[keys.action], following["observation"])
        next_drawn, drawn = passes.act()
        target_values, values, new_values = passes.criticize(next_drawn.action, drawn.action)

        next_value = self._lower(xp, target_values) - alpha * next_drawn.log_prob
        target = reward + gamma * (next_value * ~terminated)
        distance, slope, error = self._compared(xp, values, target)
        each_critic = (distance * share).sum((1, 2))
        loss_actor = ((alpha * drawn.log_prob - self._judged(xp, new_values)) * share).sum()
        excess = ((drawn.log_prob + as_array(settings.target_entropy)) * share).sum()

        def backward(of_actor: Any, of_critics: Any, of_alpha: Any) -> None:
            d_new, parts = -(of_actor * share), self._parts(passes, new_values)
            d_action = passes.critics_backward(of_critics * slope * share, parts, d_new)
            passes.actor_backward(drawn, d_action, of_actor * alpha * share)
            passes.alpha_backward(-(of_alpha * excess))

        data.set(keys.priority, as_tensor(xp.amax(error, 0)[:, 0]))
        reported = {"alpha": alpha, "entropy": -drawn.log_prob.mean()}
        reported |= {f"qvalue_{index}": loss for index, loss in enumerate(each_critic)}
        losses = [as_tensor(x) for x in (loss_actor, each_critic.sum(), -log_alpha * excess)]
        return losses, backward, {key: as_tensor(value) for key, value in reported.items()}

    def _lower(self, xp: Any, values: Array) -> Array:
        """What is expected of the next states, from the critics' ``[critics, B, 1]``."""
        return xp.amin(values, 0)

    def _compared(self, xp: Any, values: Array, target: Array) -> tuple[Array, Array, Array]:
        """How far values ``[critics, B, 1]`` are from the target ``[B, 1]``.

        Returns:
            The distance of each, its slope by the value, and the size of the error.
        """
        error = values - target
        distance, slope = DISTANCES[self.loss_function](xp, error)
        return distance, slope, xp.abs(error)

    def _judged(self, xp: Any, values: Array) -> Array:
        """What new actions are worth ``[B, 1]``, from the critics' ``[critics, B, 1]``."""
        return xp.amin(values, 0)

    def _parts(self, passes: _Passes, values: Array) -> Array:
        """How much each of them counts in that: its gradient."""
        return passes.critic_numbers == values.argmin(0)

    def _log_alpha(self) -> Array:
        """Within its bounds."""
        log_alpha, low, high = (
            getattr(self, name) for name in ("log_alpha", "min_log_alpha", "max_log_alpha")
        )
        if low is not None or high is not None:
            log_alpha.data.clamp_(low, high)
        return as_array(log_alpha)

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
        actor, critic = loss._networks_used
        self._fits_to = (rows, addresses)
        self.free = True
        of_actor, of_critics, of_targets = layers
        number, like = loss.num_qvalue_nets, of_actor[0].detach()

        self.xp = library_for(like)

        activation = type(actor.net[1]) if len(actor.net) > 1 else nn.ReLU
        self._gaussian = SquashedGaussian(actor)
        self._actor_net = Perceptrons([tensor.unsqueeze(0) for tensor in of_actor], activation)
        states = like.new_empty(2, rows, of_actor[0].shape[-1])
        self._noise = like.new_empty(2, rows, len(of_actor[-1]) // 2)

        activation = type(critic.net[1]) if len(critic.net) > 1 else nn.ReLU
        self._critics = Perceptrons(of_critics, activation)
        self._targets = Perceptrons(of_targets, activation)
        inputs = of_critics[0].shape[-1]
        questions = like.new_empty(3, rows, inputs)  # next, taken and new actions
        asked = questions.view(1, 3 * rows, inputs).expand(number, -1, -1)
        scratch = Scratch()
        self._of_critics = self._critics.memory(asked[:, rows:], scratch)
        self._of_taken = self._of_critics.rows(0, rows)
        self._of_new = self._of_critics.rows(rows, 2 * rows)
        self._of_targets = self._targets.memory(asked[:, :rows], scratch, way_back=False)
        self._of_actor = self._actor_net.memory(states.view(1, 2 * rows, -1), scratch)
        self._of_acting = self._of_actor.rows(rows, 2 * rows)

        self._states, self._questions = as_array(states), as_array(questions)
        self._outputs = as_array(self._of_actor.results[-1].view(2, rows, -1))
        self._d_outputs = as_array(self._of_acting.gradients[-1][0])
        of_critics_ = (self._of_targets, self._of_taken, self._of_new)
        self._values = tuple(as_array(memory.results[-1]) for memory in of_critics_)
        self._d_taken, self._d_new = (as_array(m.gradients[-1]) for m in of_critics_[1:])
        self.critic_numbers = as_array(torch.arange(number, device=like.device).view(-1, 1, 1))

        named = dict(loss.named_parameters())
        trained = [
            [p for name, p in named.items() if name.startswith(network)]
            for network in ("actor_network_params", "qvalue_network_params", "log_alpha")
        ]
        self.gradients = [Gradients(parameters) for parameters in trained]
        self.leaves = [leaf for each in self.gradients for leaf in each.leaves]
        self._actor_gradients = [each.unsqueeze(0) for each in self.gradients[0].of(of_actor)]
        self._critic_gradients = self.gradients[1].of(of_critics)
        self._alpha_gradient = self.gradients[2].of(trained[2])

    def fit(self, rows: int, addresses: list[int]) -> bool:
        """Whether this memory is made for such a batch, and no gradients in it wait to be used."""
        fits = self.free and self._fits_to == (rows, addresses)
        return fits and all(each.fit() for each in self.gradients)

    def keep_for(self, backward: Callable[..., None]) -> Differentiate:
        """``backward`` as a way to the gradients of ``leaves``; the memory is free after it."""
        self.free = False

        def differentiate(weights: Sequence[Weight]) -> list[Tensor]:
            self.free = True
            with torch.no_grad(), np.errstate(all="ignore"):  # as in the forward pass
                backward(*map(as_factor, weights))
            return [memory for each in self.gradients for memory in each.memory]

        return differentiate

    def enter(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> None:
        """Begin an update of this batch."""
        states, questions, number = self._states, self._questions, observation.shape[-1]
        states[0], states[1] = as_array(next_observation), as_array(observation)
        questions[:2, :, :number], questions[2, :, :number] = states, states[1]
        questions[1, :, number:] = as_array(action)

    def act(self) -> tuple[Drawn, Drawn]:
        """What to do in the next states, and in these."""
        self._actor_net.forward(self._of_actor)
        for noise in self._noise:  # by torch, and one after the other, as TorchRL does
            noise.normal_()
        drawn = self._gaussian.draw(self._outputs, as_array(self._noise))
        return drawn.part(0), drawn.part(1)

    def criticize(self, next_action: Array, new_action: Array) -> tuple[Array, ...]:
        """The targets' values, and the critics' of the actions taken and of new ones.

        Each is ``[critics, B, outputs]``.
        """
        number = self._states.shape[-1]
        self._questions[0, :, number:] = next_action
        self._questions[2, :, number:] = new_action
        self._targets.forward(self._of_targets)
        self._critics.forward(self._of_critics)
        return self._values

    def critics_backward(self, d_taken: Array, parts: Array, d_new: Array) -> Array:
        """Their parameters' gradients, by the actions taken; returns that of the new actions.

        The latter is ``[B, actions]``; ``parts`` is what each value gets of a row's ``d_new``.
        """
        self._d_taken[:] = d_taken
        self._d_new[:] = parts
        self._d_new *= d_new
        self._critics.backward(self._of_critics, self._critic_gradients, by=self._of_taken)
        first = self._states.shape[-1]
        each = self._critics.input_gradient(self._of_new.gradients[0], first)
        return as_array(each).sum(0)

    def actor_backward(self, drawn: Drawn, d_action: Array, d_log_prob: Array) -> None:
        """Its parameters' gradients, by what it has drawn in these states."""
        number = d_action.shape[-1]
        d_mean, d_spread = self._gaussian.gradient(drawn, d_action, d_log_prob)
        self._d_outputs[:, :number], self._d_outputs[:, number:] = d_mean, d_spread
        self._actor_net.backward(self._of_acting, self._actor_gradients)

    def alpha_backward(self, d_log_alpha: Array) -> None:
        """The temperature's, unless it is fixed."""
        for gradient in self._alpha_gradient:
            gradient.fill_(d_log_alpha)


def _weights_and_biases(net: nn.Sequential) -> list[Tensor]:
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
