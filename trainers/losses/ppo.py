"""PPO's losses: of TorchRL's values and gradients, for small networks on the CPU much faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import ClipPPOLoss, PPOLoss

from trainers.arrays import DISTANCES, as_array, as_tensor, on_host
from trainers.backprop import Gradients
from trainers.known_gradients import Weight, with_known_gradients
from trainers.losses.forward import plain_forward
from trainers.numpy_nets import Array, NumpyMLP, numpy_policy
from trainers.tensordicts import tensordict_of

_RESOLUTION = torch.finfo(torch.float32).resolution
_EPS = torch.finfo(torch.float32).eps


def _mean(values: Array) -> float:
    return float(np.add.reduce(values)) / len(values)  # numpy's mean() takes five times as long


def _squares(values: Array) -> float:
    """Sum of the squared distances from the mean."""
    centered = values - _mean(values)
    return float(centered.dot(centered))


# Keywords of TorchRL's that change what is computed, and are not known here.
_UNKNOWN = ("clip_value", "delay_actor", "max_importance_ratio", "advantage_norm")


class _Gradients:
    """Memory for those of actor, head and critic, in one piece for each of autograd's leaves.

    Args:
        parts: the parameters of each.
        state: what has to stay for this memory to be of use.
    """

    def __init__(self, parts: list[list[Tensor]], state: list[Any]) -> None:
        self.state = state
        pieces = Gradients([parameter for part in parts for parameter in part])
        self.leaves = [leaf for leaf, _ in pieces.leaves]
        self.memory = [memory for _, memory in pieces.leaves]
        self.of_actor, self.of_head, self.of_critic = (
            [as_array(piece) for piece in pieces.of(part)] for part in parts
        )


@plain_forward
class FastPPOLoss(PPOLoss):
    """TorchRL's ``PPOLoss`` for the shipped networks: the same keywords, state, values, gradients.

    Forward and backward pass are written out in numpy, where TorchRL builds distributions, passes
    every result through a TensorDict and has autograd remember each step.

    What it was not made for (other shapes or devices, batches without advantages) goes through
    TorchRL's own ``forward``.

    Args:
        actor_network: the shipped actor on an MLP of its own.
        critic_network: an MLP on ``observation``.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    capturable = True

    def __init__(self, actor_network: Any, critic_network: Any, **kwargs: Any) -> None:
        super().__init__(actor_network, critic_network, **kwargs)
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
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a minibatch ``[B]``, and what TorchRL reports beside them."""
        keys = self.tensor_keys
        entries: dict[Any, Any] = dict(tensordict.items())  # where a look takes a fifth of the time

        def entry(key: Any) -> Any:
            return entries[key] if key in entries else tensordict[key]

        advantage = tensordict.get(keys.advantage, None)
        if not self._is_usual(advantage, tensordict.shape):
            return super().forward(tensordict)
        with np.errstate(all="ignore"):  # what is not finite shows in the losses
            return self._evaluate(
                entry("observation").numpy(),
                entry(keys.action).numpy(),
                entry(keys.sample_log_prob).numpy(),
                advantage.numpy()[:, 0],
                entry(keys.value_target).numpy()[:, 0],
            )

    def _get_entropy(self, dist: Any, adv_shape: torch.Size) -> Tensor:
        # TorchRL's own lets the host look whether it is finite, which a captured update cannot.
        return dist.entropy().unsqueeze(-1)

    @staticmethod
    def _is_usual(advantage: Tensor | None, shape: torch.Size) -> bool:
        if advantage is None or not on_host(advantage):
            return False
        return len(shape) == 1 and advantage.shape == (*shape, 1)

    def _evaluate(
        self,
        observation: Array,
        action: Array,
        old_log_prob: Array,
        advantage: Array,
        value_target: Array,
    ) -> TensorDictBase:
        actor, head, critic = self._numpy_nets
        outputs = actor.forward(actor.normalized(observation))
        policy = head.distribution(outputs[-1], action)
        log_ratio = policy.log_prob - old_log_prob
        gain, d_gain, also = self._surrogate(log_ratio, self._normalized(advantage))
        values = critic.forward(critic.normalized(observation))
        error = values[-1][:, 0] - value_target
        distance, slope = DISTANCES[self.loss_critic_type](np, error)

        share = 1.0 / len(advantage) if self.reduction == "mean" else 1.0
        critic_coeff = self._number("critic_coeff")
        entropy_coeff = self._number("entropy_coeff") if self.entropy_bonus else 0.0

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
        also["kl_approx"] = -_mean(log_ratio)
        if self.log_explained_variance:
            spread = _squares(value_target) / len(value_target) + _EPS
            also["explained_variance"] = 1.0 - _squares(error) / len(error) / spread
        reported = torch.from_numpy(np.array(list(also.values()), np.float32)).unbind()
        return tensordict_of(entries | dict(zip(also, reported, strict=True)))

    def _gradients(self) -> _Gradients:
        """Memory for them, made anew when parameters are moved or frozen."""
        parts = [part.parameters for part in self._numpy_nets]
        every = [parameter for part in parts for parameter in part]
        state = [(parameter.data_ptr(), parameter.requires_grad) for parameter in every]
        if self._into is None or self._into.state != state:
            self._into = _Gradients(parts, state)
        return self._into

    def _number(self, buffer: str) -> float:
        return self._buffers[buffer].item()  # type: ignore[union-attr]  # TorchRL made it

    def _normalized(self, advantage: Array) -> Array:
        if not self.normalize_advantage or len(advantage) < 2:
            return advantage
        std = math.sqrt(_squares(advantage) / (len(advantage) - 1))
        return (advantage - _mean(advantage)) / max(std, _RESOLUTION)

    def _surrogate(self, log_ratio: Array, advantage: Array) -> tuple[Array, Array, dict[str, Any]]:
        """What is to be made large, its slope by the log-ratio, and numbers to report."""
        gain = np.exp(log_ratio) * advantage
        return gain, gain, {}


@plain_forward
class FastClipPPOLoss(FastPPOLoss, ClipPPOLoss):
    """TorchRL's ``ClipPPOLoss`` likewise."""

    def _surrogate(self, log_ratio: Array, advantage: Array) -> tuple[Array, Array, dict[str, Any]]:
        ratio = np.exp(log_ratio)
        gain = ratio * advantage
        epsilon = self._number("clip_epsilon")
        low, high = math.log1p(-epsilon), math.log1p(epsilon)
        clipped = np.minimum(np.maximum(log_ratio, low), high)
        clipped_gain = np.exp(clipped) * advantage
        number, total = len(ratio), float(np.add.reduce(ratio))
        report = {
            "clip_fraction": np.count_nonzero(clipped != log_ratio) / number,
            "ESS": total * total / ratio.dot(ratio) / number,
            "max_ratio": np.maximum.reduce(ratio),
            "mean_ratio": total / number,
        }
        return np.minimum(gain, clipped_gain), gain * (gain <= clipped_gain), report
