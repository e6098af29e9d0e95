"""The lean loss of C51 is TorchRL's, number for number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from test_dqn_loss import BATCH, EXTRAS, OBSERVATIONS, assert_equal_gradients, batch, near
from torch import Tensor
from torchrl.data import Categorical
from torchrl.objectives import DistributionalDQNLoss

from trainers.algorithms.c51 import make_loss
from trainers.algorithms.dqn import make_optimizer
from trainers.config import C51Config
from trainers.losses import c51
from trainers.losses.c51 import FastC51Loss, LeanC51Loss
from trainers.networks.q_networks import QNetwork

ACTIONS = 3

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "duelling": {"duelling": True},
    "narrow support": {"v_min": -1.0, "v_max": 1.5},
    "two atoms": {"num_atoms": 2},
    "uneven support": {"num_atoms": 13, "v_min": 0.3, "v_max": 7.1},
    "no target": {"delay_value": False},
    "gamma": {"gamma": 0.5},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none", "prioritized": True},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
extras = pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
ours_only = pytest.mark.parametrize("loss_class", [FastC51Loss, LeanC51Loss])


def make(loss_class: Any, **given: Any) -> Any:
    """A loss whose target has moved away from its source."""
    torch.manual_seed(0)
    config = C51Config(**given)
    shape = (OBSERVATIONS, ACTIONS, [16, 16], "relu", config.duelling, config.num_atoms)
    support = torch.linspace(config.v_min, config.v_max, config.num_atoms)
    loss = make_loss(QNetwork(*shape), support, Categorical(ACTIONS), config, loss_class)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if name.startswith("target_") and "weight" in name:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.3)
    return loss


def data_for(extra: tuple[str, ...] = ()) -> TensorDict:
    """Some rewards put an atom onto another, or all of them beyond the support."""
    data = batch(extra=extra)
    data["next", "reward"][:8] = torch.tensor([0.0, 0.4, -0.4, 10.0, -10.0, 0.8, 50.0, -50.0])[
        :, None
    ]
    data["next", "terminated"][:8] = True
    return data


@ours_only
@variants
@extras
def test_loss_and_gradients(
    loss_class: Any, variant: dict[str, Any], extra: tuple[str, ...]
) -> None:
    if variant.get("reduction") == "none":
        loss_class = LeanC51Loss
    assert_equal(make(loss_class, **variant), make(DistributionalDQNLoss, **variant), extra)


def assert_equal(ours: Any, theirs: Any, extra: tuple[str, ...] = ()) -> None:
    """Losses and gradients are; beside them is what is worth a line in the log."""
    found = []
    for loss in (ours, theirs):
        data = data_for(extra)
        losses = loss(data)
        sum(value.sum() for key, value in losses.items() if key.startswith("loss")).backward()
        found.append((losses, data))
    (our_losses, our_batch), (their_losses, their_batch) = found
    assert set(our_losses.keys()) == {"loss_qvalue", "qvalue"}
    assert our_losses["loss_qvalue"].shape == their_losses["loss"].shape
    assert near(our_losses["loss_qvalue"].detach(), their_losses["loss"].detach())
    assert our_batch["td_error"].shape == (BATCH,)
    assert our_batch["td_error"].dtype == torch.float32
    assert near(our_batch["td_error"], their_batch["td_error"].squeeze(-1))
    assert_equal_gradients(ours, theirs)
    assert near(our_losses["qvalue"], expected_value(theirs, their_batch), 1e-4)
    assert not our_losses["qvalue"].requires_grad


def expected_value(loss: Any, data: TensorDict) -> Tensor:
    log_p = loss.value_network(data.select("observation"))["action_value"].detach()
    values = (log_p.exp() * loss.value_network_params["support"][:, None]).sum(-2)
    return values.gather(-1, data["action"].unsqueeze(-1)).mean()


@ours_only
def test_the_state_is_the_same(loss_class: Any) -> None:
    ours, theirs = make(loss_class), make(DistributionalDQNLoss)
    ours(data_for())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


def test_a_target_is_a_distribution_with_the_mean_of_its_returns() -> None:
    """The projection keeps the mean of what is inside of the support."""
    loss = make(LeanC51Loss, num_atoms=21, v_min=-100.0, v_max=100.0, gamma=0.7)
    data, support = batch(), torch.linspace(-100, 100, 21)
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


@ours_only
def test_a_loaded_state_counts(loss_class: Any) -> None:
    """Nothing is computed with tensors from before."""
    ours, theirs = make(loss_class), make(DistributionalDQNLoss)
    make_optimizer(ours, C51Config(), flat=True)  # moves the parameters
    ours(data_for())
    state = {k: v * 0.5 if "weight" in k else v for k, v in theirs.state_dict().items()}
    for loss in (ours, theirs):
        loss.load_state_dict(state)
    assert_equal(ours, theirs)


def test_the_fast_loss_takes_its_own_way_or_hands_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LeanC51Loss, "forward", None)
        make(FastC51Loss)(data_for())
    monkeypatch.setattr(c51, "on_host", lambda tensor: False)
    monkeypatch.setattr(FastC51Loss, "_evaluate", None)
    assert_equal(make(FastC51Loss), make(DistributionalDQNLoss))


def test_what_fits() -> None:
    def network(hidden: list[int], activation: str = "relu", num_atoms: int = 51) -> QNetwork:
        return QNetwork(OBSERVATIONS, ACTIONS, hidden, activation, False, num_atoms)

    fits = FastC51Loss.fits
    assert fits(network([8]), C51Config())
    assert not fits(network([8], num_atoms=101), C51Config())  # 303 outputs
    assert not fits(network([8], "silu"), C51Config())
    assert not fits(network([8]).to("meta"), C51Config())
    assert not fits(network([8]), C51Config(reduction="none", prioritized=True))
