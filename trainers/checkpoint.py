"""Checkpoints on disk: tensors in safetensors, everything else in JSON, and nothing that runs.

A checkpoint is a directory::

    tensors.safetensors   every tensor of the state, named by a number and its path
    state.json            the rest, with {"$tensor": name} where a tensor goes
    manifest.json         size and SHA-256 of both, written last

It is staged under another name and renamed once, so a directory with the final name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class CheckpointError(RuntimeError):
    """A directory is not a checkpoint, or it is damaged."""


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` (nested dicts, lists, tensors, numbers, strings) to the directory ``path``.

    Raises:
        FileExistsError: ``path`` exists already; a checkpoint is never overwritten.
        OSError: the disk does not take it; nothing of it is left.
        TypeError: the state holds something that is neither a tensor nor plain data.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; checkpoints are never overwritten")
    tensors: dict[str, Tensor] = {}
    document = {"format": FORMAT, "state": _encode(state, "", tensors)}
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        _save_tensors(_without_aliases(tensors), staged / _TENSORS)
        # allow_nan: an infinite best return so far is a legitimate state.
        (staged / _STATE).write_text(json.dumps(document))
        manifest = {name: _fingerprint(staged / name) for name in (_TENSORS, _STATE)}
        (staged / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for name in (_TENSORS, _STATE, _MANIFEST):
            _sync(staged / name)
        _sync(staged)
        staged.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load(path: str | Path) -> dict[str, Any]:
    """Read and verify a checkpoint directory; nothing is returned unless all of it is intact.

    Raises:
        CheckpointError: a file is missing, changed or cut short, or its content is of no use.
    """
    path = Path(path)
    with _reading(path):
        state = _verified(path)
        return _decode(state, load_file(path / _TENSORS))


def load_plain(path: str | Path) -> dict[str, Any]:
    """Read the state as it is encoded, without its tensors: fast, however large they are.

    Raises:
        CheckpointError: as :func:`load`.
    """
    path = Path(path)
    with _reading(path):
        return _verified(path, [_STATE])


def verify(path: str | Path) -> None:
    """Check a checkpoint directory without reading its tensors into memory.

    Raises:
        CheckpointError: as :func:`load`.
    """
    path = Path(path)
    with _reading(path):
        _verified(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: {error!r}") from error


def _verified(path: Path, files: Sequence[str] = (_TENSORS, _STATE)) -> Any:
    """The encoded state, after each of the files has been compared with its hash."""
    manifest = json.loads((path / _MANIFEST).read_text())
    for name in files:
        if _fingerprint(path / name) != manifest[name]:
            raise CheckpointError(f"{path / name} is damaged: it does not match its manifest")
    document = json.loads((path / _STATE).read_text())
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {document['format']}, expected {FORMAT}")
    return document["state"]


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    if isinstance(value, Tensor):
        name = f"{len(tensors)}{path}"  # numbered: "a/b" may be a key, or b within a
        tensors[name] = value.detach()
        return {"$tensor": name}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {k: _encode(v, f"{path}/{k}", tensors) for k, v in value.items()}
        if not all(isinstance(key, (str, int, float)) or key is None for key in value):
            raise TypeError(f"the state at {path or '/'} has a key that is no name or number")
        # Optimizers number their parameters; JSON only knows names.
        pairs = [[k, _encode(v, f"{path}/{k}", tensors)] for k, v in value.items()]
        return {"$items": pairs}
    if isinstance(value, (list, tuple)):
        items = [_encode(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"the state at {path or '/'} is a {type(value).__name__}: {value!r:.80}")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$tuple" in value:
        return tuple(_decode(v, tensors) for v in value["$tuple"])
    if "$items" in value:
        return {k: _decode(v, tensors) for k, v in value["$items"]}
    return {k: _decode(v, tensors) for k, v in value.items()}


def _without_aliases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
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


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # its word for a full disk
        raise OSError(str(error)) from error


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
