"""Checkpoints on disk."""

from __future__ import annotations

import json
import math
import pickle
import resource
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.disk import save_and_forge, watch_syncs
from support.states import assert_same

from trainers.saving import checkpoint
from trainers.saving.checkpoint import CheckpointError


def round_trip(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    checkpoint.save(path / "c", state)
    return checkpoint.load(path / "c")


def test_plain_data_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "numbers": [1, -2.5, True, None, 1e-300, 2**63],
        "text": 'a/b "c" \u00e9 \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16"),
        "tuple": (1, (2, [3, ()])),
        "infinite": [math.inf, -math.inf],
        0: {"by number": {1: "one", 2: ("two",)}},
        None: False,
        "": {"": []},
        "$tensor": {"$items": [{"$tuple": 1}]},
        "ordered": OrderedDict(a=1),
    }
    loaded = round_trip(tmp_path, state)
    assert loaded == state
    assert type(loaded["tuple"][1][1][1]) is tuple
    assert list(loaded) == list(state)
    assert math.isnan(round_trip(tmp_path / "nan", {"nan": math.nan})["nan"])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_tensors_come_back_with_their_type(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    assert_same(round_trip(tmp_path, {"t": [tensor]}), {"t": [tensor]})


def test_tensors_that_share_or_skip_memory_come_back_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "base": base,
        "again": base,
        "transposed": base.T,
        "column": base[:, 1],
        "expanded": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(base[1]),
    }
    loaded = round_trip(tmp_path, state)
    assert_same(loaded, state)
    loaded["base"].zero_()
    assert loaded["again"].sum() == base.sum()
    assert not loaded["parameter"].requires_grad


def test_arrays_and_numbers_of_numpy_are_saved(tmp_path: Path) -> None:
    state = {
        "array": np.arange(6, dtype=np.int64).reshape(2, 3),
        "reversed": np.arange(3.0)[::-1],
        "float": np.float32(0.5),
        "bool": np.bool_(True),
    }
    loaded = round_trip(tmp_path, state)
    assert_same(loaded["array"], state["array"])
    assert loaded["reversed"].tolist() == [2.0, 1.0, 0.0]
    assert (loaded["float"], loaded["bool"]) == (0.5, True)


def test_paths_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    state = {
        "a/b": torch.tensor(1),
        "a": {"b": torch.tensor(2)},
        "n": {1: torch.tensor(3), "1": torch.tensor(4)},
    }
    loaded = round_trip(tmp_path, state)
    assert (loaded["a/b"], loaded["a"]["b"]) == (1, 2)
    assert loaded["n"] == {1: 3, "1": 4}


def test_an_empty_state_can_be_saved(tmp_path: Path) -> None:
    assert round_trip(tmp_path, {}) == {}


@pytest.mark.parametrize(
    ("value", "name"),
    [(object(), "object"), ({1, 2}, "set"), (print, "builtin"), (torch.device("cpu"), "device")],
)
def test_what_is_not_data_is_refused(value: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"/a/0 is a {name}"):
        checkpoint.save(tmp_path / "c", {"a": [value]})
    assert list(tmp_path.iterdir()) == []


def test_keys_that_json_cannot_give_back_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="key"):
        checkpoint.save(tmp_path / "c", {"a": {(1, 2): 3}})


def test_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": 1})
    with pytest.raises(FileExistsError):
        checkpoint.save(tmp_path / "c", {"a": 2})
    assert checkpoint.load(tmp_path / "c") == {"a": 1}


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": 1})
    (tmp_path / "c").rename(tmp_path / ".d.partial")
    checkpoint.save(tmp_path / "d", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert checkpoint.load(tmp_path / "d") == {"a": 2}


def test_only_tensors_and_json_are_on_disk(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": torch.ones(2), "b": 1})
    files = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert sorted(files) == ["manifest.json", "state.json", "tensors.safetensors"]
    json.loads(files["manifest.json"])
    json.loads(files["state.json"])
    # safetensors: the length of a JSON header, the header, raw numbers.
    header = json.loads(files["tensors.safetensors"][8:][: files["tensors.safetensors"][0]])
    assert [entry["dtype"] for name, entry in header.items() if name != "__metadata__"] == ["F32"]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]  # nothing staged is left


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": torch.ones(2), "b": {1: "x"}})
    for path in (tmp_path / "c").iterdir():
        content = path.read_bytes()
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1 << position % 8
            path.write_bytes(changed)
            with pytest.raises(CheckpointError):
                checkpoint.load(tmp_path / "c")
        path.write_bytes(content)
    checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
@pytest.mark.parametrize("how", ["missing", "empty", "cut short", "longer", "a directory"])
def test_a_damaged_file_is_noticed(name: str, how: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": torch.ones(2)})
    path = tmp_path / "c" / name
    content = path.read_bytes()
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how != "missing":
        changed = {"empty": b"", "cut short": content[:-1], "longer": content + b"}"}[how]
        path.write_bytes(changed)
    with pytest.raises(CheckpointError, match=str(tmp_path / "c")):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        '{"format": 2}',
        '{"format": 999, "state": {}}',
        '{"format": 2, "state": {"a": {"$tensor": "nosuch"}}}',
        '{"format": 2, "state": {"$items": [[[1], 2]]}}',
    ],
)
def test_a_state_that_makes_no_sense_is_refused(document: str, tmp_path: Path) -> None:
    """Its manifest is right: somebody made it so."""
    save_and_forge(tmp_path / "c", "state.json", document.encode())
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "c")


def test_tensors_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    save_and_forge(tmp_path / "c", "tensors.safetensors", b"\xff" * 64)
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "c")


def test_an_older_version_s_is_refused_by_its_format(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"a": torch.ones(1)})
    manifest = tmp_path / "c" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())["files"]))  # as it was then
    for look in (checkpoint.load, checkpoint.load_plain):
        with pytest.raises(CheckpointError, match="format 1, expected 2"):
            look(tmp_path / "c")


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    """A pickle in the place of the tensors, and what others would instantiate, are only data."""

    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    save_and_forge(tmp_path / "c", "tensors.safetensors", pickle.dumps(Touch()))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "c")
    state = {"_target_": "pathlib.Path.touch", "_args_": [str(tmp_path / "touched")]}
    assert round_trip(tmp_path / "d", state) == state
    assert not (tmp_path / "touched").exists()


def test_there_is_nothing_to_load(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nosuch"):
        for load in (checkpoint.load, checkpoint.load_plain):
            with pytest.raises(CheckpointError):
                load(path)


def test_plain_data_can_be_read_by_itself(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"hooks": {"a": {"best": -math.inf, "last": torch.ones(1)}}})
    (tmp_path / "c" / "tensors.safetensors").write_bytes(b"")  # it is not looked at
    assert checkpoint.load_plain(tmp_path / "c")["hooks"]["a"]["best"] == -math.inf
    state = tmp_path / "c" / "state.json"
    state.write_text(state.read_text().replace("best", "last"))
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        checkpoint.load_plain(tmp_path / "c")


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"[Ff]ile too large"):
            checkpoint.save(tmp_path / "c", {"a": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_new_directory_of_checkpoints_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = watch_syncs(monkeypatch)
    checkpoint.save(tmp_path / "checkpoints" / "1", {"a": 1})
    assert synced[0] == tmp_path
    assert synced[-1] == tmp_path / "checkpoints"
    synced.clear()
    checkpoint.save(tmp_path / "checkpoints" / "2", {"a": 1})
    assert tmp_path not in synced
