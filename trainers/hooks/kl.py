"""How far may the policy move in an iteration?"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import KLPENPPOLoss

from trainers.trainer import Trainer

_KEYS = ("kl", "kl_approx")  # what TorchRL's losses call it, the exact one first


class _MeanKL:
    """Mean of the divergence over the updates of an epoch; stays on the device until asked for."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def restart(self) -> None:
        self._sum, self._count = None, 0

    def add(self, losses: TensorDictBase) -> None:
        key = next((key for key in _KEYS if losses.get(key, None) is not None), None)
        if key is None:
            raise KeyError(f"the loss returns none of {_KEYS}, only {sorted(losses.keys())}")
        kl = losses[key].detach().mean()
        self._sum = kl if self._sum is None else self._sum + kl
        self._count += 1

    def value(self) -> Tensor | None:
        return None if self._sum is None else self._sum / self._count


class StopEpochs:
    """Ends an iteration's epochs once the policy has moved further than ``target_kl`` on average.

    The divergence is the loss's own: TorchRL's PPO takes the mean of ``-log ratio``, which may be
    below 0 by chance, and not that of ``ratio - 1 - log ratio`` (Schulman 2020).

    Register :meth:`check` at ``pre_epoch`` and :meth:`observe` at ``post_optim``: the host asks the
    device once an epoch.
    """

    name = "target_kl"

    def __init__(self, target_kl: float) -> None:
        self.target_kl = target_kl
        self._kl = _MeanKL()

    def check(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Look at the epoch that has passed."""
        moved = self._kl.value()
        if trainer.epoch > 0 and moved is not None and float(moved) > self.target_kl:
            trainer.stop_epochs()
        self._kl.restart()

    def observe(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        """Note an update's divergence."""
        self._kl.add(losses)


class AdaptBeta:
    """Adapts the weight of a KL penalty once an iteration (Schulman et al. 2017, section 4).

    TorchRL's ``KLPENPPOLoss`` adapts its ``beta`` in every forward pass, so that ten epochs of
    small steps take it to exactly zero, where it stays. This takes the adaptation over, with the
    loss's own ``dtarg``, ``increment`` and ``decrement``: register :meth:`observe` at
    ``post_optim`` and :meth:`adapt` at ``post_steps``. ``beta`` is a buffer of the loss and saved
    with it.

    Args:
        loss: whose ``beta`` is moved, in place; ``increment`` and ``decrement`` become 1.
        bounds: which ``beta`` never leaves.
    """

    name = "adapt_beta"

    def __init__(self, loss: KLPENPPOLoss, bounds: tuple[float, float] = (1e-4, 1e4)) -> None:
        self.beta: Tensor = loss.beta  # type: ignore[assignment]  # a buffer
        self.target, self.increment, self.decrement = loss.dtarg, loss.increment, loss.decrement
        loss.increment = loss.decrement = 1.0
        self.bounds = bounds
        self._kl = _MeanKL()
        self._epoch = 0

    def observe(self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        """Note an update's divergence; those of the last epoch count."""
        if trainer.epoch != self._epoch:
            self._kl.restart()
        self._epoch = trainer.epoch
        self._kl.add(losses)

    def adapt(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Move ``beta`` for the next iteration."""
        kl = self._kl.value()
        if kl is not None:
            above, below = kl > 1.5 * self.target, kl < self.target / 1.5
            factor = torch.where(above, self.increment, torch.where(below, self.decrement, 1.0))
            self.beta.mul_(factor).clamp_(*self.bounds)
            trainer.metrics.add("train/kl", kl)
        trainer.metrics.add("train/beta", self.beta.clone())
        self._kl.restart()
        self._epoch = 0
