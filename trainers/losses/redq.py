"""The loss of randomized ensembled double Q-learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.objectives import REDQLoss

from trainers.losses.parts import InParts, drawn


class SplitREDQLoss(InParts, REDQLoss):
    """Algorithm 1 of Chen et al. 2021, https://arxiv.org/abs/2101.05982, in two parts.

    TorchRL's ``REDQLoss`` computes all at once, so that the actor cannot be updated less often than
    the critics. Its keywords and state are the same, and so are the values of actor and critics,
    but that the critics' losses are summed, as in SAC, where TorchRL averages them. Further
    differences are the authors' way: the temperature is taught by the states of the batch only, and
    by its logarithm; a subset may have all critics. ``td_error`` is not squared.
    """

    @dataclass
    class _AcceptedKeys(REDQLoss._AcceptedKeys):
        priority_weight: NestedKey = "priority_weight"

    default_keys = _AcceptedKeys

    def __init__(self, *networks: Any, sub_sample_len: int = 2, **keywords: Any) -> None:
        super().__init__(*networks, sub_sample_len=sub_sample_len, **keywords)
        self.sub_sample_len = min(sub_sample_len, self.num_qvalue_nets)

    def critic_losses(self, data: TensorDictBase) -> TensorDictBase:
        """``loss_qvalue`` of a batch ``[...]``; writes ``td_error`` ``[...]`` into it."""
        following: Any = data["next"]
        with torch.no_grad():
            chosen = torch.randperm(self.num_qvalue_nets)[: self.sub_sample_len]
            targets: Any = self.target_qvalue_network_params[chosen]
            action, log_prob = drawn(self.actor_network, following)
            next_value = self.ask(following, action, targets).amin(0) - self._alpha * log_prob
        action = data[self.tensor_keys.action]
        values = self.ask(data, action, self.qvalue_network_params)
        return self.regress(data, values, next_value)

    def judged(self, values: Tensor) -> Tensor:
        """The mean of all critics."""
        return values.mean(0)
