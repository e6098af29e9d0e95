"""Optimizers of our own: only where measurably faster than torch's, and of the same arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from trainers.arrays import as_array


class FlatAdam(Adam):
    """Torch's fused ``Adam`` on one long vector for each parameter group.

    The parameters that it is given become views of that vector, their gradients views of its
    gradient: with small networks a step, a norm, or setting gradients to zero takes as long for
    each of a dozen tensors as for all of them together.

    Whoever took hold of a parameter's memory before (``parameter.data``) is left behind: make the
    optimizer first. Gradients stay allocated: :meth:`zero_grad` fills them with zeros. What is done
    to a single parameter holds as with torch's: one that is frozen (``requires_grad_(False)``) or
    has lost its gradient stays, a new gradient is stepped on, hooks are called, other memory is
    moved back.

    Args:
        groups: parameters in float32 and on one device, with a name and a learning rate each.
        eps: as torch's.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], eps: float = 1e-8) -> None:
        flat = [{**group, "params": [_flattened(group["params"])]} for group in groups]
        super().__init__(flat, eps=eps, fused=True)
        self._rates: list[Tensor] | None = None  # on the device
        self._shared: list[float] = []
        for group in self.param_groups:
            (parameter,) = group["params"]
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Gradients become zeros, whatever ``set_to_none`` says: they are views."""
        for group in self.param_groups:
            (flat,) = group["params"]
            set_gradient(flat, 0.0)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closures here
        """One step; what ``Adam.step`` calls in the end, without its way there."""
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks:
            self._step_with_hooks()
        else:
            self._step()

    # Torch would wrap it in a record for its profiler, which takes as long as the step. Hooks for
    # the steps of all optimizers at once (torch.optim's global ones) are not called, therefore.
    step.hooked = True  # type: ignore[attr-defined]  # torch looks for it

    def _step(self) -> None:
        with torch.no_grad():
            kept = [pair for group in self.param_groups for pair in self._kept(group)]
            for settings, groups in self._alike():
                self._step_groups(settings, groups)
            for values, before in kept:
                values.copy_(before)

    _step_with_hooks = Adam.profile_hook_step(_step)

    def _alike(self) -> Iterable[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
        """The groups by their settings: those of the same ones are stepped together."""
        if self._rates is not None:
            pairs = zip(self._rates, self.param_groups, strict=True)
            return [((lr, group["betas"], group["eps"]), [group]) for lr, group in pairs]
        alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for group in self.param_groups:
            alike.setdefault((group["lr"], group["betas"], group["eps"]), []).append(group)
        return alike.items()

    def _step_groups(self, settings: tuple[Any, ...], groups: list[dict[str, Any]]) -> None:
        parameters = [group["params"][0] for group in groups]
        states = [self.state[parameter] for parameter in parameters]
        found = getattr(self, "found_inf", None)  # torch's GradScaler's way to have a step skipped
        steps = [state["step"] for state in states]
        for step in steps:
            count = as_array(step)  # the same memory; numpy adds to it in a tenth of the time
            count += 1 if found is None else 1 - found
        lr, (beta1, beta2), eps = settings
        torch._fused_adam_(  # type: ignore  # torch's own optimizer calls it too
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            amsgrad=False,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=eps,
            maximize=False,
            found_inf=found,
        )

    def share_rates(self) -> None:
        """Take the learning rates from the device, where a captured step finds those of now.

        Call it again before every such step, in case they have been changed.
        """
        rates = [group["lr"] for group in self.param_groups]
        if self._rates is None:
            devices = [group["params"][0].device for group in self.param_groups]
            pairs = zip(rates, devices, strict=True)
            self._rates = [torch.tensor(rate, device=device) for rate, device in pairs]
        elif rates != self._shared:
            for tensor, rate in zip(self._rates, rates, strict=True):
                tensor.fill_(rate)
        self._shared = rates

    def _kept(self, group: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """What a step is not to change, and copies of it."""
        (parameter,) = group["params"]
        parts = _staying(parameter)
        if not parts:
            return []
        state = self.state[parameter]
        vectors = (parameter.data, state["exp_avg"], state["exp_avg_sq"])
        values = [vector[part] for part in parts for vector in vectors]
        return [(each, each.clone()) for each in values]


def conditions(parameters: Iterable[Tensor]) -> list[tuple[int, bool]]:
    """Of each its address, and whether it only wants a gradient: is not frozen, has no hooks."""
    return [
        (p.data_ptr(), p.requires_grad and not (p._backward_hooks or p._post_accumulate_grad_hooks))
        for p in parameters
    ]


def leaves(parameters: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
    """Where a function that makes its own gradients sends those of ``parameters``.

    Each leaf comes with the number of consecutive parameters it stands for: all those of a
    :class:`FlatAdam`'s group, so that they get their gradients in one piece, else one. It holds
    while their :func:`conditions` do.
    """
    found: list[tuple[Tensor, int]] = []
    index = 0
    while index < len(parameters):
        flat: Any = getattr(parameters[index], "flat", None)
        parts = [] if flat is None else flat.parts
        mine = parameters[index : index + len(parts)]
        whole = len(parts) > 0 and [id(part) for part in parts] == [id(each) for each in mine]
        whole = whole and all(plain for _, plain in conditions(parts))  # else see to each by itself
        leaf: Any = flat if whole else parameters[index]
        found.append((leaf, len(parts) if whole else 1))
        index += found[-1][1]
    return found


def set_gradient(leaf: Tensor, gradient: Tensor | float) -> None:
    """Make ``gradient`` that of ``leaf``, and of the parameters it may stand for.

    It is copied, unless it has been written where it belongs.
    """
    if leaf.grad is None:
        leaf.grad = torch.empty_like(leaf)
    if isinstance(gradient, Tensor):
        if gradient is not leaf.grad:
            leaf.grad.copy_(gradient.view_as(leaf))
    else:
        leaf.grad.fill_(gradient)
    for part, view in getattr(leaf, "grad_views", ()):
        if part.grad is not view:  # a module's own zero_grad() has dropped it
            part.grad = view


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that there are, as a step would find them.

    In a :class:`FlatAdam`'s is what somebody has given to a single parameter in place of its part,
    and nothing of one that has lost it.
    """
    found = []
    for leaf in parameters:
        for part, view in getattr(leaf, "grad_views", ()):
            given = part.grad
            if given is None:
                view.zero_()
            elif given is not view:
                view.copy_(given.detach())
                part.grad = view
        if leaf.grad is not None:
            found.append(leaf.grad)
    return found


