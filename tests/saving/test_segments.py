"""Rows that are saved in pieces which are written once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.states import assert_same
from torch import Tensor

from trainers.saving import checkpoint, segments
from trainers.saving.checkpoint import CheckpointError
from trainers.saving.segments import Rows

PIECE = 8


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", PIECE)


class Log:
    """Grows at its end; ``values`` holds everything there ever was."""

    def __init__(self) -> None:
        self.values = torch.arange(100.0)
        self.reads: list[tuple[int, int]] = []

    def rows(self, first: int, end: int) -> Rows:
        return Rows(first, end, self._read)

    def _read(self, begin: int, end: int) -> dict[str, Tensor]:
        self.reads.append((begin, end))
        part = self.values[begin:end]
        return {"value": part, "next/value": (part + 1.0).unsqueeze(-1)}


def written(path: Path) -> dict[str, int]:
    """The files of rows of a checkpoint, and which file of the disk each is."""
    return {p.name: p.stat().st_ino for p in sorted(path.glob("rows-*"))}


def save(path: Path, rows: Any, previous: Path | None = None) -> Path:
    checkpoint.save(path, {"log": rows}, previous)
    return path


def loaded(path: Path) -> Rows:
    return checkpoint.load(path)["log"]


@pytest.mark.parametrize(
    ("first", "end", "pieces"),
    [
        (0, 0, []),
        (5, 5, []),
        (0, 3, [(0, 3)]),
        (0, 8, [(0, 8)]),
        (3, 20, [(3, 8), (8, 16), (16, 20)]),
        (8, 17, [(8, 16), (16, 17)]),
    ],
)
def test_pieces_and_tables(
    first: int, end: int, pieces: list[tuple[int, int]], tmp_path: Path
) -> None:
    rows = Log().rows(first, end)
    assert list(rows.pieces()) == pieces
    assert len(rows) == end - first
    back = loaded(save(tmp_path / "c", rows))
    assert (back.first, back.end) == (first, end)
    assert_same(back.tables(), rows.tables())
    if pieces:
        assert back.tables()["value"].tolist() == list(range(first, end))


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    log = Log()
    one = save(tmp_path / "1", log.rows(0, 20))
    two = save(tmp_path / "2", log.rows(0, 30), one)
    three = save(tmp_path / "3", log.rows(11, 41), two)
    assert list(written(one)) == [f"rows-0.{n}.safetensors" for n in (0, 16, 8)]
    same = [name for name in written(one) if written(one)[name] == written(two).get(name)]
    assert same == ["rows-0.0.safetensors", "rows-0.8.safetensors"]
    same = [name for name in written(two) if written(two)[name] == written(three).get(name)]
    assert same == ["rows-0.16.safetensors"]  # the one before lost rows, the one after grew
    for path, first, end in ((one, 0, 20), (two, 0, 30), (three, 11, 41)):
        assert_same(loaded(path).tables(), log.rows(first, end).tables())


def test_a_link_outlives_the_checkpoint_it_came_from(tmp_path: Path) -> None:
    one = save(tmp_path / "1", Log().rows(0, 16))
    two = save(tmp_path / "2", Log().rows(0, 16), one)
    assert written(one) == written(two)
    for path in one.iterdir():
        path.unlink()
    assert_same(loaded(two).tables(), Log().rows(0, 16).tables())


def test_what_has_changed_in_memory_is_written_again(tmp_path: Path) -> None:
    log = Log()
    one = save(tmp_path / "1", log.rows(0, 24))
    log.values[10] = -1.0
    two = save(tmp_path / "2", log.rows(0, 24), one)
    changed = [name for name in written(one) if written(one)[name] != written(two)[name]]
    assert changed == ["rows-0.8.safetensors"]
    assert loaded(two).tables()["value"][10] == -1.0
    assert loaded(one).tables()["value"][10] == 10.0


@pytest.mark.parametrize("how", ["changed", "cut short", "missing", "a directory"])
def test_what_is_damaged_on_disk_is_written_again(how: str, tmp_path: Path) -> None:
    one = save(tmp_path / "1", Log().rows(0, 24))
    damaged = one / "rows-0.8.safetensors"
    content = bytearray(damaged.read_bytes())
    damaged.unlink()
    content[-1] ^= 1
    if how == "a directory":
        damaged.mkdir()
    elif how != "missing":
        damaged.write_bytes(content if how == "changed" else content[:-3])
    two = save(tmp_path / "2", Log().rows(0, 24), one)
    assert_same(loaded(two).tables(), Log().rows(0, 24).tables())
    with pytest.raises(CheckpointError):
        checkpoint.load(one)


@pytest.mark.parametrize("damage", ["{", "{}", '{"files": {}, "sha256": ""}', None])
def test_nothing_is_linked_from_what_is_no_checkpoint(damage: str | None, tmp_path: Path) -> None:
    one = save(tmp_path / "1", Log().rows(0, 24))
    if damage is None:
        (one / "manifest.json").unlink()
    else:
        (one / "manifest.json").write_text(damage)
    two = save(tmp_path / "2", Log().rows(0, 24), one)
    assert not set(written(one).values()) & set(written(two).values())
    checkpoint.load(two)


def test_where_there_are_no_links_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Any) -> None:
        raise PermissionError("no links here")

    one = save(tmp_path / "1", Log().rows(0, 24))
    monkeypatch.setattr(os, "link", refuse)
    two = save(tmp_path / "2", Log().rows(0, 24), one)
    assert not set(written(one).values()) & set(written(two).values())
    assert_same(loaded(two).tables(), Log().rows(0, 24).tables())


def test_several_of_them_are_kept_apart(tmp_path: Path) -> None:
    one, two = Log(), Log()
    two.values.neg_()
    state = {"a": one.rows(0, 9), "b": [two.rows(3, 20)]}
    checkpoint.save(tmp_path / "c", state)
    back = checkpoint.load(tmp_path / "c")
    assert_same(back["a"].tables(), state["a"].tables())
    assert_same(back["b"][0].tables(), state["b"][0].tables())


@pytest.mark.parametrize("how", ["missing", "empty", "cut short", "longer", "a bit", "another's"])
def test_a_damaged_piece_is_noticed(how: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c", Log().rows(0, 24)) / "rows-0.8.safetensors"
    content = bytearray(path.read_bytes())
    path.unlink()
    if how != "missing":
        flipped = content.copy()
        flipped[len(flipped) // 2] ^= 16
        other = (path.parent / "rows-0.16.safetensors").read_bytes()
        changed = {
            "empty": b"",
            "cut short": content[:-1],
            "longer": content + b"\0",
            "a bit": flipped,
            "another's": other,
        }
        path.write_bytes(changed[how])
    with pytest.raises(CheckpointError, match=str(tmp_path / "c")):
        checkpoint.load(tmp_path / "c")


def test_a_file_too_many_does_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "c", Log().rows(0, 24))
    (path / "rows-0.24.safetensors").write_bytes(b"what is this")
    (path / "core").write_bytes(b"dumped")
    assert_same(loaded(path).tables(), Log().rows(0, 24).tables())


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([0, 0, 32], "rows-0.24"),  # more than there are
        ([1, 0, 24], "rows-1.0"),  # another table's
        ([0, 0], "missing"),
        (["../0", 0, 24], "invalid literal"),
    ],
)
def test_rows_that_make_no_sense_are_refused(rows: list[Any], why: str, tmp_path: Path) -> None:
    """Their manifest is right: somebody made it so."""
    path = save(tmp_path / "c", Log().rows(0, 24))
    document = json.loads((path / "state.json").read_text())
    document["state"]["log"] = {"$rows": rows}
    (path / "state.json").write_text(json.dumps(document))
    forge(path)
    with pytest.raises(CheckpointError, match=why):
        checkpoint.load(path)


def test_a_piece_of_another_length_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "c", Log().rows(0, 24))
    (path / "rows-0.8.safetensors").write_bytes((path / "rows-0.16.safetensors").read_bytes())
    (path / "rows-0.16.safetensors").write_bytes(
        (save(tmp_path / "d", Log().rows(0, 3)) / "rows-0.0.safetensors").read_bytes()
    )
    forge(path)
    with pytest.raises(CheckpointError, match="rows 16 to 24"):
        loaded(path).tables()


@pytest.mark.parametrize("name", ["../c/state.json", "/etc/hostname", "a/b"])
def test_a_manifest_does_not_name_files_elsewhere(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c", Log().rows(0, 24))
    forge(path, **{name: {"bytes": 0, "sha256": ""}})
    with pytest.raises(CheckpointError, match="does not name the files of a checkpoint"):
        checkpoint.load(path)


def forge(path: Path, **more: Any) -> None:
    """A manifest that is right about what lies there."""
    names = [p.name for p in path.iterdir() if p.name != "manifest.json"]
    files = {name: checkpoint._fingerprint(path / name) for name in names} | more
    manifest = {"files": files, "sha256": checkpoint._hash_of(files)}
    (path / "manifest.json").write_text(json.dumps(manifest))
