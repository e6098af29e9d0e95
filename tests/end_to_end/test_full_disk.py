"""A disk that takes no more does not end the training; the exit code tells."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from running import TINY, assert_equal_runs, forked, lines, names, train

RUN = Path("run")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def small_files() -> int:
    """The bytes that a file may have in a run's process: as many as a run's first checkpoint."""
    assert train(*TINY, "run_dir=probe", "total_frames=1", "eval.interval=0") == 0
    file = Path("probe/checkpoints") / names(Path("probe"))[-1] / "tensors.safetensors"
    return file.stat().st_size


def limited(limit: int, *arguments: str) -> int | None:
    """A run whose files cannot grow beyond `limit` bytes."""
    return forked(
        *arguments, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2)
    )


def test_checkpoints_that_do_not_fit(small_files: int, capfd: Capture, finished: Path) -> None:
    assert limited(small_files, *TINY, "run_dir=run") == 1
    said = capfd.readouterr().err
    for frame in (64, 128, 160):
        assert f"NO CHECKPOINT at frame {frame}: " in said
    assert "ended at frame 160" in said
    assert "THE LAST CHECKPOINT COULD NOT BE WRITTEN" in said
    assert "Traceback" not in said
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["0000000000-0000000000"]
    assert lines(RUN)[-1]["frames"] == 160
    # There is room again: the run is not taken for finished, since its end was not saved.
    assert train("resume=run") == 0
    assert_equal_runs(RUN, finished)


def test_nothing_fits_but_the_training_goes_on(capfd: Capture) -> None:
    large = ("network.hidden=[64,64]", "log.interval=1000")
    assert limited(10_000, *TINY, *large, "run_dir=run") == 1
    said = capfd.readouterr().err
    assert "NO CHECKPOINT at frame 0: " in said
    assert "THE BEST POLICY IS NOT KEPT at frame 60: " in said
    assert "ended at frame 160" in said
    assert sorted(path.name for path in RUN.rglob("*") if path.is_dir()) == ["checkpoints"]
    assert lines(RUN)[-1]["frames"] == 160
    # Nothing of it was saved, so there is all of it left to do.
    assert train("resume=run") == 0
    assert "run holds no checkpoint yet: the run starts from frame 0" in capfd.readouterr().err
    assert names(RUN)[0] == "0000000160-0000000120"


def test_a_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setenv("FRAME", "70")
    monkeypatch.setenv("FILE", "run/checkpoints")
    assert train(*TINY, "plugins=[my_plugin]", "hooks=[block]", "run_dir=run") == 1
    said = capfd.readouterr().err
    assert "NO CHECKPOINT at frame 128: " in said
    assert "THE LAST CHECKPOINT COULD NOT BE WRITTEN" in said
    assert lines(RUN)[-1]["frames"] == 160


def test_a_run_goes_on_where_its_configuration_and_log_cannot_be_written(
    capfd: Capture, finished: Path
) -> None:
    assert train(*TINY, "run_dir=run", "stop_at=100") == 0
    config = (RUN / "config.yaml").read_text()
    (RUN / "train.log").unlink()
    for name in ("train.log", ".config.yaml.partial"):
        (RUN / name).mkdir()
    capfd.readouterr()
    assert train("resume=run") == 0
    said = capfd.readouterr().err
    assert "run/config.yaml stays as it was, give what you change again: " in said
    assert said.count("cannot write ") == said.count("train.log: ") == 1
    assert "Traceback" not in said
    assert (RUN / "config.yaml").read_text() == config
    assert_equal_runs(RUN, finished)


def test_the_same_configuration_is_not_written_again(finished: Path) -> None:
    auto = (*TINY, "resume=auto", "run_dir=run", "max_seconds=1e-6")
    assert train(*auto) == 0
    before = (RUN / "config.yaml").stat().st_mtime_ns
    assert train(*auto) == 0
    assert (RUN / "config.yaml").stat().st_mtime_ns == before
    assert train("resume=run") == 0
    assert (RUN / "config.yaml").stat().st_mtime_ns > before
    assert_equal_runs(RUN, finished)


def test_a_new_run_needs_its_configuration(capfd: Capture) -> None:
    (RUN / ".config.yaml.partial").mkdir(parents=True)
    assert train(*TINY, "run_dir=run") == 2
    said = capfd.readouterr().err
    assert 'run_dir: got "run", expected a directory that can be written to; ' in said
    assert "Traceback" not in said


def test_room_in_time(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setenv("FRAME", "70")
    monkeypatch.setenv("UNTIL", "130")
    monkeypatch.setenv("FILE", "run/checkpoints")
    assert train(*TINY, "plugins=[my_plugin]", "hooks=[block]", "run_dir=run") == 0
    said = capfd.readouterr().err
    assert "NO CHECKPOINT at frame 128: " in said
    assert "THE LAST" not in said
    assert names(RUN) == ["0000000160-0000000120"]


def test_metrics_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setenv("FRAME", "70")
    monkeypatch.setenv("FILE", "run/metrics.jsonl")
    mine = ("plugins=[my_plugin]", "hooks=[block]")
    assert train(*TINY, *mine, "run_dir=run") == 0
    said = capfd.readouterr().err
    assert said.count("cannot write run/metrics.jsonl") == 1
    assert "ended at frame 160" in said