def _flattened(parameters: Iterable[Tensor]) -> nn.Parameter:
    """All ``parameters`` in one, of which they are views from now on."""
    parameters = list(parameters)
    flat = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    parts = zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True)
    flat.parts, flat.views, flat.grad_views = parameters, [], []  # type: ignore[attr-defined]  # ours, see FlatAdam
    for parameter, data, grad in parts:
        parameter.data = data.view_as(parameter)
        parameter.grad = grad.view_as(parameter)
        parameter.flat = flat  # type: ignore[attr-defined]  # for leaves()
        flat.grad_views.append((parameter, parameter.grad))  # type: ignore[attr-defined]  # set above
        flat.views.append((parameter.data, parameter.data_ptr()))  # type: ignore[attr-defined]  # set above
    return flat


def _staying(flat: Any) -> list[slice]:
    """Where in ``flat`` the parameters are that a step leaves alone; the others lie there then."""
    staying = []
    for (part, grad), (view, address) in zip(flat.grad_views, flat.views, strict=True):
        given = part.grad
        if part.data_ptr() != address:  # it was given values in other memory
            view.copy_(part)
            part.data = view
        if given is None or not part.requires_grad:
            begin = view.storage_offset()
            staying.append(slice(begin, begin + view.numel()))
        elif given is not grad:
            grad.copy_(given)
    return staying
