"""How far the policy may move in an iteration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.doubles import Constant, Rollouts, make_trainer, stub
from tensordict import TensorDict
from torch import nn

from trainers.hooks import AdaptBeta, StopEpochs
from trainers.updates import Epochs


class Penalised(nn.Module):
    """The part of TorchRL's loss that the hook deals with."""

    def __init__(self, beta: float = 1.0, dtarg: float = 0.01) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))
        self.dtarg, self.increment, self.decrement = dtarg, 3.0, 0.25


def iterate(hook: AdaptBeta, *epochs: list[float], key: str = "kl") -> dict[str, float]:
    """An iteration whose updates find these divergences; what it logs."""
    trainer = stub()
    for trainer.epoch, found in enumerate(epochs):
        for kl in found:
            hook.observe(trainer, TensorDict(), TensorDict({key: torch.tensor([[kl], [kl]])}))
    trainer.epoch = 0
    hook.adapt(trainer, TensorDict())
    return trainer.metrics.flush()


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(0.0, 0.25), (0.0066, 0.25), (0.0067, 1.0), (0.0149, 1.0), (0.0151, 3.0), (5.0, 3.0)],
)
@pytest.mark.parametrize("key", ["kl", "kl_approx"])
def test_beta_moves_once_an_iteration(kl: float, factor: float, key: str) -> None:
    loss: Any = Penalised()
    hook = AdaptBeta(loss)
    assert (loss.increment, loss.decrement) == (1.0, 1.0)  # the loss itself leaves it alone
    logged = iterate(hook, [kl] * 7, [kl] * 7, key=key)
    assert float(loss.beta) == factor
    assert logged == {"train/beta": factor, "train/kl": pytest.approx(kl)}


def test_the_last_epoch_counts_and_its_mean() -> None:
    loss: Any = Penalised()
    hook = AdaptBeta(loss)
    iterate(hook, [0.0, 0.0], [9.0, 9.0], [0.0, 0.02])  # 0.01, just right
    assert float(loss.beta) == 1.0
    iterate(hook, [9.0], [0.0])
    assert float(loss.beta) == 0.25
    iterate(hook, [0.0], [9.0])
    assert float(loss.beta) == 0.75


def test_an_iteration_of_one_epoch_forgets_the_one_before() -> None:
    loss: Any = Penalised()
    hook = AdaptBeta(loss)
    iterate(hook, [9.0, 9.0])
    iterate(hook, [0.0])
    assert float(loss.beta) == 0.75


def test_an_iteration_without_updates_changes_nothing() -> None:
    loss: Any = Penalised()
    assert iterate(AdaptBeta(loss)) == {"train/beta": 1.0}


def test_beta_never_reaches_zero_and_comes_back() -> None:
    loss: Any = Penalised()
    hook = AdaptBeta(loss)
    for _ in range(500):
        iterate(hook, [1e-12] * 3)
        assert float(loss.beta) > 0
    assert float(loss.beta) == pytest.approx(1e-4)
    iterate(hook, [1.0])
    assert float(loss.beta) == pytest.approx(3e-4)
    for _ in range(500):
        iterate(hook, [1.0])
    assert float(loss.beta) == 1e4


def test_the_bounds_can_be_others() -> None:
    loss: Any = Penalised()
    hook = AdaptBeta(loss, bounds=(0.5, 2.0))
    iterate(hook, [0.0])
    assert float(loss.beta) == 0.5


@pytest.mark.parametrize("hook", [AdaptBeta(Penalised()), StopEpochs(0.1)])
def test_a_loss_without_a_divergence_is_named(hook: Any) -> None:
    trainer = stub()
    trainer.epoch = 0
    losses = TensorDict({"loss_actor": torch.zeros(())})
    with pytest.raises(KeyError, match=r"kl_approx.*loss_actor"):
        hook.observe(trainer, TensorDict(), losses)


# ------------------------------------------------------------------- target KL


class Moving(Constant):
    """Its updates find the divergences of a list, over and over."""

    def __init__(self, found: list[float]) -> None:
        super().__init__()
        self.found, self.calls = found, 0

    def forward(self, batch: Any) -> TensorDict:
        kl = self.found[self.calls % len(self.found)]
        self.calls += 1
        return super().forward(batch).set("kl_approx", torch.tensor(kl))


@pytest.mark.parametrize(
    ("found", "updates"),
    [
        ([0.0], [10, 20]),
        ([1.0], [2, 4]),  # after the first epoch, in every iteration anew
        ([0.0, 0.0, 0.0, 0.19], [10, 20]),  # on average it is not too far
        ([0.0, 0.0, 0.0, 0.21], [4, 8]),
        ([-1.0], [10, 20]),
    ],
)
def test_epochs_end_once_the_policy_has_moved_too_far(
    found: list[float], updates: list[int]
) -> None:
    plan = Epochs(num_epochs=5, minibatches=2)
    trainer = make_trainer(Moving(found), Rollouts(), total_frames=2, update_plan=plan)
    hook, seen = StopEpochs(0.1), []
    trainer.register_hook("pre_epoch", hook.check)
    trainer.register_hook("post_optim", hook.observe)
    trainer.register_hook("post_steps", lambda trainer, rollout: seen.append(trainer.updates))
    trainer.train()
    assert seen == updates
