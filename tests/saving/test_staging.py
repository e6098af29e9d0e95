"""A directory is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.config import ConfigError
from trainers.disk import WriteError
from trainers.saving.staging import staged


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with staged(out) as directory:
        (directory / "file").write_text("text")
        assert not out.exists()
        assert directory.parent == out.parent  # so that it can be renamed
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
        Path("a"),
        Path("a/b"),
        Path("a/b/file"),
    ]


def _fail(out: Path, error: type[BaseException]) -> None:
    with staged(out) as directory:
        (directory / "file").touch()
        (directory.parent / "theirs").touch()
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_only_what_is_of_others_stays(
    error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error):
        _fail(tmp_path / "a" / "b" / "c", error)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "theirs"]


def test_what_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in {"file": "nothing is yet", "file/out": "Not a directory"}.items():
        with pytest.raises(ConfigError, match=f"^out: .*{said}"), staged(tmp_path / path):
            pass


def test_what_is_replaceable_stays_until_there_is_another(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(out) as directory:
        (directory / "old").touch()
    with pytest.raises(ConfigError, match="nothing is yet"), staged(out, lambda out: False):
        pass
    with pytest.raises(KeyError), staged(out, lambda out: True) as directory:
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
    with staged(out, lambda out: True) as directory:
        (directory / "new").touch()
        assert (out / "old").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_what_came_meanwhile_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(out) as directory:
        (directory / "old").touch()
    with pytest.raises(WriteError), staged(out, only_old):
        (out / "theirs").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old", "out", "theirs"]


def only_old(directory: Path) -> bool:
    return [path.name for path in directory.iterdir()] == ["old"]


def test_what_cannot_be_replaced_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with staged(out) as directory:
        (directory / "old").touch()
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt), staged(out, only_old):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_a_link_and_a_path_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="nothing is yet"), staged(tmp_path / "link"):
        pass
    out = tmp_path / "out"
    with staged(out) as directory:
        (directory / "old").touch()
    monkeypatch.chdir(out)
    with staged(Path(), only_old) as directory:
        (directory / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]
