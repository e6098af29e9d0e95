"""Our losses of replayed transitions are TorchRL's, number for number: of every one in `cases.py`.

What only one of them does is in its own file, and the losses of REDQ and CrossQ, which are not
TorchRL's, are in `test_split_losses.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CASES, Case, assert_equal, both, data_for, said
from support.algorithms import OFF_POLICY, ON_POLICY
from support.doubles import stub
from torch import Tensor
from transitions import BATCH, EXTRAS, assert_learnt_alike, assert_near, batch, gradients, near

from trainers.algorithms.off_policy import make_target_update

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

VARIANTS = [(case, variant) for case, each in CASES.items() for variant in each.variants]
every_case = pytest.mark.parametrize("case", CASES)
every_variant = pytest.mark.parametrize(("case", "variant"), VARIANTS)


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
@every_variant
def test_losses_and_gradients(case: str, variant: str, extra: tuple[str, ...]) -> None:
    length = CASES[case].variants[variant].get("slice_length")
    if length is not None and extra:
        return  # slices are of single steps, drawn uniformly
    assert_equal(case, *both(case, variant), extra=extra, length=length)


@every_variant
def test_the_state_is_the_same(case: str, variant: str) -> None:
    ours, theirs = both(case, variant)
    length = CASES[case].variants[variant].get("slice_length")
    ours(data_for(case, length=length))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        (case, variant)
        for case, variant in VARIANTS
        # Of those whose gradients are written out every variant; the others are TorchRL's own.
        if (case in ("sac", "td3", "ddpg", "dqn") or variant == "as shipped")
    ],
)
def test_parameters_after_twenty_updates(case: str, variant: str) -> None:
    each = CASES[case]
    ours, theirs = (updated(each, kind, variant) for kind in (each.ours, each.theirs))
    assert_learnt_alike(ours, theirs)


def updated(case: Case, loss_class: Any, variant: str) -> dict[str, Tensor]:
    """Parameters and targets after the updates that a trainer makes; all of them moved."""
    loss, config = case.make(loss_class, lr=1e-3, **case.variants[variant])
    phases = case.phases(loss, config)
    delayed = any(name.startswith("target_") for name, _ in loss.named_children())
    follow = make_target_update(loss, config) if delayed else None
    before = {name: parameter.detach().clone() for name, parameter in loss.named_parameters()}
    torch.manual_seed(3)
    for update in range(1, 21):
        data = batch(update, length=getattr(config, "slice_length", None), discrete=case.discrete)
        for phase in phases:
            if update % phase.every == 0:
                phase.backward(phase.compute(data))
                phase.step()
        if follow is not None:
            follow(stub(updates=update), data, data)
    after = dict(loss.named_parameters())
    assert not [name for name, value in before.items() if torch.equal(value, after[name])]
    return {k: v for k, v in loss.state_dict().items() if isinstance(v, Tensor)}


@every_case
def test_losses_wait_for_their_turn(case: str) -> None:
    """The memory that results are kept in is not written over before they have been used."""
    ours, theirs = both(case)
    for loss in (ours, theirs):
        torch.manual_seed(2)
        kept = [said(loss(data_for(case, seed))) for seed in (1, 2)]
        with torch.no_grad():
            loss(data_for(case, 3))
        for factor, losses in zip((1.0, -3.0), kept, strict=True):
            values = [value for key, value in losses.items() if key.startswith("loss_")]
            (factor * sum(values, values[0] * 0.5)).backward()
    assert_near(gradients(ours), gradients(theirs))


@every_case
def test_a_loaded_state_counts(case: str) -> None:
    """Nothing is computed with tensors from before, nor where an optimizer has moved them from."""
    each = CASES[case]
    (ours, config), (theirs, _) = each.make(each.ours), each.make(each.theirs)
    for phase in each.phases(ours, config):
        phase.backward(phase.compute(data_for(case)))
        for optimizer in phase.optimizers:
            optimizer.zero_grad()
    state = {k: v * 0.5 if "weight" in k else v for k, v in theirs.state_dict().items()}
    for loss in (ours, theirs):
        loss.load_state_dict(state)
    assert_equal(case, ours, theirs)


@every_case
def test_batches_of_several_sizes(case: str) -> None:
    ours, theirs = both(case)
    for size in (7, BATCH, 7):
        values = []
        for loss in (ours, theirs):
            torch.manual_seed(2)
            values.append(said(loss(data_for(case)[:size])))
        for key, value in values[1].items():
            if key.startswith("loss_"):
                assert near(values[0][key], value), key


@every_case
def test_after_inference_mode(case: str) -> None:
    """No memory is left of it that could not be written to afterwards."""
    ours, theirs = both(case)
    with torch.inference_mode():
        ours(data_for(case))
    assert_equal(case, ours, theirs)


def test_no_algorithm_is_missing() -> None:
    """A new one's loss is compared here, or by whatever it follows in a file of its own."""
    assert {case.partition(",")[0] for case in CASES} | {"crossq", "redq"} == set(OFF_POLICY)
    assert set(ON_POLICY) == {"a2c", "ppo", "reinforce"}
