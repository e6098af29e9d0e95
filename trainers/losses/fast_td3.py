"""The losses of TD3 and DDPG: TorchRL's values and gradients, much faster for shipped networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import DDPGLoss, TD3Loss
from torchrl.objectives.utils import _cache_values

from trainers.arrays import DISTANCES, Array, as_array, as_factor, as_tensor, library_for
from trainers.losses.forward import TD0Only, discounts, share_of_rows
from trainers.networks.actors import TanhActor
from trainers.networks.critics import StateActionValue
from trainers.networks.squashed import SquashedMean
from trainers.networks.torch_hooks import hooked
from trainers.optimization.backprop import Gradients, Perceptrons, Scratch
from trainers.optimization.known_gradients import Weight, with_known_gradients

Part = tuple[Tensor, dict[str, Tensor]]


def fits(actor: nn.Module, critics: Sequence[nn.Module], config: Any) -> bool:
    """Whether the losses of this module can stand in for TorchRL's."""
    critics_fit = all(type(getattr(c, "module", None)) is StateActionValue for c in critics)
    config_fits = config.value_estimator == "td0" and config.reduction != "none"
    unhooked = not hooked(actor, *critics)
    return type(actor) is TanhActor and critics_fit and unhooked and config_fits


class _Layers(NamedTuple):
    """Weights and biases of every network, as the loss has them."""

    actor: list[Tensor]
    target_actor: list[Tensor]
    critics: list[Tensor]
    target_critics: list[Tensor]


class _Lean(TD0Only):
    """What both losses have in common: forward and backward pass, written out.

    Results go into memory that is kept; see :class:`~trainers.losses.fast_sac.FastSACLoss`.
    """

    capturable = True
    critics: ClassVar[str]
    """What TorchRL calls them."""

    def __init__(self, actor_network: TanhActor, critics: Any, **kwargs: Any) -> None:
        super().__init__(actor_network, critics, **kwargs)  # type: ignore[call-arg]  # TorchRL's
        first = critics[0] if isinstance(critics, list) else critics
        # In a tuple, else their parameters would be registered a second time; only their layout is
        # used.
        self._networks_used: tuple[TanhActor, Any] = (actor_network, first.module)
        self._passes: dict[type, Any] = {}
        self._scratch = Scratch()

    def value_loss(self, tensordict: TensorDictBase) -> Part:
        """The critics' loss of a batch ``[B]`` of transitions.

        Returns:
            The loss and, as ``TD3Loss`` has them, ``td_error`` (squared) and ``pred_value``, both
            ``[critics, B]``, ``target_value`` and ``next_state_value``, both ``[B]``.
        """
        data: Any = tensordict
        following, keys = data["next"], self.tensor_keys  # type: ignore[attr-defined]  # TorchRL's
        reward, terminated = (as_array(following[key]) for key in (keys.reward, keys.terminated))
        share, gamma = share_of_rows(self, data), discounts(self.value_estimator, data)  # type: ignore[attr-defined]  # TorchRL's
        passes, xp = self._pass(_CriticsPass, len(data))
        with torch.no_grad(), np.errstate(all="ignore"):  # what is not finite shows in the loss
            action = self._smoothed(passes.enter(data, getattr(keys, "action", "action")), passes)
            next_values, values = passes.criticize(action)
            next_value = xp.amin(next_values, 0)
            target = reward + gamma * (next_value * ~terminated)
            error = values - target
            distance, slope = DISTANCES[self.loss_function](xp, error)  # type: ignore[attr-defined]  # TorchRL's
            loss = as_tensor((distance * share).sum())
        about = {
            "td_error": as_tensor(error * error).squeeze(-1),
            "pred_value": as_tensor(values).squeeze(-1).clone(),  # not the memory that is kept
            "target_value": as_tensor(target).squeeze(-1),
            "next_state_value": as_tensor(next_value).squeeze(-1),
        }
        return passes.result(loss, slope * share), about

    def actor_loss(self, tensordict: TensorDictBase) -> Part:
        """The actor's loss of a batch ``[B]``: minus what the first critic says of its actions.

        Returns:
            The loss and ``state_action_value_actor`` ``[1, B]``, of the critic that was asked.
        """
        data: Any = tensordict
        share = share_of_rows(self, data)
        passes, _ = self._pass(_ActorPass, len(data))
        with torch.no_grad(), np.errstate(all="ignore"):
            values = passes.evaluate(data["observation"])
            loss = as_tensor(-(values * share).sum())
        about = {"state_action_value_actor": as_tensor(values).squeeze(-1).clone()}
        return passes.result(loss, -share), about

    def _smoothed(self, action: Array, passes: _CriticsPass) -> Array:
        """What the target policy is taken to do."""
        return action

    def _pass(self, kind: Any, rows: int) -> tuple[Any, Any]:
        """Memory for a pass of this kind, and numpy or torch."""
        layers = self._layers
        addresses = [tensor.data_ptr() for network in layers for tensor in network]
        passes = self._passes.get(kind)
        if passes is None or not passes.fit(rows, addresses):
            with torch.inference_mode(False):  # else nobody else could write to this memory
                passes = self._passes[kind] = kind(self, layers, rows, addresses)
        return passes, passes.xp

    @property
    @_cache_values  # until the parameters are moved to another device
    def _layers(self) -> _Layers:
        actor, critic = self._networks_used
        of_actor, of_critics = _keys(actor.net, "module", "0"), _keys(critic.net, "module", "net")
        pairs = [(prefix + "actor_network_params", of_actor) for prefix in ("", "target_")]
        pairs += [(f"{prefix}{self.critics}_params", of_critics) for prefix in ("", "target_")]
        return _Layers(*([getattr(self, name)[key] for key in keys] for name, keys in pairs))


