"""The losses of TD3 and DDPG in two parts, for phases that step on them one after the other."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from torchrl.objectives.utils import distance_loss

from trainers.tensordicts import tensordict_of


def critics_part(loss: Any, batch: TensorDictBase) -> TensorDictBase:
    """The critics' ``loss_qvalue`` and, of several, each one's own: ``qvalue_0``, ``qvalue_1``.

    Writes ``td_error``, the size of the largest error of each row, into ``batch``. TorchRL leaves
    that to ``forward``, or writes its square.

    Args:
        loss: a ``TD3Loss``, or a ``DDPGLoss``, which has other names for the same.
        batch: transitions.
    """
    value_loss = getattr(loss, "value_loss", None) or loss.loss_value
    value, about = value_loss(batch)
    target = about["target_value"].detach()
    values = about["pred_value"].detach().reshape(-1, *target.shape)
    batch.set(loss.tensor_keys.priority, (values - target).abs().amax(0))
    losses = {"loss_qvalue": value}
    if len(values) > 1:
        weights = loss._maybe_get_priority_weight(batch)
        for index, each in enumerate(values):
            error = distance_loss(each, target, loss.loss_function)
            losses[f"qvalue_{index}"] = loss._reduce_loss(error, weights=weights)
    return tensordict_of(losses)


def actor_part(loss: Any, batch: TensorDictBase) -> TensorDictBase:
    """The actor's ``loss_actor``; its gradient leaves the critics alone."""
    actor_loss = getattr(loss, "actor_loss", None) or loss.loss_actor
    value, _ = actor_loss(batch)
    return tensordict_of({"loss_actor": value})
