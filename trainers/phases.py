"""A loss and the optimizers that step on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from trainers.arrays import as_array, as_tensor, on_host
from trainers.optimization.known_gradients import known_gradients
from trainers.optimization.optimizers import FlatAdam, gradients_of, set_gradient

if TYPE_CHECKING:
    from trainers.trainer import Trainer

_FEW = 3  # of a FlatAdam: looked at one by one
_SHARED = 32_768  # of so many numbers torch has every thread look at some
Loss = Callable[[TensorDictBase], TensorDictBase]


class Phase:
    """One loss and its optimizer(s), taken in every ``every``-th update.

    Args:
        loss: a TorchRL ``LossModule`` or any callable ``TensorDict -> TensorDict``; the sum of its
            ``loss_*`` entries, each a scalar, is differentiated, or ``loss`` where there are none.
        optimizer: one optimizer or several that step together.
        every: step only in updates whose number is a multiple (TD3 delays its actor).
        part: called instead of ``loss``, to which it belongs, where this phase steps on some of its
            losses only; several phases may have parts of the same one.
        name: what its gradients are called in the metrics, where there are several phases.

    Raises:
        TypeError: there is no optimizer, or the loss cannot be called.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: Optimizer | Sequence[Optimizer],
        every: int = 1,
        part: Loss | None = None,
        name: str = "",
    ) -> None:
        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
        if not optimizers:
            raise TypeError(
                "optimizer must be a torch optimizer or a list of them, got "
                f"{optimizer!r}: without one nothing would train"
            )
        for given in optimizers:
            if not isinstance(given, Optimizer):
                raise TypeError(f"optimizer must be a torch optimizer, got {given!r}")
        if not callable(loss):
            raise TypeError(f"a loss must be callable as TensorDict -> TensorDict, got {loss!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.loss = loss
        self.part = part
        self.optimizers = optimizers
        self.every = every
        self.name = name
        self.keeps_loss = True  # in its state: the first of the phases that share one does
        self._guard: _Guard | None = None

    def parameters(self) -> Iterator[Tensor]:
        """All parameters that the optimizers of this phase move."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def compute(self, batch: TensorDictBase) -> TensorDictBase:
        """The losses of this phase."""
        return (self.part or self.loss)(batch)

    def is_under_way(self, trainer: Trainer) -> bool:
        """Condition for ``register_hook(when=...)``, where hooks fire for every phase."""
        return trainer.phase is self

    def was_taken(self, trainer: Trainer) -> bool:
        """Condition for ``register_hook(when=...)`` at ``post_optim``."""
        return trainer.updates % self.every == 0

    def backward(self, losses: TensorDictBase) -> Tensor:
        """Fresh gradients of the sum of the ``loss_*`` entries; returns that sum, detached.

        Raises:
            TypeError: the loss did not return a TensorDict.
            ValueError: it has no such entry, or one that is no scalar.
        """
        terms = _terms(losses)
        known = known_gradients(terms)
        if known is None:
            self._zero_grad()
            total = reduce(add, terms)
            total.backward()
            return total.detach()
        leaves, gradients = known
        found = {id(leaf) for leaf in leaves}
        if any(id(parameter) not in found for parameter in self.parameters()):
            self._zero_grad()
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients(), strict=True):
                set_gradient(leaf, gradient)
            return reduce(add, terms)

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def is_finite(self, total: Tensor) -> bool:
        """Whether ``total``, what was differentiated, and the gradients are: one number says it."""
        gradients = gradients_of(self.parameters())
        if on_host(total):
            return math.isfinite(total.item() + total_norm(gradients).item())
        return math.isfinite((total_norm(gradients) + total).item())

    def blame(self, losses: TensorDictBase) -> str:
        """Which loss, or else which gradient, is not finite."""
        bad = [
            f"{key} is {value[~torch.isfinite(value)][0].item()}"
            for key, value in losses.items()
            if not torch.isfinite(value).all()
        ]
        if not bad and isinstance(self.loss, torch.nn.Module):
            bad = [
                f"the gradient of {name} is not finite"
                for name, parameter in self.loss.named_parameters()
                if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
            ]
        return "; ".join(bad[:5]) or "a gradient is not finite"

    def step(self) -> None:
        """Step all optimizers."""
        for optimizer in self.optimizers:
            optimizer.step()

    @property
    def can_skip(self) -> bool:
        """Whether a step can be skipped on the device: on a GPU, by torch's fused optimizers."""
        return next(self.parameters()).is_cuda and all(
            getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in self.optimizers
        )

    def step_while_finite(self, total: Tensor, losses: TensorDictBase) -> None:
        """Step all optimizers if :meth:`is_finite`, now and ever before, decided on the device."""
        if self._guard is None:
            self._guard = _Guard(total.device)
        gradients = gradients_of(self.parameters())
        self._guard.look(total_norm(gradients) + total, losses)
        for optimizer in self.optimizers:
            # How torch's GradScaler tells a fused optimizer to skip a step.
            optimizer.grad_scale, optimizer.found_inf = None, self._guard.found  # type: ignore[attr-defined]  # read by getattr
        self.step()

    def found_non_finite(self) -> str | None:
        """What :meth:`step_while_finite` has stumbled over; waits for the device."""
        return None if self._guard is None else self._guard.report()

    def prepare_replay(self) -> None:
        """Let the device know what the host has changed since the last update."""
        for optimizer in self.optimizers:
            if isinstance(optimizer, FlatAdam):
                optimizer.share_rates()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizers, and of the loss where it has one (networks, targets)."""
        state: dict[str, Any] = {"optimizers": [o.state_dict() for o in self.optimizers]}
        if isinstance(self.loss, torch.nn.Module) and self.keeps_loss:
            state["loss"] = self.loss.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        if isinstance(self.loss, torch.nn.Module) and self.keeps_loss:
            self.loss.load_state_dict(state["loss"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            _check_moments(optimizer, optimizer_state)
            optimizer.load_state_dict(optimizer_state)


class _Guard:
    """Remembers, on the device, the first losses or gradients that were not finite."""

    def __init__(self, device: torch.device) -> None:
        self.found = torch.zeros((), device=device)
        self._names: list[str] = []
        self._values: Tensor | None = None

    def look(self, number: Tensor, losses: TensorDictBase) -> None:
        """``number`` is finite if all is; ``losses`` say what is not."""
        scalars = {key: value for key, value in losses.items() if value.numel() == 1}
        values = torch.stack([value.detach().reshape(()) for value in scalars.values()])
        if self._values is None:
            self._names, self._values = list(scalars), torch.zeros_like(values)
        # In place, since a graph that is replayed looks for them where they are.
        torch.where(self.found > 0, self._values, values, out=self._values)
        self.found.copy_(torch.maximum(self.found, (~torch.isfinite(number)).float()))

    def report(self) -> str | None:
        if self._values is None or self.found.item() == 0.0:
            return None
        pairs = zip(self._names, self._values.tolist(), strict=True)
        bad = [f"{name} is {value}" for name, value in pairs if not math.isfinite(value)]
        return "; ".join(bad[:5]) or "a gradient is not finite"


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all of them together."""
    if len(gradients) > _FEW:
        return torch.nn.utils.get_total_norm(gradients)
    if all(on_host(gradient) and gradient.dtype is torch.float32 for gradient in gradients):
        return as_tensor(np.float32(math.sqrt(sum(map(_sum_of_squares, gradients)))))
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _sum_of_squares(gradient: Tensor) -> float:
    """By whichever is faster within an update, where not all of it is in this core's cache."""
    if gradient.numel() >= _SHARED:
        return torch.linalg.vector_norm(gradient).item() ** 2
    flat = as_array(gradient).reshape(-1)
    return float(flat.dot(flat))


def _check_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Torch takes moments of any shape, and its fused steps write past their ends."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in state["state"].items():
        for name, value in moments.items():
            expected = parameters[number].shape
            if isinstance(value, Tensor) and name != "step" and value.shape != expected:
                raise ValueError(
                    f"{name} of parameter {number} has shape {list(value.shape)} in the state of "
                    f"the optimizer, expected {list(expected)}"
                )


def _terms(losses: TensorDictBase) -> list[Tensor]:
    if not isinstance(losses, TensorDictBase):
        raise TypeError(f"a loss must return a TensorDict, got {type(losses).__name__}")
    terms = {key: value for key, value in losses.items() if key.startswith("loss_")}
    if not terms:  # some of TorchRL's losses have but one, which is called that
        terms = {key: value for key, value in losses.items() if key == "loss"}
    if not terms:
        raise ValueError(
            "the loss returned no 'loss_*' entry (or 'loss') to differentiate, only "
            f"{sorted(losses.keys())}"
        )
    for key, value in terms.items():
        if value.numel() != 1:
            raise ValueError(f"{key} must be a scalar, got shape {list(value.shape)}; reduce it")
    return [v if v.ndim == 0 else v.reshape(()) for v in terms.values()]
