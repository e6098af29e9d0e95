"""What is on the disk: waited for until it is, or made what it should not be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from trainers.saving import checkpoint


def watch_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Filled with the files and directories that are synced."""
    synced: list[Path] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return synced


def save_and_forge(path: Path, name: str, content: bytes) -> None:
    """A checkpoint with other content in a file than it was saved with; its manifest is right."""
    checkpoint.save(path, {"a": torch.ones(1)})
    (path / name).write_bytes(content)
    files = json.loads((path / "manifest.json").read_text())["files"]
    files[name] = checkpoint._fingerprint(path / name)
    manifest = {"files": files, "sha256": checkpoint._hash_of(files)}
    (path / "manifest.json").write_text(json.dumps(manifest))