class FastTD3Loss(_Lean, TD3Loss):
    """TorchRL's ``TD3Loss`` for the shipped networks: the same keywords, state, values, gradients.

    Args:
        actor_network: the shipped actor.
        qvalue_network: a list of critics made of the shipped
            :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :func:`fits`.
    """

    critics = "qvalue_network"

    def _smoothed(self, action: Array, passes: _CriticsPass) -> Array:
        """With clipped noise (Fujimoto et al. 2018, equation 14)."""
        xp, settings = passes.xp, (self.policy_noise, self.noise_clip)
        # By torch, as TorchRL does.
        noise = as_array(torch.randn(action.shape, device=passes.device))
        std, most = (as_array(x) if isinstance(x, Tensor) else x for x in settings)
        bounds: Any = (self.min_action, self.max_action)
        low, high = map(as_array, bounds)
        return xp.clip(action + xp.clip(noise * std, -most, most), low, high)


class FastDDPGLoss(_Lean, DDPGLoss):
    """TorchRL's ``DDPGLoss`` for the shipped networks: the same keywords, state, values, gradients.

    Args:
        actor_network: the shipped actor.
        value_network: a critic made of the shipped :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :func:`fits`.
    """

    critics = "value_network"

    def loss_value(self, tensordict: TensorDictBase) -> Part:
        """As TorchRL has it: :meth:`value_loss` of one critic; writes ``td_error``, squared."""
        loss, about = self.value_loss(tensordict)
        error, value, target = about["td_error"][0], about["pred_value"][0], about["target_value"]
        tensordict.set(self.tensor_keys.priority, error)
        largest = {"target_value_max": target.max(), "pred_value_max": value.max()}
        return loss, {"td_error": error, "pred_value": value, "target_value": target} | largest

    def loss_actor(self, tensordict: TensorDictBase) -> Part:
        """As TorchRL has it: :meth:`actor_loss`."""
        return self.actor_loss(tensordict)[0], {}


class _Pass:
    """Memory of a pass, and of the gradients of the parameters that learn from it."""

    def __init__(self, loss: Any, trained: str, rows: int, addresses: list[int]) -> None:
        named: Any = loss.named_parameters()
        self.gradients = Gradients([p for name, p in named if name.startswith(f"{trained}_params")])
        self.free = True
        self._fits_to = (rows, addresses)
        like = self.gradients.leaves[0].detach()
        self.device, self.xp = like.device, library_for(like)

    def fit(self, rows: int, addresses: list[int]) -> bool:
        """Whether this memory is made for such a batch, and no gradients in it wait to be used."""
        return self.free and self._fits_to == (rows, addresses) and self.gradients.fit()

    def result(self, loss: Tensor, d_values: Array) -> Tensor:
        """``loss``, which depends on the values so, with its gradients if it is to have any."""
        if not torch.is_grad_enabled():
            return loss
        self.free = False

        def differentiate(weights: Sequence[Weight]) -> list[Tensor]:
            self.free = True
            with torch.no_grad(), np.errstate(all="ignore"):  # as in the forward pass
                self.backward(as_factor(weights[0]) * d_values)
            return self.gradients.memory

        return with_known_gradients([loss], differentiate, self.gradients.leaves)[0]

    def backward(self, d_values: Array) -> None:
        """The parameters' gradients, from those of the critics' values ``[critics, B, 1]``."""
        raise NotImplementedError


