"""Runs that collect by EnvPool: what is stored, how they are resumed, where they are evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import TINY, TINY_PPO, last_state, lines, script, train

from trainers.environments.pool import EnvPoolEnvs

pytest.importorskip("envpool", reason="the extra envpool is not installed")

POOL = ("env=InvertedPendulum", "env.backend=envpool", "env.num_envs=4")


def test_a_resume_is_a_truncation_and_says_so() -> None:
    ordered = "algo.n_steps=2"  # one-step transitions do not mind what follows them
    assert train(*TINY, *POOL, ordered, "run_dir=run", "stop_at=100") == 0
    before = last_state(Path("run"))["hooks"]["replay"]["frames"].tables()
    process = script("resume=run")
    assert process.returncode == 0, process.stderr
    assert "environments: statistical, EnvPool cannot replay episodes" in process.stderr
    assert process.stderr.count("\n") == 8, "nothing but our own messages"
    assert [line["frames"] for line in lines(Path("run"))][-1] == 160
    frames = last_state(Path("run"))["hooks"]["replay"]["frames"].tables()
    for key in ("next/done", "next/truncated"):
        assert not before[key][96:].all()
        assert frames[key][96:100].all()
    assert len(frames["observation"]) == 160


@pytest.mark.parametrize("settings", [TINY, TINY_PPO], ids=["sac", "ppo"])
def test_evaluation_is_gymnasiums(
    settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(self: Any, config: Any, num_envs: int) -> None:
        made.append(num_envs)
        original(self, config, num_envs)

    original = EnvPoolEnvs.__init__
    monkeypatch.setattr(EnvPoolEnvs, "__init__", make)
    assert train(*settings, *POOL, "run_dir=run") == 0
    assert made == [4]
    assert [line["frames"] for line in lines(Path("run")) if "eval/episode_return" in line]
