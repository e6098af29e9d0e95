"""The projection of C51's targets, and which loss takes which way."""

from __future__ import annotations

import pytest
import torch
from cases import assert_equal, data_for, make_c51
from torchrl.objectives import DistributionalDQNLoss
from transitions import BATCH, OBSERVATIONS, batch, near

from trainers.config import C51Config
from trainers.losses import c51
from trainers.losses.c51 import FastC51Loss, LeanC51Loss
from trainers.networks.q_networks import QNetwork

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


def test_a_target_is_a_distribution_with_the_mean_of_its_returns() -> None:
    """The projection keeps the mean of what is inside of the support."""
    loss, _ = make_c51(LeanC51Loss, num_atoms=21, v_min=-100.0, v_max=100.0, gamma=0.7)
    data, support = batch(discrete=True), torch.linspace(-100, 100, 21)
    with torch.no_grad():
        target = loss._target(data, support)
        following = loss.value_network(data["next"].select("observation"))
        best = following["action"]
        with loss.target_value_network_params.to_module(loss.value_network):
            log_p = loss.value_network(data["next"].select("observation"))["action_value"]
        value = (log_p.exp() * support[:, None]).sum(-2).gather(-1, best[:, None])
    assert (target >= 0).all()
    assert near(target.sum(-1), torch.ones(BATCH))
    returns = data["next", "reward"] + 0.7 * ~data["next", "terminated"] * value
    assert near((target @ support).unsqueeze(-1), returns)


def test_the_fast_loss_takes_its_own_way_or_hands_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LeanC51Loss, "forward", None)
        make_c51(FastC51Loss)[0](data_for("c51"))
    monkeypatch.setattr(c51, "on_host", lambda tensor: False)
    monkeypatch.setattr(FastC51Loss, "_evaluate", None)
    assert_equal("c51", make_c51(FastC51Loss)[0], make_c51(DistributionalDQNLoss)[0])


def test_what_fits() -> None:
    def network(hidden: list[int], activation: str = "relu", num_atoms: int = 51) -> QNetwork:
        return QNetwork(OBSERVATIONS, 3, hidden, activation, False, num_atoms)

    fits = FastC51Loss.fits
    assert fits(network([8]), C51Config())
    assert not fits(network([8], num_atoms=101), C51Config())  # 303 outputs
    assert not fits(network([8], "silu"), C51Config())
    assert not fits(network([8]).to("meta"), C51Config())
    assert not fits(network([8]), C51Config(reduction="none", prioritized=True))
