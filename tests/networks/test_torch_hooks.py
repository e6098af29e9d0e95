"""Networks with hooks of torch's are not passed by in numpy, or layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from torchrl.data import Bounded

from trainers.algorithms.on_policy import make_networks
from trainers.config import DQNConfig, NetworkConfig, PPOConfig, SACConfig, TD3Config
from trainers.losses.critics import _Stacked, stacked_critics
from trainers.losses.dqn import FastDQNLoss
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.fast_td3 import fits
from trainers.losses.ppo import FastPPOLoss
from trainers.losses.redq import SplitREDQLoss
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import ActingPolicy, TanhActor, TanhNormalActor
from trainers.networks.critics import StateActionValue, critic_ensemble
from trainers.networks.q_networks import QNetwork

SPEC = Bounded(-1.0, 1.0, (2,))

Asked = tuple[list[nn.Module], Callable[[], bool]]
"""Networks, and whether their passes are written out."""


def critics() -> list[Any]:
    return critic_ensemble(StateActionValue(4, 2, [8], "tanh"), 2)


def sac() -> Asked:
    networks = TanhNormalActor(4, SPEC, [8], "tanh"), critics()
    return [networks[0], *networks[1]], lambda: FastSACLoss.fits(*networks, SACConfig())


def td3() -> Asked:
    networks = TanhActor(4, SPEC, [8], "tanh"), critics()
    return [networks[0], *networks[1]], lambda: fits(*networks, TD3Config())


def dqn() -> Asked:
    network = QNetwork(4, 3, [8], "tanh")
    return [network], lambda: FastDQNLoss.fits(network, DQNConfig())


def ppo() -> Asked:
    network = NetworkConfig(hidden=[8], activation="tanh")
    made = make_networks(4, SPEC, network, PPOConfig())
    both: Any = made.actor, made.critic
    return list(both), lambda: FastPPOLoss.fits(*both, functional=False)


def redq() -> Asked:
    given = critics()
    actor = TanhNormalActor(4, SPEC, [8], "tanh")

    def stacked() -> bool:
        return isinstance(stacked_critics(SplitREDQLoss(actor, given, num_qvalue_nets=2)), _Stacked)

    return given[:1], stacked  # it makes copies of the first


def acting() -> Asked:
    policy = ActingPolicy(TanhActor(4, SPEC, [8], "tanh"))
    return [policy], lambda: NumpyPolicy.fits(policy)


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre", "full_backward"])
@pytest.mark.parametrize("make", [sac, td3, dqn, ppo, redq, acting])
def test_a_hook_on_any_module_is_seen(make: Callable[[], Asked], kind: str) -> None:
    networks, written_out = make()
    assert written_out()
    for module in [module for network in networks for module in network.modules()]:
        hook = getattr(module, f"register_{kind}_hook")(lambda *_: None)
        assert not written_out(), module
        hook.remove()
    assert written_out()
