"""The loss of CrossQ, as in the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.objectives import CrossQLoss

from trainers.losses.parts import InParts, drawn
from trainers.networks.batch_renorm import frozen
from trainers.tensordicts import tensordict_of


class SplitCrossQLoss(InParts, CrossQLoss):
    """Section 3 and figure 2 of Bhatt et al. 2024, https://arxiv.org/abs/1902.05605, in two parts.

    There are no target networks: ``(s, a)`` and ``(s', a')`` go through the critics in one batch,
    so that both are normalised by the statistics of both, and the values of the latter make the
    target. Keywords and state are those of TorchRL's ``CrossQLoss``, which draws ``a'`` from an
    actor that goes by, and learns, the statistics of the next states; here it goes by its running
    ones, as the authors' does. In :meth:`actor_losses` the actor is the one that learns them, and
    the critics go by their running ones.
    """

    @dataclass
    class _AcceptedKeys(CrossQLoss._AcceptedKeys):
        priority_weight: NestedKey = "priority_weight"

    default_keys = _AcceptedKeys

    def critic_losses(self, data: TensorDictBase) -> TensorDictBase:
        """``loss_qvalue`` of a batch ``[...]``; writes ``td_error`` ``[...]`` into it."""
        following: Any = data["next"]
        with torch.no_grad(), frozen(self.actor_network):
            action, log_prob = drawn(self.actor_network, following)
        states: Any = {
            key: torch.cat([data[key], following[key]])
            for key in self.qvalue_network.in_keys
            if key != self.tensor_keys.action
        }
        rows = data.batch_size[0]
        both = tensordict_of(states, [2 * rows, *data.batch_size[1:]])
        actions = torch.cat([data[self.tensor_keys.action], action])
        values, next_values = self.ask(both, actions, self.qvalue_network_params).split(rows, 1)
        next_value = next_values.detach().amin(0) - self._alpha * log_prob
        return self.regress(data, values, next_value)

    def judged(self, values: Tensor) -> Tensor:
        """The smallest of all critics'."""
        return values.amin(0)
