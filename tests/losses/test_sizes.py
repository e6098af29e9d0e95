"""Errors by their size, where TorchRL's losses write squares."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, data_for
from transitions import near

from trainers.losses.sizes import with_sizes, writes_squares

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        ("dqn", "as shipped"),
        ("dqn, lean", "td1"),
        ("sac, critic by critic", "the first version"),
        ("sac, critic by critic", "the first, td_lambda"),
    ],
)
def test_they_are_those_of_ours(case: str, variant: str) -> None:
    each = CASES[case]
    given = each.variants[variant]
    ours, theirs = (each.make(kind, **given)[0] for kind in (each.ours, each.theirs))
    assert writes_squares(theirs)
    assert not writes_squares(ours)
    data = data_for(case, length=given.get("slice_length"))
    batches = data.clone(), data.clone(), data.clone()
    torch.manual_seed(0)
    ours(batches[0])
    for ask, batch in zip((with_sizes, lambda loss, batch: loss(batch)), batches[1:], strict=True):
        torch.manual_seed(0)
        ask(theirs, batch)
    expected, sizes, squares = (batch["td_error"].flatten() for batch in batches)
    assert near(sizes, expected)
    assert near(squares, expected.square())


@pytest.mark.parametrize("case", [case for case in CASES if "," not in case and case != "dqn"])
def test_others_write_no_squares(case: str) -> None:
    """Or, like TD3's and DDPG's, are not asked as a whole."""
    each = CASES[case]
    assert not writes_squares(each.make(each.theirs)[0])
