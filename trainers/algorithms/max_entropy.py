"""What SAC and its kin have in common: a policy rewarded for its entropy, by a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer

from trainers.algorithms.common import grouped_adam, make_adam, parameter_groups
from trainers.algorithms.off_policy import OffPolicyTrainer, make_estimator, register_critics
from trainers.config import ConfigError
from trainers.config.off_policy import EntropyConfig
from trainers.phases import Phase

# Buffers of the losses that are configured. TorchRL calls the target entropy by several names.
SETTINGS = (
    *("gamma", "lmbda", "min_log_alpha", "max_log_alpha"),
    *("target_entropy", "_target_entropy", "target_entropy_buffer"),
)

_SAME = (
    *("alpha_init", "min_alpha", "max_alpha", "fixed_alpha", "target_entropy"),
    *("target_entropy_weight", "loss_function", "delay_actor", "delay_qvalue"),
    *("skip_done_states", "separate_losses", "reduction"),
)
"""What our configurations call as TorchRL calls the keyword; no algorithm has all of them."""


def make_loss(
    loss_class: Any,
    actor: nn.Module,
    critics: Sequence[nn.Module] | nn.Module,
    config: Any,
    **own: Any,
) -> Any:
    """The loss with all of ``config``'s keywords, and all that belongs to its state.

    Args:
        loss_class: called as TorchRL's losses of SAC's kind are.
        actor: the policy.
        critics: a list of networks, or one of which the loss makes ``config.num_critics``.
        config: the algorithm's.
        own: keywords of this loss alone, or other than in ``config``.
    """
    keywords = {name: getattr(config, name) for name in _SAME if hasattr(config, name)}
    one = isinstance(critics, nn.Module)
    keywords["num_qvalue_nets"] = config.num_critics if one else len(critics)
    if config.reduction == "none":
        keywords["scalar_output_mode"] = "non_tensor"  # else alpha and entropy are left out
    loss = loss_class(actor, critics, **keywords | own)
    register_critics(loss)
    getattr(loss, "target_entropy", None)  # TorchRL makes the buffer when it is first asked for
    make_estimator(loss, config)
    return loss


def _rates(config: EntropyConfig) -> dict[str, float]:
    rates = {"actor": config.actor_lr, "critic": config.critic_lr, "alpha": config.alpha_lr}
    return {kind: rate or config.lr for kind, rate in rates.items()}


def one_adam(loss: nn.Module, config: EntropyConfig, flat: bool) -> Adam:
    """With a group, and a learning rate, each for actor, critics and alpha."""
    return grouped_adam(loss, _rates(config), flat=flat)


def two_adams(
    loss: nn.Module, config: EntropyConfig, flat: bool, beta1: float = 0.9
) -> tuple[Adam, Adam]:
    """The critics', and that of actor and alpha; ``beta1`` is of the networks alone."""
    groups = parameter_groups(loss, _rates(config))
    for group in groups:
        if group["name"] != "alpha":
            group["betas"] = (beta1, 0.999)
    critics = [group for group in groups if group["name"] == "critic"]
    others = [group for group in groups if group["name"] != "critic"]
    return make_adam(critics, flat=flat), make_adam(others, flat=flat)


class DelayedPolicyTrainer(OffPolicyTrainer):
    """An :class:`OffPolicyTrainer` in which actor and alpha may learn less often than the critics.

    That takes a loss in parts (:class:`~trainers.losses.parts.InParts`) and an optimizer for each;
    the first of the two is the critics'.
    """

    def make_phases(
        self, loss_module: Any, optimizer: Optimizer | Sequence[Optimizer], config: Any
    ) -> list[Phase]:
        """The critics' in every update, the others' in every ``config.policy_delay``-th.

        Raises:
            ConfigError: the loss cannot be had in parts and should, or does not apply importance
                weights and should.
        """
        parts = hasattr(loss_module, "actor_losses") and not isinstance(optimizer, Optimizer)
        name, keys = type(loss_module).__name__, getattr(loss_module, "tensor_keys", None)
        if config.prioritized and keys and not hasattr(keys, "priority_weight"):
            hint = f"{name} does not weigh its losses for it"
            raise ConfigError("algo.prioritized", True, "false with this loss", hint)
        if not parts and config.policy_delay > 1:
            hint = f"{name} has one step for all, no part of its own for the actor"
            raise ConfigError("algo.policy_delay", config.policy_delay, "1 with this loss", hint)
        if not parts:
            return super().make_phases(loss_module, optimizer, config)
        critics, others = optimizer  # type: ignore[misc]  # a pair then
        return [
            Phase(loss_module, critics, part=loss_module.critic_losses, name="critic"),
            Phase(
                loss_module,
                others,
                every=config.policy_delay,
                part=loss_module.actor_losses,
                name="actor",
            ),
        ]
