"""Values of every one of several actions, and the policy that takes the best."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import TensorDictBase
from torch import Tensor, nn

from trainers.networks.cnn import Inputs, make_net


class QHead(nn.Module):
    """From a network's last outputs to the values of all actions, or to logits of returns.

    Duelling outputs are a state's value and its actions' advantages, which are made to be 0 on
    average: ``Q = V + A - mean A`` (Wang et al. 2016, equation 9).

    Args:
        num_actions: how many there are.
        duelling: whether the first of the outputs is the value.
        num_atoms: None for values ``[..., num_actions]``; else logits of so many returns,
            ``[..., num_atoms, num_actions]`` (Bellemare et al. 2017), duelling atom by atom
            (Hessel et al. 2018).
    """

    def __init__(
        self, num_actions: int, duelling: bool = False, num_atoms: int | None = None
    ) -> None:
        super().__init__()
        self.num_actions, self.duelling, self.num_atoms = num_actions, duelling, num_atoms
        self.num_inputs = (num_actions + duelling) * (num_atoms or 1)

    def forward(self, outputs: Tensor) -> Tensor:
        if self.num_atoms is not None:
            outputs = outputs.unflatten(-1, (self.num_atoms, -1))
        if not self.duelling:
            return outputs
        value, advantage = outputs[..., :1], outputs[..., 1:]
        return value + (advantage - advantage.mean(-1, keepdim=True))


class QNetwork(nn.Sequential):
    """Q(s, a) of every action: a net, a :class:`QHead`, ``[..., *inputs] -> [..., num_actions]``.

    Duelling streams share all layers but the last.
    """

    def __init__(
        self,
        inputs: Inputs,
        num_actions: int,
        hidden: Sequence[int],
        activation: str,
        duelling: bool = False,
        num_atoms: int | None = None,
    ) -> None:
        head = QHead(num_actions, duelling, num_atoms)
        super().__init__(make_net(inputs, head.num_inputs, hidden, activation), head)


class GreedyPolicy(nn.Module):
    """Takes the action of the largest value, and computes nothing else.

    Args:
        network: from observations to values ``[..., num_actions]``; with a ``support`` to logits
            ``[..., num_atoms, num_actions]``, and the largest expected return counts.
        support: the returns ``[num_atoms]`` that these are of.
    """

    support: Tensor | None

    def __init__(self, network: nn.Module, support: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("support", support, persistent=False)

    def values(self, observation: Tensor) -> Tensor:
        """Of all actions, ``[..., num_actions]``."""
        values = self.network(observation)
        if self.support is not None:
            values = (values.softmax(-2) * self.support.unsqueeze(-1)).sum(-2)
        return values

    def mode(self, observation: Tensor) -> Tensor:
        """The number of the action."""
        return self.values(observation).argmax(-1)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        return data.set("action", self.mode(data["observation"]))
