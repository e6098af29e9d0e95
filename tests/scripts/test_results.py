"""`scripts/results.py`: a list is trained, and becomes a page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "results.py"
TINY = (
    "env.max_episode_steps=25 network.hidden=[16,16] log.interval=50 eval.interval=60 "
    "eval.episodes=2 checkpoint.interval=64 algo.frames_per_batch=32 algo.minibatch_size=8 "
    "algo.num_epochs=3"
)
ROW = f'- {{algo: ppo, env: Pendulum, frames: 160, seeds: 1, must: -1_000_000, more: "{TINY}"}}\n'
LONG = ROW.replace("160", "1_000_000")
LAST = "ppo-Pendulum-1M"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text(ROW + LONG)


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("results")


def test_a_list_is_trained_once_and_becomes_a_page(script: Any, capsys: Capture) -> None:
    def results(*arguments: str) -> tuple[int, str, str]:
        code = script.main(["--list", "list.yaml", "--out", "docs", *arguments])
        return (code, *capsys.readouterr())

    only = ("--only", "ppo-Pendulum-160")
    code, out, said = results(*only)
    assert (code, out) == (0, "docs/results.md\n"), said
    started, finished = said.splitlines()
    assert started == "ppo-Pendulum-160 seed 100: started"
    assert finished.startswith("ppo-Pendulum-160 seed 100: finished at frame 160, return -")
    page = Path("docs/results.md").read_text()
    assert "| [ppo on Pendulum-v1](#ppo-pendulum-160) | 160 | 1 | -" in page
    assert "| 0 of 1 | - | -1,000,000 |" in page
    assert re.search(r"\nSeed 100: \d{4}-\d\d-\d\d, commit ", page)
    assert Path("docs/results/ppo-Pendulum-160.png").is_file()
    left = sorted(path.name for path in Path("runs/results/ppo-Pendulum-160").iterdir())
    assert left == ["seed100", "seed100.json", "seed100.log"]

    assert results(*only) == (0, "docs/results.md\n", "")  # nothing is left to do
    assert Path("docs/results.md").read_text() == page

    Path("runs").rename("elsewhere")
    Path("docs/results.md").unlink()
    assert results("--page") == (0, "docs/results.md\n", "")
    assert Path("docs/results.md").read_text() == page
    assert not Path("runs").exists()

    changed = (ROW + LONG).replace("algo.num_epochs=3", "algo.num_epochs=2")
    Path("list.yaml").write_text(changed)
    code, _, said = results(*only, "--runs", "elsewhere/results")
    assert code == 1
    assert said.startswith("ppo-Pendulum-160 seed 100: left as it is, since elsewhere/results/")
    assert said.endswith("than the command's (algo.num_epochs); take it away to train it anew\n")
    assert "Seed 100 does not count" in Path("docs/results.md").read_text()


def test_what_cannot_be_kept_is_said_and_the_others_go_on(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    program = property(lambda job: [sys.executable, "-c", ""])
    monkeypatch.setattr(script.Job, "command", program)

    def full(job: Any, place: Path) -> None:
        if "160" in job.title:
            raise OSError(28, "No space left on device", f"{place}/x")

    monkeypatch.setattr(script, "keep", full)
    assert script.main(["--list", "list.yaml", "--out", "docs", "--jobs", "1"]) == 1
    out, said = capsys.readouterr()
    assert out == "docs/results.md\n"
    first, last = "ppo-Pendulum-160 seed 100", "ppo-Pendulum-1M seed 100"
    why = f"{first}: NOT KEPT: [Errno 28] No space left on device: 'docs/results/x'"
    assert said.splitlines() == [
        *(f"{first}: started", f"{first}: finished", why),
        *(f"{last}: started", f"{last}: finished", why),
    ]


def test_a_signal_stops_it_with_checkpoints_and_a_page() -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--list", "list.yaml", "--out", "docs", "--only", LAST],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run_dir = Path(f"runs/results/{LAST}/seed100")
    try:
        wait_for(run_dir / "metrics.jsonl")
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
        out, said = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 75, said
    assert "Traceback" not in said
    assert "ppo-Pendulum-1M seed 100: stopped at frame" in said
    assert any((run_dir / "checkpoints").iterdir())
    assert out == "docs/results.md\n"
    assert "| 0 of 1 | - |" in Path("docs/results.md").read_text()


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--only", "ppo-Pendulum-16"], '--only: got "ppo-Pendulum-16", expected any of ppo-Pen'),
        (["--only", ""], '--only: got "", expected any of'),
        (["--jobs", "0"], "argument --jobs: got '0', expected a whole number from 1 on"),
        (["--frames", "3"], "unrecognized arguments: --frames"),
        (["--list", "nowhere"], '--list: got "nowhere", expected a list of rows in YAML'),
        (["--list", "bad.yaml"], 'bad.yaml: row 1: algo: got "sacc", expected one of'),
        (["--out", "file"], '--out: got "file/results", expected a directory that can be written'),
        (["--out", "taken"], '--out: got "taken/results.md", expected a file; there is a'),
        (["--out", "/proc/x"], '--out: got "/proc/x/results", expected a directory that can be'),
        (["--runs", "file/x"], '--runs: got "file/x", expected a directory that can be written to'),
    ],
)
def test_wrong_input_is_a_line_and_trains_nothing(
    script: Any, argv: list[str], expected: str, capsys: Capture
) -> None:
    Path("bad.yaml").write_text(ROW.replace("ppo", "sacc"))
    Path("file").touch()
    Path("taken/results.md").mkdir(parents=True)
    usual = {"--list": "list.yaml", "--out": "docs"}
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    try:
        code = script.main([part for pair in (usual | given).items() for part in pair])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (message,) = said.err.splitlines()
    assert expected in message
    assert not list(Path().rglob("metrics.jsonl"))
