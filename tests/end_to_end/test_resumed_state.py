"""What belongs to the state of a run besides its networks, and that the comparison sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from all_runs import ALONE, RUNS
from running import TINY, assert_equal_runs, last_state, lines, names, train
from support.algorithms import command
from support.states import flat

from trainers.saving import checkpoint
from trainers.saving.segments import Rows

RUN = Path("run")

Straight = Callable[..., Path]


def test_a_run_with_hooks_and_an_own_environment(straight: Straight) -> None:
    mine = ("plugins=[my_plugin]", "hooks=[count]", "env=gym", "env.id=mine/Fragile-v0")
    mine += ("env.max_episode_steps=null", "algo.loss_module=my_loss", "algo.critic=my_critic")
    assert train(*TINY, *mine, "run_dir=run", "stop_at=70") == 0
    assert train("resume=run", "plugins=[my_plugin]") == 0
    assert lines(RUN)[-1]["train/iterations"] == 160
    assert_equal_runs(RUN, straight(*TINY, *mine))


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("reports", ["always", "end"])
def test_goals_and_successes(backend: str, reports: str, straight: Straight) -> None:
    goals = ("env=gym", "env.id=tests/Goal-v0", f"env.kwargs.reports={reports}")
    goals += ("env.num_envs=2", f"env.backend={backend}", "env.max_episode_steps=null")
    assert train(*TINY, *goals, "run_dir=run", "stop_at=107") == 0
    assert train("resume=run") == 0
    last = lines(RUN)[-1]
    assert 0 <= last["train/success_rate"] <= 1
    assert last["eval/success_rate"] in (0.0, 0.5, 1.0)
    assert_equal_runs(RUN, straight(*TINY, *goals))


def test_a_scheduler_of_torch(straight: Straight) -> None:
    decay = ("plugins=[my_plugin]", "hooks=[decay]")
    assert train(*TINY, *decay, "run_dir=run", "stop_at=103") == 0
    assert train("resume=run", "plugins=[my_plugin]") == 0
    assert_equal_runs(RUN, straight(*TINY, *decay))


def test_beta_is_logged_and_goes_on(straight: Straight) -> None:
    run_dir = straight(*RUNS["ppo, kl"])
    betas = [line["train/beta"] for line in lines(run_dir) if "train/beta" in line]
    assert len(betas) >= 3
    assert len(set(betas)) > 1
    assert min(betas) > 0


def test_frames_of_open_episodes_are_part_of_a_checkpoint() -> None:
    """Two environments, sixteen steps each in a rollout, episodes of twenty-five."""
    two = ("env.num_envs=2", "env.stagger=false", "stop_at=32")
    assert train(*command("reinforce"), *ALONE, *two, "run_dir=run") == 0
    kept = last_state(RUN)["hooks"]["whole_episodes"]["open"]
    assert [each["batch_size"] for each in kept] == [[16], [16]]
    assert last_state(RUN)["clock"]["updates"] == 0


def test_noise_that_wanders_is_part_of_a_checkpoint(straight: Straight) -> None:
    state = last_state(straight(*RUNS["ddpg, overlapping"]))
    assert state["collector"]["exploration"].shape == (1, 1)


def test_the_comparison_sees_a_difference(tmp_path: Path, finished: Path) -> None:
    def edited(change: Callable[[dict[str, Any]], None]) -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(finished, copy)
        newest = copy / "checkpoints" / names(copy)[0]
        state = checkpoint.load(newest)
        frames = state["hooks"]["replay"]["frames"]  # few enough for one piece
        tables = state["hooks"]["replay"]["frames"] = frames.tables()
        change(state)
        state["hooks"]["replay"]["frames"] = Rows(frames.first, frames.end, lambda *_: tables)
        shutil.rmtree(newest)
        checkpoint.save(newest, state)
        return copy

    def nudge(path: str) -> Callable[[dict[str, Any]], None]:
        def change(state: dict[str, Any]) -> None:
            (tensor,) = [v for k, v in flat(state).items() if k.endswith(path)]
            tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))

        return change

    assert_equal_runs(edited(lambda state: None), finished)
    for path in ("/frames/observation", "/optimizers/0/state/0/exp_avg", "/loss/log_alpha"):
        with pytest.raises(AssertionError, match=path):
            assert_equal_runs(edited(nudge(path)), finished)
