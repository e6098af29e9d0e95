"""Checkpoints on disk: tensors in safetensors, everything else in JSON, and nothing that runs.

A checkpoint is a directory::

    tensors.safetensors      every tensor of the state, named by a number and its path
    rows-0.4096.safetensors  rows of the replay buffer from number 4096 on, see segments.py
    state.json               the rest, with {"$tensor": name} where a tensor goes
    manifest.json            size and SHA-256 of all of them, and its own; written last

It is staged under another name and renamed once, so a directory with the final name is complete.
Files of rows that are in the checkpoint before it as well are links to the same file there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from trainers.disk import sync
from trainers.saving.segments import Rows

FORMAT = 2
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"

_Fingerprints = dict[str, dict[str, Any]]
Check = Callable[[str, Any], None]


def _nothing_to_say(path: str, value: Any) -> None:
    """Of a state that may hold anything."""


class CheckpointError(RuntimeError):
    """A directory is not a checkpoint, or it is damaged."""


def save(
    path: str | Path,
    state: Mapping[str, Any],
    previous: Path | None = None,
    check: Check = _nothing_to_say,
) -> None:
    """Write ``state`` to the directory ``path``.

    Args:
        path: a directory that does not exist yet.
        state: nested dicts, lists, tensors, numbers, strings,
            :class:`~trainers.saving.segments.Rows`.
        previous: an older checkpoint, perhaps of some of the same rows.
        check: called with the place (``/a/b``) and value of every tensor and number, of rows only
            where they are not in ``previous``; what it raises is raised, and nothing is left.

    Raises:
        FileExistsError: ``path`` exists already; a checkpoint is never overwritten.
        OSError: the disk does not take it; nothing of it is left.
        TypeError: the state holds something that is neither a tensor nor plain data.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; checkpoints are never overwritten")
    tensors: dict[str, Tensor] = {}
    rows: list[tuple[str, Rows]] = []
    document = {"format": FORMAT, "state": _encode(state, "", tensors, rows, check)}
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        sync(path.parent.parent)
    staged.mkdir()
    try:
        files = _save_rows(rows, staged, previous, check)
        contents = {
            _TENSORS: serialized(_without_aliases(tensors)),
            # allow_nan: an infinite best return so far is a legitimate state.
            _STATE: json.dumps(document).encode(),
        }
        files |= {name: _write(staged / name, content) for name, content in contents.items()}
        manifest = {"files": files, "sha256": _hash_of(files)}
        _write(staged / _MANIFEST, json.dumps(manifest, indent=1).encode())
        sync(staged)
        staged.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load(path: str | Path) -> dict[str, Any]:
    """Read and verify a checkpoint directory; nothing is returned unless all of it is intact.

    Its rows are read when they are asked for.

    Raises:
        CheckpointError: a file is missing, changed or cut short, or its content is of no use.
    """
    path = Path(path)
    with _reading(path):
        files = _verified(path)
        return _decode(_state(path), _Contents(path, files, load_file(path / _TENSORS)))


