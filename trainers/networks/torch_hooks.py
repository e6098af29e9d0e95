"""Networks that somebody listens in on."""

from __future__ import annotations

from torch import nn


def hooked(*networks: nn.Module) -> bool:
    """Whether any module of ``networks`` has hooks (``register_forward_hook`` and the like).

    Where the passes through a network are written out, its modules are never called: one with hooks
    is left to torch. That is decided when a loss or a policy is made, so hooks that are registered
    later are not called there.
    """
    return any(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
        for network in networks
        for module in network.modules()
    )
