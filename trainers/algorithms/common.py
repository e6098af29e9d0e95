"""What the algorithms' optimizers and losses have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn
from torch.optim import Adam, Optimizer

from trainers.optimizers import FlatAdam


def grouped_adam(
    loss: nn.Module,
    rates: Mapping[str, float],
    rest: str = "critic",
    eps: float = 1e-8,
    flat: bool = False,
) -> Adam:
    """One Adam with a group, and a learning rate, for each kind of parameter.

    A parameter is of the kind in ``rates`` that TorchRL names it for (``actor_network_params``,
    ``log_alpha``), or else of kind ``rest``. ``flat`` makes it a
    :class:`~trainers.optimizers.FlatAdam`.
    """
    groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in rates}
    for name, parameter in loss.named_parameters():
        if parameter.requires_grad:
            network = name.split(".")[0]
            groups[next((kind for kind in rates if kind in network), rest)].append(parameter)
    settings = [
        {"params": parameters, "name": kind, "lr": rates[kind], "initial_lr": rates[kind]}
        for kind, parameters in groups.items()
        if parameters
    ]
    return FlatAdam(settings, eps=eps) if flat else Adam(settings, eps=eps, fused=True)


@contextmanager
def keeping_settings(loss: nn.Module, optimizer: Optimizer, names: Sequence[str]) -> Iterator[None]:
    """While a checkpoint is loaded: learning rates, and the buffers called ``names``, stay as set.

    TorchRL keeps coefficients in buffers of its losses, torch keeps rates in the optimizer's state,
    so a checkpoint brings its own; a run resumed with ``resume_override`` wants the new ones.
    """
    settings = [
        (buffer, buffer.clone())
        for name, buffer in loss.named_buffers()
        if name.split(".")[-1] in names
    ]
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    yield
    for buffer, value in settings:
        buffer.copy_(value)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if group.get("initial_lr") != rate:  # else a schedule has brought it where it is
            group["lr"] = group["initial_lr"] = rate
