"""A storage in which a frame lies in one piece holds what TorchRL's holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage

from trainers.replay.rows import RowStorage, on_disk

KINDS = (torch.bool, torch.uint8, torch.float64, torch.int64, torch.float32, torch.float16)


def frames(number: int) -> TensorDict:
    """Entries of many kinds and shapes, the narrow ones before the wide ones."""
    shapes = [(), (1,), (3,), (2, 3), (0,), (5,)]
    entries: dict[str, Any] = {
        f"{index}": (100 * torch.rand(number, *shape)).to(kind)
        for index, (kind, shape) in enumerate(zip(KINDS, shapes, strict=True))
    }
    following = {key: value.flip(0) for key, value in entries.items()}
    deep = {"deeper": {"value": torch.rand(number, 2)}}
    return TensorDict(entries | {"next": following, "deep": deep}, [number])


def same(one: TensorDict, other: TensorDict) -> None:
    assert one.batch_size == other.batch_size
    assert set(one.keys(True, True)) == set(other.keys(True, True))
    for key in one.keys(True, True):
        assert one[key].dtype == other[key].dtype
        assert torch.equal(one[key], other[key]), key


@pytest.mark.parametrize("empty", [torch.empty, on_disk])
def test_it_holds_what_torchrl_s_does(empty: Any) -> None:
    ours, theirs = RowStorage(7, empty=empty), LazyTensorStorage(7)
    for index in (slice(0, 3), [6, 0, 2], slice(3, 6)):
        some = frames(3)
        for storage in (ours, theirs):
            storage.set(index, some)
    same(ours[:], theirs[:])
    index = torch.tensor([5, 0, 0, 6])
    same(ours.take(index), theirs[:][index])


def test_what_is_taken_is_a_copy() -> None:
    storage = RowStorage(4)
    storage.set(slice(0, 4), frames(4))
    before = storage[:].clone()
    storage.take(torch.arange(4)).zero_()
    same(storage[:], before)


def test_a_frame_is_one_piece() -> None:
    storage = RowStorage(3)
    storage.set(slice(0, 3), frames(3))
    memories = {entry.untyped_storage().data_ptr() for entry in storage[:].values(True, True)}
    assert len(memories) == 1
    assert storage._rows.shape[1] % 8 == 0


def test_a_copy_is_a_storage_of_its_own() -> None:
    storage = RowStorage(4)
    storage.set(slice(0, 4), frames(4))
    copied, before = copy.deepcopy(storage), storage[:].clone()
    same(copied[:], before)
    copied.places["2",][:] = 7.0
    assert (copied.take(torch.arange(4))["2"] == 7.0).all()
    same(storage[:], before)
    assert len(copy.deepcopy(RowStorage(4))) == 0


def test_its_state_goes_into_the_rows() -> None:
    """TorchRL would put tensors in their place, and `take` would not see them."""
    one, other, empty = RowStorage(5), RowStorage(5), RowStorage(5)
    one.set(slice(0, 4), frames(4))
    other.set(slice(0, 4), frames(4))
    for storage in (other, empty):
        storage.load_state_dict(one.state_dict())
        assert len(storage) == 4
        same(storage.take(torch.arange(4)), one[:])
