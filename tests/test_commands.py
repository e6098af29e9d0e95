"""What a user is told to type can be typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from trainers.commands import as_value, command
from trainers.config.composer import composing

Patch = pytest.MonkeyPatch


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The `bin` of a virtual environment, whose interpreter is the one that runs."""
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "python").touch(mode=0o755)
    bin_ = tmp_path / "here" / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(tmp_path / "usr" / "python")
    (bin_ / "python3").symlink_to("python")
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "seed=1"])
    monkeypatch.setattr(sys, "executable", str(bin_ / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    monkeypatch.chdir(tmp_path / "here")
    return bin_


def python() -> str:
    return command("train.py").split()[0]


def test_the_interpreter_is_the_one_that_runs(
    venv: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    assert python() == ".venv/bin/python"  # another one is on the path, of the same file
    monkeypatch.chdir(tmp_path / "usr")
    assert python() == str(venv / "python")
    monkeypatch.setenv("PATH", "")
    assert python() == str(venv / "python")
    monkeypatch.setenv("PATH", f"{venv}:{tmp_path / 'usr'}")  # the environment is active
    assert python() == "python"
    monkeypatch.setattr(sys, "executable", str(venv / "python3"))
    assert python() == "python"


def test_the_script_is_beside_the_one_that_runs(venv: Path, monkeypatch: Patch) -> None:
    assert command("evaluate.py", "video=true") == (
        ".venv/bin/python scripts/evaluate.py video=true"
    )
    monkeypatch.setattr(sys, "argv", ["/some where/train.py"])
    assert shlex.split(command("evaluate.py"))[1:] == ["/some where/evaluate.py"]


def test_a_shell_reads_it_as_it_is_meant(venv: Path) -> None:
    line = command("train.py", "resume=my runs/$1", plugins=["mine", "my.other"])
    assert shlex.split(line)[2:] == ["resume=my runs/$1", "plugins=[mine,my.other]"]
    assert command("train.py", "resume=runs/a-b_c.1").endswith(" resume=runs/a-b_c.1")


@pytest.mark.parametrize("path", ["run", "runs/sac-Pendulum/2026-seed0", "../a+b_c.d", "/tmp/x"])
def test_plain_paths_are_left_as_they_are(path: str) -> None:
    assert command("train.py", f"resume={as_value(Path(path))}").endswith(f" resume={path}")


@pytest.mark.parametrize(
    "path", ["a b", "a=b", "a,b", "(a)", "[a]", "{a}", "1", "it's", 'a"b', "é"]
)
def test_hydra_reads_other_paths_as_they_are(path: str) -> None:
    argument = shlex.split(command("train.py", f"resume={as_value(Path(path))}"))[-1]
    with composing() as composer:
        (override,) = composer.parse([argument])
    assert override.value() == path