def load_plain(path: str | Path) -> dict[str, Any]:
    """Read the state as it is encoded, without its tensors: fast, however large they are.

    Raises:
        CheckpointError: as :func:`load`.
    """
    path = Path(path)
    with _reading(path):
        _verified(path, only=_STATE)
        return _state(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: {error!r}") from error


def _verified(path: Path, only: str | None = None) -> _Fingerprints:
    """The manifest's, after every file, or only the one, has been compared with its own."""
    files = _fingerprints(path)
    for name in files if only is None else (only,):
        if _fingerprint(path / name) != files[name]:
            raise CheckpointError(f"{path / name} is damaged: it does not match its manifest")
    return files


def _fingerprints(path: Path) -> _Fingerprints:
    """What the manifest says about each file."""
    manifest = json.loads((path / _MANIFEST).read_text())
    if manifest.keys() == {_TENSORS, _STATE}:
        raise CheckpointError(f"{path} has format 1, expected {FORMAT}: an older version's")
    files = manifest["files"]
    if manifest.keys() != {"files", "sha256"} or _hash_of(files) != manifest["sha256"]:
        raise CheckpointError(f"{path / _MANIFEST} is damaged: it does not match itself")
    if not files.keys() >= {_TENSORS, _STATE} or any(Path(name).name != name for name in files):
        raise CheckpointError(f"{path / _MANIFEST} does not name the files of a checkpoint")
    return files


def _state(path: Path) -> Any:
    document = json.loads((path / _STATE).read_text())
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {document['format']}, expected {FORMAT}")
    return document["state"]


# ------------------------------------------------------------------ the state as JSON


class _Contents:
    """What a state read from JSON refers to."""

    def __init__(self, path: Path, files: _Fingerprints, tensors: dict[str, Tensor]) -> None:
        self.path, self.files, self.tensors = path, files, tensors

    def rows(self, number: int, first: int, end: int) -> Rows:
        rows = Rows(first, end, partial(self._read, number))
        for begin, _ in rows.pieces():
            self.files[_name_of_rows(number, begin)]  # a KeyError, if it is not there
        return rows

    def _read(self, number: int, begin: int, end: int) -> dict[str, Tensor]:
        with _reading(self.path):
            tables = load_file(self.path / _name_of_rows(number, begin))
            if any(len(table) != end - begin for table in tables.values()):
                raise ValueError(f"not every table has the rows {begin} to {end}")
            return tables


def _encode(
    value: Any,
    path: str,
    tensors: dict[str, Tensor],
    rows: list[tuple[str, Rows]],
    check: Check,
) -> Any:
    within = partial(_encode, tensors=tensors, rows=rows, check=check)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    if isinstance(value, Tensor):
        name = f"{len(tensors)}{path}"  # numbered: "a/b" may be a key, or b within a
        tensors[name] = value.detach()
        check(path, tensors[name])
        return {"$tensor": name}
    if isinstance(value, Rows):
        rows.append((path, value))
        return {"$rows": [len(rows) - 1, value.first, value.end]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {k: within(v, f"{path}/{k}") for k, v in value.items()}
        if not all(isinstance(key, (str, int, float)) or key is None for key in value):
            raise TypeError(f"the state at {path or '/'} has a key that is no name or number")
        # Optimizers number their parameters; JSON only knows names.
        pairs = [[k, within(v, f"{path}/{k}")] for k, v in value.items()]
        return {"$items": pairs}
    if isinstance(value, (list, tuple)):
        items = [within(v, f"{path}/{i}") for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, str)) or value is None:
        check(path, value)
        return value
    raise TypeError(f"the state at {path or '/'} is a {type(value).__name__}: {value!r:.80}")


def _decode(value: Any, contents: _Contents) -> Any:
    if isinstance(value, list):
        return [_decode(v, contents) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return contents.tensors[value["$tensor"]]
    if "$rows" in value:
        return contents.rows(*map(int, value["$rows"]))
    if "$tuple" in value:
        return tuple(_decode(v, contents) for v in value["$tuple"])
    if "$items" in value:
        return {k: _decode(v, contents) for k, v in value["$items"]}
    return {k: _decode(v, contents) for k, v in value.items()}


# ------------------------------------------------------------------ files


def _name_of_rows(number: int, begin: int) -> str:
    return f"rows-{number}.{begin}.safetensors"


def _save_rows(
    all_rows: list[tuple[str, Rows]], staged: Path, previous: Path | None, check: Check
) -> _Fingerprints:
    """A file for each piece, linked to that of ``previous`` if that one holds the same."""
    before: _Fingerprints = {}
    if previous is not None:
        with suppress(CheckpointError), _reading(previous):
            before = _fingerprints(previous)
    files: _Fingerprints = {}
    for number, (path, rows) in enumerate(all_rows):
        for begin, end in rows.pieces():
            name = _name_of_rows(number, begin)
            tables = rows.read(begin, end)
            content = serialized(_without_aliases(tables))
            if previous is not None and name in before and _holds(previous / name, content):
                # Its bytes have been compared: to hash them once more would tell nothing new.
                with suppress(OSError):  # not every disk has links
                    os.link(previous / name, staged / name)
                    files[name] = before[name]
                    continue
            for table, values in tables.items():
                check(f"{path}/{table}", values)
            files[name] = _write(staged / name, content)
    return files


def _write(path: Path, content: bytes) -> dict[str, Any]:
    """A file on the disk, read back; its fingerprint is that of what it should hold."""
    path.write_bytes(content)
    sync(path)
    fingerprint = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if _fingerprint(path) != fingerprint:
        raise OSError(f"{path} does not hold what was written to it")
    return fingerprint


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _without_aliases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that share memory: give each its own where needed."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.cpu()
        if not tensor.is_contiguous() or tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _hash_of(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
