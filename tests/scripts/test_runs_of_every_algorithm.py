"""Every algorithm's runs can be evaluated and reported on; `test_export.py` exports them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.algorithms import ALL, task_of, tiny
from support.environments import env_config

from trainers.config import CheckpointConfig, EvalConfig
from trainers.policies import evaluate
from trainers.reporting import cli
from trainers.run import run

OWN = EvalConfig(interval=16, episodes=3, seed=7)
SAVED = CheckpointConfig(interval=16)

every_algorithm = pytest.mark.parametrize("name", ALL)
Run = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of an algorithm, made once; not to be written to."""
    made: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in made:
            run_dir = tmp_path_factory.mktemp(name) / "run"
            env = env_config(task_of(name), max_episode_steps=20)
            assert (
                run(tiny(name, env, {"lr": 0.05}, eval=OWN, checkpoint=SAVED), run_dir, None) == 0
            )
            made[name] = run_dir
        return made[name]

    return train


def evaluations(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval/episode_return" in line]


@pytest.mark.parametrize("which", ["best", "latest"])
@every_algorithm
def test_the_run_s_own_evaluation_can_be_repeated(name: str, which: str, run_of: Run) -> None:
    run_dir = run_of(name)
    lines = evaluations(run_dir)
    line = (
        max(lines, key=lambda line: line["eval/episode_return"]) if which == "best" else lines[-1]
    )
    arguments = [f"run_dir={run_dir}", f"which={which}", "episodes=3", "seed=7", "out=out.json"]
    assert evaluate.main(arguments) == 0
    found = json.loads(Path("out.json").read_text())
    assert found["return"]["mean"] == line["eval/episode_return"]
    assert found["return"]["std"] == line["eval/episode_return_std"]
    assert found["length"]["mean"] == line["eval/episode_length"]
    assert found["frames"] == line["frames"]


@every_algorithm
def test_it_is_reported_on(name: str, run_of: Run, capsys: Capture) -> None:
    run_dir = run_of(name)
    capsys.readouterr()
    assert cli.main([str(run_dir), "out=report"]) == 0
    assert capsys.readouterr().err == ""
    assert name in Path("report/report.html").read_text()
    shown = {path.name for path in Path("report").glob("*-over-frames.png")}
    for number in ("eval-episode_return", "train-episode_return", "loss-"):
        assert any(number in each for each in shown), number
