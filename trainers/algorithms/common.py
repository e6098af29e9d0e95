"""What the algorithms have in common: optimizers, losses, parts of their timetables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer
from torchrl.data import Bounded, Categorical, TensorSpec, Unbounded

from trainers import plugins
from trainers.config import ConfigError, TrainConfig
from trainers.hooks import AnnealLR, ClipGradNorm, WeightSync
from trainers.optimization.optimizers import FlatAdam
from trainers.stages import Stage
from trainers.trainer import Trainer


@dataclass(frozen=True)
class ActionSpace:
    """Where an algorithm can act."""

    name: str
    specs: tuple[type[TensorSpec], ...]

    def accepts(self, action_spec: TensorSpec) -> bool:
        """Whether an environment with such actions is one of them."""
        return isinstance(action_spec, self.specs)


FINITE_BOX = ActionSpace("a finite Box", (Bounded,))
DISCRETE = ActionSpace("Discrete", (Categorical,))
BOX_OR_DISCRETE = ActionSpace("a Box or Discrete", (Bounded, Unbounded, Categorical))


@dataclass(frozen=True)
class Algorithm:
    """What the building of a run knows of an algorithm: each page ends with its own."""

    make_agent: Callable[..., Any]
    """``(inputs, action_spec, network, config)``: what acts, and what is trained."""
    trainer: type[Any]
    action_space: ActionSpace
    settings: tuple[str, ...]
    """Buffers of the loss that are configured, and so no part of a run's state."""
    check: Callable[[TrainConfig], None] | None = None
    """Raises a `ConfigError` for what only a look into the environment can tell."""
    sees_pictures: bool = False
    """Whether its networks can be given pictures, and not only vectors."""


@contextmanager
def chosen_loss(name: str | None, own: Any, torchrls: Any) -> Iterator[Any]:
    """The class of the loss by ``algo.loss_module``: null, ``torchrl``, or of a plugin.

    Inside it whatever a loss of a plugin raises, as it is called like the algorithm's own, is a
    `ConfigError`.
    """
    if name in (None, "torchrl"):
        yield own if name is None else torchrls
        return
    try:
        yield plugins.losses.get(name)
    except ConfigError:
        raise
    except Exception as error:
        allowed = "a loss that is called like the algorithm's own"
        reason = plugins.described(error)
        raise ConfigError("algo.loss_module", name, allowed, reason) from error


def grouped_adam(
    loss: nn.Module,
    rates: Mapping[str, float],
    rest: str = "critic",
    eps: float = 1e-8,
    flat: bool = False,
) -> Adam:
    """One Adam of :func:`parameter_groups`; ``flat`` makes it a `FlatAdam`."""
    return make_adam(parameter_groups(loss, rates, rest), eps, flat)


def make_adam(groups: Sequence[dict[str, Any]], eps: float = 1e-8, flat: bool = False) -> Adam:
    """Adam of some groups; flat: :class:`~trainers.optimization.optimizers.FlatAdam`."""
    return FlatAdam(groups, eps=eps) if flat else Adam(groups, eps=eps, fused=True)


def parameter_groups(
    loss: nn.Module, rates: Mapping[str, float], rest: str = "critic"
) -> list[dict[str, Any]]:
    """A group for each kind of parameter that there is, in the order of ``rates``.

    A parameter is of the kind in ``rates`` that TorchRL names it for (``actor_network_params``,
    ``log_alpha``), or else of kind ``rest``.
    """
    groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in rates}
    for name, parameter in loss.named_parameters():
        if parameter.requires_grad:
            network = name.split(".")[0]
            groups[next((kind for kind in rates if kind in network), rest)].append(parameter)
    return [
        {"params": parameters, "name": kind, "lr": rates[kind], "initial_lr": rates[kind]}
        for kind, parameters in groups.items()
        if parameters
    ]


@contextmanager
def keeping_settings(
    loss: nn.Module, optimizers: Sequence[Optimizer], names: Sequence[str]
) -> Iterator[None]:
    """While a checkpoint is loaded, what is configured stays as it is.

    TorchRL keeps coefficients in buffers of its losses (those called ``names``), torch keeps rates
    and the like in the optimizer's state, so a checkpoint brings its own; a run resumed with
    ``resume_override`` wants the new ones.
    """
    settings = [
        (buffer, buffer.clone())
        for name, buffer in loss.named_buffers()
        if name.split(".")[-1] in names
    ]

    def groups() -> list[dict[str, Any]]:  # others after a checkpoint is loaded
        return [group for optimizer in optimizers for group in optimizer.param_groups]

    rates = [group["initial_lr"] for group in groups()]
    others = [{k: group[k] for k in ("betas", "eps") if k in group} for group in groups()]
    yield
    for buffer, value in settings:
        buffer.copy_(value)
    for group, rate, other in zip(groups(), rates, others, strict=True):
        group.update(other)
        if group.get("initial_lr") != rate:  # else a schedule has brought it where it is
            group["lr"] = group["initial_lr"] = rate


def anneal_rates(trainer: Trainer) -> None:
    """Let the learning rate of every optimizer fall to 0 over the run."""
    optimizers = [optimizer for phase in trainer.phases for optimizer in phase.optimizers]
    for index, each in enumerate(optimizers):
        anneal = AnnealLR(each)
        trainer.register_hook(Stage.PROCESS_OPTIM_BATCH, anneal, name=f"anneal_lr_{index}")


def clip_gradients(trainer: Trainer, max_norm: float) -> None:
    """Each phase's to ``max_norm``, which is taken over all of its parameters."""
    for phase in trainer.phases:
        clip = ClipGradNorm(phase.parameters(), max_norm, phase.name)
        several = len(trainer.phases) > 1
        name = f"clip_grad_norm_{phase.name}" if several else None
        under_way = phase.is_under_way if several else None
        trainer.register_hook(Stage.POST_BACKWARD, clip, name, under_way)
        # Of an update without this phase there is no norm to tell.
        taken = phase.was_taken if phase.every > 1 else None
        trainer.register_hook(Stage.POST_OPTIM, clip.log, name, taken)


def sync_weights(trainer: Trainer) -> None:
    """Let the collector act by the latest weights, at the start and after every iteration."""
    sync = WeightSync(trainer.collector)
    trainer.register_hook(Stage.SETUP, sync)
    trainer.register_hook(Stage.POST_STEPS, sync)
