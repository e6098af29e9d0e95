"""Networks that look at pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchrl.data import Categorical

from trainers.algorithms.on_policy import make_networks
from trainers.config import ConfigError, NetworkConfig, PPOConfig
from trainers.networks.acting import NumpyPolicy
from trainers.networks.cnn import NatureCNN, make_net
from trainers.networks.mlps import mlp, orthogonal
from trainers.networks.q_networks import GreedyPolicy, QNetwork

SHAPE = (4, 84, 84)


def stacks(*batch: int) -> torch.Tensor:
    return torch.randint(256, (*batch, *SHAPE), dtype=torch.uint8)


def test_it_is_the_network_of_the_paper() -> None:
    network = QNetwork(SHAPE, 18, [512], "relu")
    shapes = [list(parameter.shape) for parameter in network.parameters() if parameter.dim() > 1]
    assert shapes == [[32, 4, 8, 8], [64, 32, 4, 4], [64, 64, 3, 3], [512, 3136], [18, 512]]


def test_whole_numbers_are_brought_to_one() -> None:
    net = NatureCNN(SHAPE)
    pictures = stacks(3)
    torch.testing.assert_close(net(pictures), net.layers(pictures / 255.0))
    assert not torch.allclose(net(pictures), net.layers(pictures.float()))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (0,)])
def test_any_batch(batch: tuple[int, ...]) -> None:
    net = make_net(SHAPE, 5, [16], "relu")
    pictures = stacks(*batch)
    values = net(pictures)
    assert values.shape == (*batch, 5)
    flat = net(pictures.reshape(-1, *SHAPE))
    torch.testing.assert_close(values.reshape(-1, 5), flat)


def test_it_can_be_mapped_over() -> None:
    """As value estimators of TorchRL's do."""
    net, pictures = NatureCNN(SHAPE), stacks(2, 3)
    mapped: Any = torch.vmap(net)(pictures)
    torch.testing.assert_close(mapped, net(pictures))


def test_vectors_get_what_they_always_got() -> None:
    nets = []
    for make in (make_net, mlp):
        torch.manual_seed(0)
        nets.append(make(3, 2, [8, 8], "tanh"))
    assert [str(net) for net in nets[:1]] == [str(nets[1])]
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))


def test_convolutions_are_orthogonal_too() -> None:
    net = make_net(SHAPE, 5, [16], "relu")
    orthogonal(net, 0.01)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 5
    for layer, gain in zip(layers, [2.0, 2.0, 2.0, 2.0, 1e-4], strict=True):
        weight = layer.weight.flatten(1)
        torch.testing.assert_close(
            weight @ weight.T, gain * torch.eye(len(weight)), atol=1e-4, rtol=0
        )
        assert not layer.bias.any()


def test_it_acts_through_torch() -> None:
    assert not NumpyPolicy.fits(GreedyPolicy(QNetwork(SHAPE, 3, [8], "relu")))
    assert NumpyPolicy.fits(GreedyPolicy(QNetwork(5, 3, [8], "relu")))


@pytest.mark.parametrize("shared", [True, False])
def test_actor_and_critic(shared: bool) -> None:
    config = PPOConfig(normalize_observation=False, shared_trunk=shared)
    networks = make_networks(SHAPE, Categorical(6), NetworkConfig([32], "relu"), config)
    convolutions = {m for part in networks[:3] for m in part.modules() if isinstance(m, NatureCNN)}
    assert len(convolutions) == (1 if shared else 2)
    assert networks.policy is networks.actor
    with pytest.raises(ConfigError, match=r"algo\.normalize_observation: got true, expected false"):
        make_networks(SHAPE, Categorical(6), NetworkConfig([32], "relu"), PPOConfig())
