"""Actions squashed into their bounds, Gaussian ones or not, and the way back, in numpy or torch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from trainers.arrays import Array, as_array, library_for, softplus
from trainers.networks.actors import BELOW_ONE, TanhActor, TanhNormalActor

_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class Drawn(NamedTuple):
    """Actions ``[..., n]``, their log-probabilities ``[..., 1]``, and what they were made of."""

    action: Array
    log_prob: Array
    squashed: Array
    spread: Array
    std: Array
    noise: Array

    def part(self, index: int) -> Drawn:
        """Of one of several batches."""
        return Drawn(*(array[index] for array in self))


class _Bounded:
    """Knows an actor's bounds. Whether it is numpy or torch depends on the actor's device."""

    def __init__(self, actor: TanhNormalActor | TanhActor) -> None:
        weight: Any = actor.net[-1].weight
        self._xp = library_for(weight)
        self._bounded = not isinstance(actor.half_range, float)
        bounds: Any = (actor.center, actor.half_range)
        self._center, self._half_range = (
            (as_array(bound.to(weight)) for bound in bounds) if self._bounded else bounds
        )

    def _in_bounds(self, squashed: Array) -> Array:
        return self._center + self._half_range * squashed if self._bounded else squashed

    def _d_squashed(self, d_action: Array) -> Array:
        return d_action * self._half_range if self._bounded else d_action


class SquashedMean(_Bounded):
    """What a :class:`TanhActor` makes of its network's outputs ``[..., n]``."""

    def action(self, outputs: Array, noise: Array | None = None) -> Array:
        """The only one there is, with or without noise."""
        return self._in_bounds(self._xp.tanh(outputs))

    def draw(self, outputs: Array) -> tuple[Array, Array]:
        """The action, and what :meth:`gradient` wants to know of it."""
        squashed = self._xp.tanh(outputs)
        return self._in_bounds(squashed), squashed

    def gradient(self, squashed: Array, d_action: Array) -> Array:
        """That of the outputs, from the actions'."""
        return self._d_squashed(d_action) * (1.0 - squashed * squashed)


class SquashedGaussian(_Bounded):
    """What a :class:`TanhNormalActor` makes of its network's outputs ``[..., 2 n]``."""

    def __init__(self, actor: TanhNormalActor) -> None:
        super().__init__(actor)
        self._bias, self._min_std = float(actor.to_std.bias), float(actor.to_std.min_val)
        self.num_actions = n = actor.spec["action"].shape[-1]
        log_volume = float(actor.half_range.log().sum()) if self._bounded else 0.0  # type: ignore[union-attr]  # tensors then
        self._log_scale = n * (_HALF_LOG_TAU + 2.0 * math.log(2.0)) + log_volume

    def action(self, outputs: Array, noise: Array | None) -> Array:
        """Drawn with ``noise`` ``[..., n]``, standard normal, or without any of the mean."""
        number = self.num_actions
        before = outputs[..., :number]
        if noise is not None:
            before = before + noise * self._std(outputs[..., number:] + self._bias)
        return self._in_bounds(self._squash(before))

    def draw(self, outputs: Array, noise: Array) -> Drawn:
        """Likewise, with log-probabilities."""
        xp, number = self._xp, self.num_actions
        spread = outputs[..., number:] + self._bias
        std = self._std(spread)
        before = outputs[..., :number] + std * noise
        squashed = self._squash(before)
        # With log(1 - tanh(x)^2) written so that it does not cancel where tanh saturates:
        # 2 (log 2 - x - softplus(-2 x)). The constants are added once for all actions.
        each = 2.0 * (before + softplus(xp, -2.0 * before)) - xp.log(std) - 0.5 * (noise * noise)
        log_prob = each.sum(-1)[..., None] - self._log_scale
        return Drawn(self._in_bounds(squashed), log_prob, squashed, spread, std, noise)

    def gradient(self, drawn: Drawn, d_action: Array, d_log_prob: Array) -> tuple[Array, Array]:
        """Those of the outputs' two halves ``[..., n]``, from the actions' and log-densities'."""
        _, _, squashed, spread, std, noise = drawn
        d_squashed = self._d_squashed(d_action)
        # The log-density falls by log(1 - tanh(x)^2), the slope of which is -2 tanh(x).
        d_mean = d_squashed * (1.0 - squashed * squashed) + (2.0 * d_log_prob) * squashed
        d_std = d_mean * noise - d_log_prob / std
        return d_mean, d_std / (1.0 + self._xp.exp(-spread))

    def _std(self, spread: Array) -> Array:
        return softplus(self._xp, spread) + self._min_std

    def _squash(self, before: Array) -> Array:
        return self._xp.clip(self._xp.tanh(before), -BELOW_ONE, BELOW_ONE)
