"""Which loss of DQN takes which way; that all give TorchRL's numbers is shown elsewhere."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, assert_equal, evaluated, make_dqn
from torch import nn
from torchrl.objectives import DQNLoss
from transitions import OBSERVATIONS, batch

from trainers.algorithms.dqn import make_optimizer
from trainers.config import DQNConfig
from trainers.losses import dqn
from trainers.losses.dqn import FastDQNLoss, LeanDQNLoss
from trainers.networks.q_networks import QNetwork

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


def test_the_fast_loss_takes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeanDQNLoss, "forward", None)
    evaluated(make_dqn(FastDQNLoss)[0], batch(discrete=True))


def test_the_fast_loss_hands_on_what_it_was_not_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = CASES["dqn, lean"].variants["td1"]
    ours, theirs = (make_dqn(kind, **sliced)[0] for kind in (FastDQNLoss, DQNLoss))
    assert_equal("dqn", ours, theirs, length=8)
    monkeypatch.setattr(dqn, "on_host", lambda tensor: False)
    monkeypatch.setattr(FastDQNLoss, "_evaluate", None)
    ours, theirs = (make_dqn(kind)[0] for kind in (FastDQNLoss, DQNLoss))
    assert_equal("dqn", ours, theirs)


def test_a_frozen_layer_stays_as_it_is() -> None:
    loss, config = make_dqn(FastDQNLoss)
    optimizer = make_optimizer(loss, config, flat=True)
    first = next(iter(loss.value_network_params.parameters()))
    first.requires_grad_(False)
    before = first.clone()
    evaluated(loss, batch(discrete=True))
    optimizer.step()
    assert torch.equal(first, before)


def test_what_fits() -> None:
    def network(hidden: list[int], activation: str = "relu", duelling: bool = False) -> QNetwork:
        return QNetwork(OBSERVATIONS, 3, hidden, activation, duelling)

    fits = FastDQNLoss.fits
    assert fits(network([8]), DQNConfig())
    assert fits(network([256, 256], "tanh", duelling=True), DQNConfig(n_steps=3, prioritized=True))
    assert not fits(network([257]), DQNConfig())
    assert not fits(network([8], "silu"), DQNConfig())
    assert not fits(network([8]).to("meta"), DQNConfig())
    assert not fits(network([8]), DQNConfig(reduction="none", prioritized=True))
    assert not fits(network([8]), DQNConfig(value_estimator="td1", slice_length=8))
    assert not fits(nn.Sequential(nn.Linear(5, 3), nn.Softmax(-1)), DQNConfig())
