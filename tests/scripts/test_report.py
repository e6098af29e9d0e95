"""The command line of the report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.made_up_runs import line, make_run, write_lines

from trainers.reporting import cli

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


RUN = ["config.yaml", "metrics.jsonl"]
PICTURES = [
    f"HalfCheetah-v5-{name}.png"
    for name in (
        *("eval-episode_return-over-frames", "eval-episode_return-over-seconds"),
        *("loss-actor-over-frames", "time-frames_per_s-over-frames"),
        "train-episode_return-over-frames",
    )
]


def test_the_script_reports_on_a_run_without_torch(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    poison = tmp_path / "poison" / "torch.py"  # found before the real one
    poison.parent.mkdir()
    poison.write_text("raise ImportError('torch takes seconds')")
    path = f"{ROOT}{os.pathsep}{poison.parent}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "report.py"), "run"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "run/report.html and 5 pictures in run/report\n"
    expected = ["config.yaml", "metrics.jsonl", *(f"report/{name}" for name in PICTURES)]
    assert files(tmp_path / "run") == sorted([*expected, "report.html"])


def test_several_runs_go_into_a_directory_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    for seed in (1, 2):
        make_run(tmp_path / "runs" / f"{seed}", seed=seed)
    assert cli.main(["runs/1", "runs", "runs/2/"]) == 0
    assert files(tmp_path / "report") == sorted([*PICTURES, "report.html"])
    assert files(tmp_path / "runs") == [f"{seed}/{name}" for seed in (1, 2) for name in RUN]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "2 runs in 1 group of equal settings" in page
    assert capsys.readouterr().out == "report/report.html and 5 pictures in report\n"


def test_the_place_can_be_named(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert cli.main(["run", "out=here/and there"]) == 0
    assert files(tmp_path / "here" / "and there") == sorted([*PICTURES, "report.html"])
    assert files(tmp_path / "run") == RUN


def test_a_path_may_look_like_a_setting(tmp_path: Path) -> None:
    make_run(tmp_path / "lr=3")
    assert cli.main(["lr=3"]) == 0
    assert (tmp_path / "lr=3" / "report.html").exists()


def test_a_report_is_made_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "report.html").write_text("yesterday's")
    assert cli.main(["run"]) == 0
    first = files(run)
    assert cli.main(["run"]) == 0
    assert files(run) == first
    assert "yesterday's" not in (run / "report.html").read_text()


def test_what_is_broken_is_said_and_the_rest_reported(tmp_path: Path, capsys: Capture) -> None:
    make_run(tmp_path / "runs" / "good", seed=1)
    broken = make_run(tmp_path / "runs" / "broken", seed=2)
    write_lines(broken, [line(1000), "{", line(3000, eval__episode_return=1.0)])
    empty = make_run(tmp_path / "runs" / "empty", seed=3)
    write_lines(empty, [])
    (make_run(tmp_path / "runs" / "odd", seed=4) / "config.yaml").write_text("a: [")
    assert cli.main(["runs"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "report.py: runs/broken: metrics.jsonl: broken and left out: line 2",
        "report.py: runs/empty: left out: metrics.jsonl holds no line yet",
    ]
    assert said[2].startswith("report.py: runs/odd: left out: config.yaml is broken: ")
    assert len(said) == 3
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(each.partition(": ")[2].split(": ")[0] in page for each in said)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], 'RUN: got null, expected a run directory, or a folder that holds some'),
        (["nowhere"], 'RUN: got "nowhere", expected a run directory, or a folder that holds some; '
                      "there is no such directory"),
        (["a_file"], 'RUN: got "a_file", expected a run directory, or a folder that holds some; '
                     "there is a file"),
        (["folder"], 'RUN: got "folder", expected a run directory, or a folder that holds some; '
                     "nothing in it has a config.yaml or a metrics.jsonl"),
        (["run", "folder"], 'RUN: got "folder", expected a run directory'),
        (["empty"], 'RUN: got "empty", expected a run that has written a line of metrics; '
                    "it has no metrics.jsonl"),
        (["headless"], 'RUN: got "headless", expected a run that has written a line of metrics; '
                       "it has no config.yaml"),
        (["run", "aut=x"], 'aut: got "x", expected run directories and out=DIR; did you mean out?'),
        (["run", "out=a", "out=b"], 'out: got "b", expected to be given once'),
        (["run_dir=run"], 'run_dir: got "run", expected a run directory, or a folder that holds'),
        (["run", "out="], 'out: got "", expected a directory'),
        (["out=x"], "RUN: got null, expected a run directory"),
        (["run", "out=a_file"], 'out: got "a_file", expected a directory that can be written to; '
                                "File exists"),
        (["run", "out=a_file/x"], 'out: got "a_file/x", expected a directory that can be written'),
        (["run", "out=/proc/x"], 'out: got "/proc/x", expected a directory that can be written to'),
        (["run", "out=taken"], 'out: got "taken/report.html", expected a file; there is a dir'),
        (["run", "--colour"], 'RUN: got "--colour", expected a run directory'),
    ],
)  # fmt: skip
def test_wrong_input_is_a_line_and_writes_nothing(
    argv: list[str], expected: str, tmp_path: Path, capsys: Capture
) -> None:
    make_run(tmp_path / "run")
    (make_run(tmp_path / "empty") / "metrics.jsonl").unlink()
    (make_run(tmp_path / "headless") / "config.yaml").unlink()
    (tmp_path / "folder").mkdir()
    (tmp_path / "a_file").touch()
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (message,) = said.err.splitlines()
    assert message.startswith(f"report.py: {expected}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_cannot_be_written_to(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:  # whoever runs the tests may be allowed everything
        raise PermissionError(13, "Permission denied")

    make_run(tmp_path / "run")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert cli.main(["run"]) == 2
    expected = 'out: got "run", expected a directory that can be written to; '
    expected += "Permission denied: out=DIR goes elsewhere"
    assert capsys.readouterr().err == f"report.py: {expected}\n"


def test_a_disk_that_is_full_leaves_the_old_page(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = make_run(tmp_path / "run")
    (run / "report.html").write_text("old")
    monkeypatch.setattr(Path, "write_bytes", fail)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "report.py: run/report.html: No space left on device\n"
    assert (run / "report.html").read_text() == "old"
    assert [each for each in files(run) if each.startswith(".")] == []


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run")
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "matplotlib" else True)
    assert cli.main(["run"]) == 2
    assert "matplotlib: got null, expected a package that is" in capsys.readouterr().err


def test_help(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: report.py RUN... [out=DIR]")


def test_a_run_can_be_reported_on_from_a_copy(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    shutil.copytree("run", "copy")
    assert cli.main(["run", "copy"]) == 0  # the same seed: one of them counts
