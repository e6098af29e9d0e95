"""What ends a run early, what it leaves, and how it goes on."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running import (
    SCRIPT,
    TINY,
    assert_equal_runs,
    forked,
    last_state,
    lines,
    names,
    seen_trainer,
    train,
    variables,
)
from support.states import loss_of

from trainers.config import load_config
from trainers.saving import checkpoint

RUN = Path("run")
SIGNALLED = ("plugins=[my_plugin]", "hooks=[signal]")
GO_ON = ("resume=run", "plugins=[my_plugin]", "hooks=[]")

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def run(finished: Path) -> Path:
    """A finished run that may be written to."""
    shutil.copytree(finished, RUN)
    return RUN


def send(patch: Patch, name: str, frame: int) -> None:
    patch.setenv("SIGNAL", name)
    patch.setenv("FRAME", str(frame))


@pytest.mark.parametrize(("name", "frame"), [("SIGINT", 20), ("SIGTERM", 110), ("SIGUSR1", 110)])
def test_a_signal_stops_with_a_checkpoint(
    name: str, frame: int, monkeypatch: Patch, capfd: Capture, finished: Path
) -> None:
    send(monkeypatch, name, frame)
    before = signal.getsignal(signal.Signals[name])
    assert train(*TINY, *SIGNALLED, "run_dir=run") == 75
    assert signal.getsignal(signal.Signals[name]) is before
    said = capfd.readouterr().err
    assert f"{name}: stopping with a checkpoint" in said
    assert f"ended at frame {frame}" in said
    assert re.search(r"go on with: \S+ train.py resume=run 'plugins=\[my_plugin\]'$", said, re.M)
    assert last_state(RUN)["clock"]["frames"] == frame
    if frame > 50:  # no evaluation, no line of its own: nothing that belongs to an end
        assert [line["frames"] for line in lines(RUN)] == [50, 60, 100]
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, finished)


@pytest.mark.parametrize("where", ["FRAME", "UPDATE"])
def test_a_signal_in_the_last_iteration(where: str, monkeypatch: Patch, finished: Path) -> None:
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    monkeypatch.setenv(where, {"FRAME": "160", "UPDATE": "120"}[where])
    assert train(*TINY, *SIGNALLED, "run_dir=run") == 75
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, finished)


def test_the_script_stops_at_a_signal_from_outside(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), *TINY, "run_dir=run", "total_frames=1_000_000"]
    process = subprocess.Popen(
        [*command, "env.num_envs=2", "env.backend=async"],
        env=variables(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(RUN / "metrics.jsonl")
        # Ctrl-C: the whole process group gets it, the workers too
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, said
    assert "Traceback" not in said
    assert last_state(RUN)["clock"]["frames"] >= 50  # the first line is of frame 50


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def test_a_second_signal_ends_at_once(monkeypatch: Patch, capfd: Capture, finished: Path) -> None:
    monkeypatch.setenv("FRAME", "110")
    monkeypatch.setenv("PAUSE", "1.1")
    assert train(*TINY, "plugins=[my_plugin]", "hooks=[insist,spy]", "run_dir=run") == 1
    said = capfd.readouterr().err
    assert "SIGTERM again: ended at once; resume=run goes on from the last checkpoint" in said
    assert "Traceback" not in said
    assert names(RUN)[0].startswith("0000000064")
    assert train(*GO_ON) == 0
    assert_equal_runs(RUN, finished)


def test_a_signal_that_arrives_twice_is_one(monkeypatch: Patch) -> None:
    monkeypatch.setenv("FRAME", "110")
    monkeypatch.setenv("PAUSE", "0.1")
    assert train(*TINY, "plugins=[my_plugin]", "hooks=[insist]", "run_dir=run") == 75
    assert names(RUN)[0].startswith("0000000110")


def signal_in_a_save(patch: Patch, *pauses: float) -> None:
    """SIGTERM after each of these pauses, while the checkpoint of frame 64 is being written."""
    write = checkpoint._write

    def signalled(path: Path, content: bytes) -> Any:
        if path.parent.name.startswith(".0000000064-") and path.name == "state.json":
            for pause in pauses:
                time.sleep(pause)
                os.kill(os.getpid(), signal.SIGTERM)
        return write(path, content)

    patch.setattr(checkpoint, "_write", signalled)


def test_a_signal_during_a_save_lets_it_finish(monkeypatch: Patch, finished: Path) -> None:
    signal_in_a_save(monkeypatch, 0.0)
    assert train(*TINY, "run_dir=run") == 75
    assert last_state(RUN)["clock"]["frames"] == 64
    assert train("resume=run") == 0
    assert_equal_runs(RUN, finished)


def test_a_second_signal_during_a_save_leaves_the_one_before(
    monkeypatch: Patch, capfd: Capture, finished: Path
) -> None:
    with monkeypatch.context() as patch:
        signal_in_a_save(patch, 0.0, 1.1)
        assert train(*TINY, "run_dir=run") == 1
    assert "SIGTERM again: ended at once; resume=run goes on from" in capfd.readouterr().err
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["0000000000-0000000000"]
    assert train("resume=run") == 0
    assert_equal_runs(RUN, finished)


def test_two_processes_do_not_write_into_one_run(capfd: Capture) -> None:
    holder = multiprocessing.get_context("fork").Process(
        target=train, args=(*TINY, "run_dir=run", "total_frames=1_000_000", "eval.interval=0")
    )
    holder.start()
    try:
        wait_for(RUN / "metrics.jsonl")
        changed = ("algo.lr=1", "resume_override=true", "stop_at=1")
        for other in (("resume=run",), (*TINY, "resume=auto", "run_dir=run")):
            assert train(*other, *changed) == 2
            assert "another process is training in it" in capfd.readouterr().err
        assert holder.is_alive()
    finally:
        holder.kill()
        holder.join()
    assert load_config(RUN / "config.yaml").algo.lr != 1
    assert "resumed from" not in (RUN / "train.log").read_text()
    assert train("resume=run", "stop_at=1") == 0  # a lock dies with its owner
    assert "resumed from" in (RUN / "train.log").read_text()


@pytest.mark.parametrize("how", [("resume=run",), ("resume=auto", "run_dir=run")])
def test_a_finished_run_says_so(how: tuple[str, ...], run: Path, capfd: Capture) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert train(*how) == 0
    assert "run is finished: 160 frames" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_resume_reads_its_checkpoint_once(run: Path, monkeypatch: Patch) -> None:
    verified: list[str] = []
    verify = checkpoint._verified

    def counted(path: Path, only: str | None = None) -> Any:
        if only is None:
            verified.append(path.name)
        return verify(path, only)

    newest = names(run)[0]
    monkeypatch.setattr(checkpoint, "_verified", counted)
    assert train("resume=run", "total_frames=170") == 0
    assert verified == [newest]


def test_a_finished_run_can_be_made_longer(run: Path) -> None:
    assert train("resume=run", "total_frames=200") == 0
    assert [line["frames"] for line in lines(run)] == [50, 60, 100, 120, 150, 180, 200, 200]
    assert last_state(run)["clock"]["frames"] == 200


def test_resume_auto_starts_and_goes_on(finished: Path) -> None:
    auto = (*TINY, "resume=auto", "run_dir=run")
    assert train(*auto, "stop_at=70") == 0
    assert train(*auto) == 0
    assert_equal_runs(RUN, finished)


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(
    file: str, run: Path, capfd: Capture, finished: Path
) -> None:
    (run / "metrics.jsonl").write_text("")  # else it is finished
    newest, previous = names(run)
    damaged = run / "checkpoints" / newest / file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert train("resume=run") == 0
    said = capfd.readouterr().err
    assert f"skipping a damaged checkpoint: run/checkpoints/{newest}" in said
    assert f"resumed from run/checkpoints/{previous}: frame 128" in said
    # The run came by the damaged one's frame again: it is whole now.
    assert names(run)[0] == newest
    assert last_state(run)["clock"]["frames"] == 160


@pytest.mark.parametrize("interval", [64, 0])
def test_without_a_usable_checkpoint_it_starts_again(
    interval: int, monkeypatch: Patch, capfd: Capture, finished: Path
) -> None:
    send(monkeypatch, "SIGKILL", 110)
    arguments = (*TINY, *SIGNALLED, f"checkpoint.interval={interval}")
    assert forked(*arguments, "run_dir=run") == -signal.SIGKILL
    shutil.rmtree(RUN / "checkpoints", ignore_errors=True)
    assert train(*GO_ON, "checkpoint.interval=64") == 0
    assert "run holds no checkpoint yet: the run starts from frame 0" in capfd.readouterr().err
    assert_equal_runs(RUN, finished)


@pytest.mark.parametrize("resume", ["resume=run", "resume=auto"])
def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is(
    resume: str, run: Path, capfd: Capture
) -> None:
    (run / "metrics.jsonl").write_text(
        (run / "metrics.jsonl").read_text().rsplit("\n", 2)[0] + "\n"
    )
    for name in names(run):
        (run / "checkpoints" / name / "state.json").write_text("{")
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.name != "train.log"}
    auto = (*TINY, "run_dir=run") if resume == "resume=auto" else ()
    assert train(*auto, resume) == 2
    said = capfd.readouterr().err
    assert said.count("skipping a damaged checkpoint") == 2
    assert "all of its checkpoints are damaged" in said
    after = {path: path.read_bytes() for path in run.rglob("*.*") if path.name != "train.log"}
    assert after == before


def test_an_older_checkpoint_can_be_named(run: Path, finished: Path) -> None:
    _, previous = names(run)
    changed = ("algo.batch_size=8", "resume_override=true")
    assert train(f"resume=run/checkpoints/{previous}", "stop_at=140", *changed) == 0
    # What came after it belongs to the run as it was.
    assert names(run) == ["0000000140-0000000100", previous]
    assert not [*run.glob("checkpoints/damaged-*"), *run.glob("checkpoints/later-*")]
    assert [line["frames"] for line in lines(run)] == [50, 60, 100, 120, 140]
    assert train("resume=run") == 0
    assert names(run)[0] == names(finished)[0]
    last, unchanged = lines(run)[-1], lines(finished)[-1]
    assert last["frames"] == unchanged["frames"] == 160
    assert last["loss/actor"] != unchanged["loss/actor"]


def test_what_came_after_it_is_there_until_there_is_something_else(
    run: Path, monkeypatch: Patch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no environment")

    newest, previous = names(run)
    monkeypatch.setattr("trainers.hooks.Evaluate.start", fail)
    assert train(f"resume=run/checkpoints/{previous}") == 1
    assert names(run) == [previous]
    assert (run / "checkpoints" / f"later-{newest}" / "manifest.json").exists()


def test_a_best_policy_of_later_frames_is_none_of_the_run_any_more(run: Path) -> None:
    shutil.rmtree(run / "best")
    checkpoint.save(run / "best", {"policy": {}, "frames": 150, "eval/episode_return": 0.0})
    _, previous = names(run)
    assert train(f"resume=run/checkpoints/{previous}", "stop_at=130", "eval.interval=0") == 0
    assert checkpoint.load(run / "best")["frames"] == 130  # for want of another


def test_lines_stay_for_as_long_as_their_checkpoints(run: Path, monkeypatch: Patch) -> None:
    """Going back to an older one is cut off before the later one is gone."""

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = (run / "metrics.jsonl").read_bytes()
    newest, previous = names(run)
    with monkeypatch.context() as patch:
        patch.setattr("trainers.run.shutil.rmtree", kill)
        assert train(f"resume=run/checkpoints/{previous}") == 75
    assert names(run) == [newest, previous]
    assert (run / "metrics.jsonl").read_bytes() == before


def test_overridden_settings_count(run: Path) -> None:
    changed = ("algo.lr=1e-4", "algo.gamma=0.5", "algo.target_entropy=-9", "resume_override=true")
    spy = ("plugins=[my_plugin]", "hooks=[spy]")
    assert train("resume=run", "total_frames=170", *changed, *spy) == 0
    assert lines(run)[-1]["train/lr/actor"] == 1e-4
    loss = loss_of(seen_trainer())
    assert float(loss.value_estimator.gamma) == 0.5
    assert float(loss.target_entropy) == -9


def test_a_named_checkpoint_has_to_be_intact(run: Path, capfd: Capture) -> None:
    newest, previous = names(run)
    (run / "checkpoints" / newest / "state.json").write_text("{}")
    assert train(f"resume=run/checkpoints/{newest}") == 2
    said = capfd.readouterr().err
    assert f'train.py: resume: got "run/checkpoints/{newest}", expected an intact checkp' in said
    assert "state.json is damaged" in said
    assert "Traceback" not in said
    assert names(run) == [newest, previous]


def test_a_checkpoint_that_was_not_completed_is_none(run: Path, finished: Path) -> None:
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().rsplit("\n", 2)[0])
    newest, _ = names(run)
    (run / "checkpoints" / newest).rename(run / "checkpoints" / f".{newest}.partial")
    assert train("resume=run") == 0
    assert_equal_runs(run, finished)
    assert not list(run.glob("checkpoints/.*"))


# What is imported while a run starts, and takes its time.
SLOW = """
import pathlib, time
pathlib.Path("importing").write_text("now")
time.sleep(60)
"""


def signalled_at_start(*arguments: str, name: str) -> tuple[int, str]:
    """The exit code of the script, and what it said, if it gets a signal before it trains."""
    Path("slow_plugin.py").write_text(SLOW)
    Path("importing").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments, "plugins=[slow_plugin]"],
        env=variables(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(Path("importing"))
        process.send_signal(signal.Signals[name])
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_before_the_training_leaves_nothing(name: str, code: int) -> None:
    auto = (*TINY, "run_dir=runs/mine", "resume=auto")
    assert signalled_at_start(*auto, name=name) == (
        code,
        f"train.py: {name}: ended, nothing was saved\n",
    )
    assert not Path("runs").exists()


def test_a_signal_before_a_run_goes_on_leaves_it_as_it_is(run: Path, finished: Path) -> None:
    (run / "metrics.jsonl").write_text("")  # else it is finished
    code, said = signalled_at_start("resume=run", name="SIGTERM")
    assert code == 75
    again = rf"go on with: \S+ {SCRIPT} resume=run 'plugins=\[slow_plugin\]'\n"
    assert re.search(f"train.py: SIGTERM: ended; {again}", said)
    assert names(run) == names(finished)
