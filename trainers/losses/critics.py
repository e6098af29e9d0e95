"""Critics whose parameters TorchRL's losses have stacked, asked all at once."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.objectives import LossModule
from torchrl.objectives.utils import _vmap_func

from trainers.networks.batch_renorm import BatchRenorm
from trainers.networks.critics import StateActionValue, StateValue
from trainers.networks.torch_hooks import hooked
from trainers.tensordicts import tensordict_of


def stacked_critics(loss: LossModule) -> Any:
    """``(data, stacked parameters) -> values`` of the loss's ``qvalue_network``.

    What TorchRL does by ``vmap``: on a batch ``[...]`` it writes ``[networks, ..., outputs]``. The
    shipped critics are multiplied together instead, which takes less than half as long.
    """
    critic: Any = loss.qvalue_network
    shipped = type(getattr(critic, "module", None)) in (StateActionValue, StateValue)
    if shipped and not hooked(critic):
        return _Stacked(critic)
    return _vmap_func(critic, (None, 0), randomness=loss.vmap_randomness)


class _Stacked:
    def __init__(self, critic: TensorDictModule) -> None:
        self._critic: Any = critic

    def __call__(self, data: TensorDictBase, parameters: TensorDictBase) -> TensorDictBase:
        inputs = torch.cat([data[key] for key in self._critic.in_keys], -1)
        rows = inputs.reshape(-1, inputs.shape[-1])
        values = _forward(self._critic.module.net, parameters["module", "net"], rows)
        shape = [len(values), *data.batch_size]
        values = values.view(*shape, values.shape[-1])  # in no rows there is no -1 to be found
        return tensordict_of({self._critic.out_keys[0]: values}, shape)


def _forward(net: nn.Sequential, parameters: Any, rows: Tensor) -> Tensor:
    """From ``rows`` ``[B, n]`` to ``[networks, B, m]``, by a network of each stacked one."""
    values = rows.expand(len(parameters), -1, -1)
    for index, layer in enumerate(net):
        own = parameters.get(str(index), None)  # nothing, of an activation
        if isinstance(layer, nn.Linear):
            values = torch.baddbmm(own["bias"].unsqueeze(1), values, own["weight"].mT)
        elif isinstance(layer, BatchRenorm):
            values = layer.normalize(values, **own)
        else:
            values = layer(values)
    return values
