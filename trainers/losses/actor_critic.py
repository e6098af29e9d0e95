"""Losses of an actor and a critic in numpy: for small networks on the CPU much faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from trainers.arrays import DISTANCES, as_array, as_tensor, on_host
from trainers.networks.numpy_nets import Array, NumpyMLP, numpy_policy
from trainers.networks.torch_hooks import hooked
from trainers.optimization.backprop import Gradients
from trainers.optimization.known_gradients import Weight, with_known_gradients
from trainers.tensordicts import tensordict_of

_EPS = torch.finfo(torch.float32).eps

Entry = Callable[[Any], Array]
Objective = tuple[Array, Array, dict[str, Any]]


def mean(values: Array) -> float:
    """Of an array ``[B]``."""
    return float(np.add.reduce(values)) / len(values)  # numpy's mean() takes five times as long


def squares(values: Array) -> float:
    """Sum of the squared distances from the mean."""
    centered = values - mean(values)
    return float(centered.dot(centered))


# Keywords of TorchRL's that change what is computed, and are not known here.
_UNKNOWN = ("clip_value", "delay_actor", "max_importance_ratio", "advantage_norm")


class _Gradients(Gradients):
    """Memory for those of actor, head and critic.

    Args:
        parameters: of all of them.
        parts: the parameters of each.
    """

    def __init__(self, parameters: list[Tensor], parts: list[list[Tensor]]) -> None:
        super().__init__(parameters)
        self.of_actor, self.of_head, self.of_critic = (
            [as_array(piece) for piece in self.of(part)] for part in parts
        )


class NumpyActorCritic:
    """Put before one of TorchRL's losses: the same keywords, state, values and gradients.

    Forward and backward pass are written out in numpy, where TorchRL builds distributions, passes
    every result through a TensorDict and has autograd remember each step. What the losses differ
    in is :meth:`objective`.

    What it was not made for (other shapes or devices, batches without advantages) goes through
    TorchRL's own ``forward``.

    Args:
        actor_network: the shipped actor on an MLP of its own.
        critic_network: an MLP on ``observation``.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    tensor_keys: Any
    reduction: str
    loss_critic_type: str
    entropy_bonus: Any
    log_explained_variance = False
    _buffers: dict[str, Any]

    def __init__(self, actor_network: Any, critic_network: Any, **kwargs: Any) -> None:
        super().__init__(actor_network, critic_network, **kwargs)  # type: ignore[call-arg]  # TorchRL's
        policy = numpy_policy(actor_network[0].module)
        assert policy is not None, "see fits()"
        self._numpy_nets = (*policy, NumpyMLP(critic_network.module))
        self._into: _Gradients | None = None

    @staticmethod
    def fits(actor: Any, critic: Any, **kwargs: Any) -> bool:
        """Whether this loss can stand in for TorchRL's with these networks and keywords."""
        return (
            numpy_policy(getattr(actor[0], "module", None)) is not None
            and NumpyMLP.fits(getattr(critic, "module", critic))
            and kwargs.get("loss_critic_type", "smooth_l1") in DISTANCES
            and kwargs.get("reduction", "mean") in ("mean", "sum")
            and kwargs.get("critic_coeff", 1.0) is not None
            and not kwargs.get("functional", True)
            and not any(kwargs.get(name) for name in _UNKNOWN)
            and not hooked(actor, critic)
        )

    def objective(self, log_prob: Array, advantage: Array, entry: Entry) -> Objective:
        """What is to be made large ``[B]``, its slope by ``log_prob``, and numbers to report.

        Args:
            log_prob: of the actions, by the policy as it is.
            advantage: of the actions.
            entry: any other of the batch, by its key.
        """
        raise NotImplementedError

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch ``[...]``, and what TorchRL reports beside them."""
        keys, shape = self.tensor_keys, tensordict.shape
        entries: dict[Any, Any] = dict(tensordict.items())  # where a look takes a fifth of the time

        def entry(key: Any) -> Array:
            tensor: Any = entries[key] if key in entries else tensordict[key]
            array = tensor.numpy()
            if len(shape) == 1:
                return array
            return array.reshape(shape.numel(), *array.shape[len(shape) :])

        advantage = tensordict.get(keys.advantage, None)
        if not self.is_usual(advantage, shape):
            return super().forward(tensordict)  # type: ignore[misc]  # TorchRL's
        with np.errstate(all="ignore"):  # what is not finite shows in the losses
            return self._evaluate(
                entry("observation"),
                entry(keys.action),
                entry(keys.advantage)[:, 0],
                entry(keys.value_target)[:, 0],
                entry,
            )

    def is_usual(self, advantage: Tensor | None, shape: torch.Size) -> bool:
        """Whether a batch of this shape can do without TorchRL's ``forward``."""
        if advantage is None or not on_host(advantage):
            return False
        return len(shape) > 0 and advantage.shape == (*shape, 1)

    def _evaluate(
        self,
        observation: Array,
        action: Array,
        advantage: Array,
        value_target: Array,
        entry: Entry,
    ) -> TensorDictBase:
        actor, head, critic = self._numpy_nets
        outputs = actor.forward(actor.normalized(observation))
        policy = head.distribution(outputs[-1], action)
        gain, d_gain, also = self.objective(policy.log_prob, advantage, entry)
        values = critic.forward(critic.normalized(observation))
        error = values[-1][:, 0] - value_target
        distance, slope = DISTANCES[self.loss_critic_type](np, error)

        share = 1.0 / len(advantage) if self.reduction == "mean" else 1.0
        critic_coeff = self.number("critic_coeff")
        entropy_coeff = self.number("entropy_coeff") if self.entropy_bonus else 0.0

        into = self._gradients()

        def differentiate(weights: Sequence[Weight]) -> list[Tensor]:
            of_objective, of_entropy, of_critic = (share * float(weight) for weight in weights)
            with np.errstate(all="ignore"):  # as in the forward pass
                d_outputs, d_own = policy.gradients(
                    -of_objective * d_gain, -entropy_coeff * of_entropy
                )
                actor.backward(outputs, d_outputs, into.of_actor)
                for gradient, place in zip(d_own, into.of_head, strict=True):
                    place[:] = gradient
                d_values = (critic_coeff * of_critic * slope)[:, None]
                critic.backward(values, d_values, into.of_critic)
            return into.memory

        sums = -gain.sum(), -entropy_coeff * policy.entropy, critic_coeff * distance.sum()
        # Each in memory of its own: autograd forbids hooks to change parts of one in place.
        totals = tuple(map(as_tensor, np.array(sums, np.float32) * np.float32(share)))
        losses = with_known_gradients(totals, differentiate, into.leaves)
        names = ["loss_objective", "loss_entropy", "loss_critic"]
        entries = dict(zip(names, losses, strict=True))
        if self.entropy_bonus:
            also["entropy"] = policy.entropy / len(advantage)
        else:
            del entries["loss_entropy"]
        if self.log_explained_variance:
            spread = squares(value_target) / len(value_target) + _EPS
            also["explained_variance"] = 1.0 - squares(error) / len(error) / spread
        reported = torch.from_numpy(np.array(list(also.values()), np.float32)).unbind()
        return tensordict_of(entries | dict(zip(also, reported, strict=True)))

    def _gradients(self) -> _Gradients:
        """Memory for them, made anew when it does not fit any more."""
        parts = [part.parameters for part in self._numpy_nets]
        every = [parameter for part in parts for parameter in part]
        if self._into is None or not self._into.fit(every):
            self._into = _Gradients(every, parts)
        return self._into

    def number(self, buffer: str) -> float:
        """A coefficient as it is now."""
        return self._buffers[buffer].item()  # TorchRL made it
