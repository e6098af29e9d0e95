"""An algorithm in an environment it cannot act in: a line that names what fits, and no run."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import train
from support.algorithms import TASKS, command

from trainers.build import ALGORITHMS

WRONG = [
    (name, env_id)
    for name, algorithm in ALGORITHMS.items()
    for env_id, spec in TASKS.items()
    if not algorithm.action_space.accepts(spec)
]

Capture = pytest.CaptureFixture[str]


def assert_refused(said: str) -> None:
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("name", "env_id"), WRONG)
def test_what_fits_is_named(name: str, env_id: str, capfd: Capture) -> None:
    assert train(f"algo={name}", "env=gym", f"env.id={env_id}", "run_dir=run") == 2
    said = capfd.readouterr().err
    assert f"{name} needs {ALGORITHMS[name].action_space.name}, {env_id} has" in said
    fitting = [n for n, each in ALGORITHMS.items() if each.action_space.accepts(TASKS[env_id])]
    assert f"algo={' or '.join(fitting)} fits" in said
    assert_refused(said)


def test_a_support_that_is_left_at_once(capfd: Capture) -> None:
    assert train(*command("c51"), "run_dir=run", "algo.v_max=5") == 2
    said = capfd.readouterr().err
    assert "algo.v_max: got 5.0, expected at least" in said
    assert_refused(said)
