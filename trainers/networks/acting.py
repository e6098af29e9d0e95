"""Acting in numpy: asked for every frame, torch takes longer to start than to answer."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import nn

from trainers.networks.actors import ActingPolicy, CategoricalActor, TanhActor
from trainers.networks.numpy_nets import (
    Array,
    CategoricalHead,
    GreedyHead,
    Head,
    MeanHead,
    NumpyMLP,
    SquashedHead,
    numpy_policy,
    numpy_q_network,
)
from trainers.networks.q_networks import GreedyPolicy
from trainers.networks.torch_hooks import hooked


class NumpyPolicy(nn.Module):
    """A policy on TensorDicts that can also :meth:`act` on arrays, several times as fast.

    Collectors and evaluations use :meth:`act` where a policy says ``acts_in_numpy``, and have the
    rest of what a loss wants to know of the actions written once a rollout by :meth:`describe`.

    Args:
        actor: a shipped actor for which :meth:`fits` is true; its weights are the ones used.
    """

    acts_in_numpy = True

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.actor = actor
        nets = _nets(actor)
        assert nets is not None, "see fits()"
        self._net, self._head = nets

    @staticmethod
    def fits(actor: Any) -> bool:
        """Whether ``actor`` is a small MLP with a head that numpy can follow, on the CPU."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in actor.parameters())
        return on_cpu and not hooked(actor) and _nets(actor) is not None

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Ask the actor itself."""
        return self.actor(data)

    def state_dict(self, *arguments: Any, **given: Any) -> Any:
        """The actor's, which can be loaded where it acts by itself: on a GPU, for one."""
        return self.actor.state_dict(*arguments, **given)

    def load_state_dict(self, *arguments: Any, **given: Any) -> Any:
        """Restore :meth:`state_dict`."""
        return self.actor.load_state_dict(*arguments, **given)

    def noise(self, *shape: int) -> Array:
        """What so many actions are drawn with, ``[*shape, ...]``, from torch's generator."""
        return self._head.noise(*shape)

    def act(self, observation: Array, noise: Array | None) -> Array:
        """Actions for ``observation`` ``[B, n]``: drawn with ``noise``, or the likeliest ones."""
        outputs = self._net.forward(self._net.normalized(observation))
        return self._head.action(outputs[-1], noise)

    def describe(self, rollout: TensorDictBase) -> None:
        """Write all else that the actor writes: of one that only acts nothing."""
        if isinstance(self.actor, (ActingPolicy, GreedyPolicy)):
            return
        with torch.no_grad():
            parameters = self.actor[0](rollout.select("observation"))
            distribution = self.actor.build_dist_from_params(parameters)
            parameters["action_log_prob"] = distribution.log_prob(rollout["action"])
        rollout.update(parameters.exclude("observation"))


def in_numpy(actor: nn.Module) -> nn.Module:
    """A :class:`NumpyPolicy` where it fits, else the actor itself."""
    return NumpyPolicy(actor) if NumpyPolicy.fits(actor) else actor


def _nets(actor: Any) -> tuple[NumpyMLP, Head] | None:
    if isinstance(actor, GreedyPolicy):
        q_network = numpy_q_network(actor.network)
        return q_network and (q_network[0], GreedyHead(q_network[1], actor.support))
    if not isinstance(actor, ActingPolicy):
        return numpy_policy(getattr(actor[0], "module", None))
    inner = actor.actor
    if not NumpyMLP.fits(inner.net):
        return None
    if isinstance(inner, CategoricalActor):
        return NumpyMLP(inner.net), CategoricalHead(inner.num_actions)
    head = MeanHead(inner) if isinstance(inner, TanhActor) else SquashedHead(inner)
    return NumpyMLP(inner.net), head
