"""The collector's copy of the policy."""

from __future__ import annotations

from support.doubles import Rollouts, stub
from tensordict import TensorDict

from trainers.hooks import WeightSync


def test_a_collector_with_weights_of_its_own_gets_the_new_ones() -> None:
    class Copying(Rollouts):
        synced = 0

        def update_policy_weights_(self) -> None:
            self.synced += 1

    collector = Copying()
    hook = WeightSync(collector)
    hook(stub(), TensorDict())
    hook(stub(), TensorDict())
    assert collector.synced == 2


def test_a_collector_that_shares_its_weights_is_left_alone() -> None:
    WeightSync(Rollouts())(stub(), TensorDict())
