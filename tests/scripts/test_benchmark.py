"""The command line of the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.processes import appears, left, runs
from support.scripts import load_script

from benchmarks import peers
from trainers.config import ConfigError, EnvConfig

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return load_script("benchmark")


def test_groups_come_in_their_own_order_and_learning_only_if_asked(benchmark: Any) -> None:
    assert benchmark.parse(["--only", "ppo8,sac"]).only == ("sac", "ppo8")
    assert "scaling" in benchmark.parse([]).only
    assert "learning" not in benchmark.parse([]).only
    assert benchmark.parse(["--only", "learning"]).only == ("learning",)


def test_all_peers_run_unless_some_are_picked(benchmark: Any) -> None:
    assert benchmark.parse([]).peers == ("sb3", "sbx", "torchrl")
    assert benchmark.parse(["--peers", "torchrl,sb3"]).peers == ("sb3", "torchrl")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--only", "sac,pppo"], "got 'pppo', expected any of sac, ppo1"),
        (["--only", ""], "got '', expected any of sac"),
        (["--peers", "sbx,rllib"], "got 'rllib', expected any of sb3, sbx, torchrl"),
        (["--repeats", "0"], "got '0', expected a whole number from 1 on"),
        (["--threads", "two"], "got 'two', expected a whole number from 1 on"),
        (["--threads", "100000"], "got 100000, this machine has"),
        (["--frames", "3"], "unrecognized arguments: --frames"),
    ],
)
def test_wrong_arguments_are_named(
    benchmark: Any, capsys: pytest.CaptureFixture[str], argv: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse(argv)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_what_envpool_is_needed_for_is_left_out_without_it(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, value: str) -> None:
        raise ConfigError(f"env.{name}", value, "sync or async")

    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    groups, (skipped,) = benchmark.possible(["collect", "envpool"])
    assert groups == ("collect",)
    assert "EnvPool, 32 environments: the package envpool is not installed" in skipped
    monkeypatch.setattr(peers, "find_spec", lambda name: object())
    monkeypatch.setattr(EnvConfig, "accept", refuse)
    groups, (skipped,) = benchmark.possible(["envpool"])
    assert groups == ()
    assert 'env.backend: got "envpool", expected sync or async' in skipped
    monkeypatch.setattr(EnvConfig, "accept", lambda name, value: value)
    assert benchmark.possible(["envpool"]) == (("envpool",), [])
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert benchmark.possible(["sac"]) == (("sac",), [])


def test_what_needs_a_gpu_is_left_out_without_one(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    groups, (skipped,) = benchmark.possible(["sac", "gpu"])
    assert groups == ("sac",)
    assert skipped == "SAC and PPO on a GPU: there is no GPU that torch can use"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert benchmark.possible(["sac", "gpu"]) == (("sac", "gpu"), [])


# The script, with a program of its own that does not end.
INTERRUPTED = """
import runpy, sys
from benchmarks import running
from benchmarks.jobs import Job
running.jobs = lambda *_, **__: [Job("us", [sys.executable, "-c", CHILD], lambda line, _: {})]
sys.argv = [SCRIPT, "--only", "bare", "--quick"]
runpy.run_path(SCRIPT, run_name="__main__")
"""
CHILD = """
import os, time
with open(PLACE, "w") as file:
    file.write(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_the_program_under_way_ends_with_the_benchmark(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    place = tmp_path / "pid"
    child = f"PLACE = {str(place)!r}\n{CHILD}"
    program = f"SCRIPT, CHILD = {str(SCRIPT)!r}, {child!r}\n{INTERRUPTED}"
    benchmark = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        pid = int(appears(place))
        assert runs(pid)
        benchmark.send_signal(number)
        assert benchmark.wait(30) == code
    finally:
        benchmark.kill()
        benchmark.wait()
    assert not left([pid])