class _CriticsPass(_Pass):
    """The target policy's actions, and what the critics and their targets say."""

    def __init__(self, loss: Any, layers: _Layers, rows: int, addresses: list[int]) -> None:
        super().__init__(loss, loss.critics, rows, addresses)
        actor, critic = loss._networks_used
        self._squashed = SquashedMean(actor)
        self._actor = Perceptrons(_stacked(layers.target_actor), _activation(actor.net))
        self._critics, self._targets = (
            Perceptrons(_stacked(tensors), _activation(critic.net))
            for tensors in (layers.critics, layers.target_critics)
        )
        like, number = layers.critics[0].detach(), len(self._critics.weights[0])
        states = like.new_empty(1, rows, layers.actor[0].shape[-1])
        questions = like.new_empty(2, rows, like.shape[-1])  # next and taken actions
        following, taken = (questions[i : i + 1].expand(number, -1, -1) for i in range(2))
        self._of_critics = self._critics.memory(taken, loss._scratch)
        self._of_targets = self._targets.memory(following, loss._scratch, way_back=False)
        self._of_actor = self._actor.memory(states, loss._scratch, way_back=False)
        self._states, self._questions = as_array(states[0]), as_array(questions)
        self._outputs = as_array(self._of_actor.results[-1][0])
        of_critics = (self._of_targets, self._of_critics)
        self._values = tuple(as_array(memory.results[-1]) for memory in of_critics)
        self._d_values = as_array(self._of_critics.gradients[-1])
        self._gradients = _stacked(self.gradients.of(layers.critics))

    def enter(self, data: Any, action_key: Any) -> Array:
        """Begin an update of this batch; returns the target policy's actions in the next states."""
        following, number = as_array(data["next"]["observation"]), self._states.shape[-1]
        self._states[:] = self._questions[0, :, :number] = following
        self._questions[1, :, :number] = as_array(data["observation"])
        self._questions[1, :, number:] = as_array(data[action_key])
        self._actor.forward(self._of_actor)
        return self._squashed.action(self._outputs)

    def criticize(self, next_action: Array) -> tuple[Array, ...]:
        """Targets' values of the next actions, critics' of the taken: ``[critics, B, 1]``."""
        self._questions[0, :, self._states.shape[-1] :] = next_action
        self._targets.forward(self._of_targets)
        self._critics.forward(self._of_critics)
        return self._values

    def backward(self, d_values: Array) -> None:
        self._d_values[:] = d_values
        self._critics.backward(self._of_critics, self._gradients)


class _ActorPass(_Pass):
    """The actor's actions, and what the first critic says of them."""

    def __init__(self, loss: Any, layers: _Layers, rows: int, addresses: list[int]) -> None:
        super().__init__(loss, "actor_network", rows, addresses)
        actor, critic = loss._networks_used
        self._squashed = SquashedMean(actor)
        self._actor = Perceptrons(_stacked(layers.actor), _activation(actor.net))
        first = [tensor[:1] for tensor in _stacked(layers.critics)]
        self._critic = Perceptrons(first, _activation(critic.net))
        like = layers.critics[0].detach()
        states = like.new_empty(1, rows, layers.actor[0].shape[-1])
        questions = like.new_empty(1, rows, like.shape[-1])
        self._of_actor, self._of_critic = (
            self._actor.memory(states, loss._scratch),
            self._critic.memory(questions, loss._scratch),
        )
        self._states, self._questions = as_array(states[0]), as_array(questions[0])
        self._outputs = as_array(self._of_actor.results[-1][0])
        self._d_outputs = as_array(self._of_actor.gradients[-1][0])
        self._values = as_array(self._of_critic.results[-1])
        self._d_values = as_array(self._of_critic.gradients[-1])
        self._gradients = _stacked(self.gradients.of(layers.actor))
        self._drawn: Array = None

    def evaluate(self, observation: Tensor) -> Array:
        """The critic's values ``[1, B, 1]`` of what the actor does."""
        number = self._states.shape[-1]
        self._states[:] = self._questions[:, :number] = as_array(observation)
        self._actor.forward(self._of_actor)
        self._questions[:, number:], self._drawn = self._squashed.draw(self._outputs)
        self._critic.forward(self._of_critic)
        return self._values

    def backward(self, d_values: Array) -> None:
        self._d_values[:] = d_values
        below = self._critic.backward(self._of_critic)
        d_action = self._critic.input_gradient(below, self._states.shape[-1])[0]
        self._d_outputs[:] = self._squashed.gradient(self._drawn, as_array(d_action))
        self._actor.backward(self._of_actor, self._gradients)


def _keys(net: nn.Sequential, *prefix: str) -> list[tuple[str, ...]]:
    """Where a loss has weights and biases of ``net``."""
    linear = [str(index) for index, layer in enumerate(net) if isinstance(layer, nn.Linear)]
    return [(*prefix, index, kind) for index in linear for kind in ("weight", "bias")]


def _stacked(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Weights and biases of one network, or of several, as :class:`Perceptrons` wants them."""
    return [t.view(-1, *t.shape[-n:]) for t, n in zip(tensors, cycle((2, 1)), strict=False)]


def _activation(net: nn.Sequential) -> type[nn.Module]:
    return type(net[1]) if len(net) > 1 else nn.ReLU
