"""What a user brings by `plugins` takes part in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import my_plugin
import pytest
from running import HERE, ROOT, TINY, lines, script, seen_trainer, train
from support.states import loss_of
from torchrl.objectives import SACLoss
from torchrl.objectives.value import TDLambdaEstimator

from trainers.hooks import PrioritizedReplay
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss

RUN = Path("run")
MINE = (*TINY, "plugins=[my_plugin]", "run_dir=run", "total_frames=60")


def trained() -> Any:
    """The loss that the run trained."""
    return loss_of(seen_trainer())


def test_a_loss() -> None:
    assert train(*MINE, "hooks=[spy]", "algo.loss_module=my_loss") == 0
    assert type(trained()) is my_plugin.MyLoss
    assert my_plugin.CALLS.count("loss") == 20
    assert lines(RUN)[-1]["train/mine"] == 42.0


def test_a_loss_with_other_names_and_fewer_outputs() -> None:
    mine = ("algo.loss_module=renamed", "algo.prioritized=true", "algo.n_steps=2")
    assert train(*MINE, "hooks=[spy]", *mine) == 0
    (replay,) = [h for h in hooks_of(seen_trainer()) if isinstance(h, PrioritizedReplay)]
    priorities = replay.state_dict()["sampler"]["priorities"]
    assert len(set(priorities.tolist())) > 16
    line = lines(RUN)[-1]
    assert {key for key in line if key.startswith("loss/")} == {"loss/actor", "loss/qvalue"}
    assert trained().log_alpha.item() == 0.0


def test_a_loss_with_its_own_value_estimator(capfd: pytest.CaptureFixture[str]) -> None:
    short = ("algo.loss_module=short_sighted", "run_dir=short")
    assert train(*MINE, "hooks=[spy]", *short, "stop_at=50") == 0
    assert trained().value_estimator.gamma == 0.25
    assert train("resume=short", "plugins=[my_plugin]") == 0
    far = ("algo.loss_module=far_sighted", "run_dir=far", "hooks=[spy]")
    capfd.readouterr()
    assert train(*MINE, *far) == 2
    assert "algo.slice_length: got null, expected a whole number" in capfd.readouterr().err
    slices = ("algo.value_estimator=td_lambda", "algo.slice_length=4", "algo.gamma=0.5")
    assert train(*MINE, *far, *slices) == 0
    estimator = trained().value_estimator
    assert (type(estimator), estimator.gamma) == (TDLambdaEstimator, 0.5)


def hooks_of(trainer: Any) -> list[Any]:
    """The owners of the trainer's hooks."""
    return list(trainer.timetable._owners.values())


@pytest.mark.parametrize("number", [1, 3])
def test_a_critic(number: int) -> None:
    mine = ("hooks=[spy]", "algo.critic=my_critic", f"algo.num_critics={number}")
    assert train(*MINE, *mine) == 0
    assert type(trained()) is CriticwiseSACLoss  # the faster one is for the shipped networks
    weight = trained().qvalue_network_params["module", "linear", "weight"]
    assert weight.shape == (number, 1, 4)
    assert len({tuple(w.flatten().tolist()) for w in weight}) == number
    assert "critic" in my_plugin.CALLS


def test_an_environment() -> None:
    assert train(*MINE, "env=gym", "env.id=mine/Fragile-v0", "env.max_episode_steps=null") == 0
    assert lines(RUN)[0]["train/episode_length"] == 4


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_wrappers(backend: str) -> None:
    env = ("env=gym", "env.id=tests/Tale-v0", "env.kwargs.lengths=[5]", f"env.backend={backend}")
    warm_up = (*MINE, *env, "total_frames=40")  # what is learnt makes no difference yet
    assert train(*warm_up, "env.wrappers=[penny,penny]") == 0
    assert train(*warm_up, "run_dir=bare") == 0
    (wrapped,), (bare,) = lines(RUN), lines(Path("bare"))
    assert wrapped["train/episode_length"] == bare["train/episode_length"] == 5
    for returns in ("train/episode_return", "eval/episode_return"):
        assert wrapped[returns] - bare[returns] == pytest.approx(5 * 2 / 64, abs=1e-6)


def test_a_hook() -> None:
    assert train(*MINE, "hooks=[count,spy]") == 0
    assert [line["train/iterations"] for line in lines(RUN)][:2] == [50, 60]
    timetable = (RUN / "train.log").read_text()
    assert "log_update_ratio, count" in timetable or "count, " in timetable


@pytest.mark.parametrize(
    ("chosen", "expected"), [("null", FastSACLoss), ("torchrl", SACLoss)], ids=str
)
def test_the_shipped_losses(chosen: str, expected: type) -> None:
    assert train(*MINE, "hooks=[spy]", f"algo.loss_module={chosen}") == 0
    assert type(trained()) is expected


def test_a_stored_list_is_not_imported(capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*MINE, "stop_at=50") == 0
    capfd.readouterr()
    assert train("resume=run") == 2
    assert "train.py: plugins: got [], expected " in capfd.readouterr().err
    assert train("resume=run", "plugins=[my_plugin]") == 0


@pytest.mark.slow
def test_a_module_in_the_working_directory_of_the_script(tmp_path: Path) -> None:
    """Found as Python finds modules: by PYTHONPATH."""
    (tmp_path / "theirs.py").write_text((HERE / "my_plugin.py").read_text())
    arguments = (*TINY, "plugins=[theirs]", "hooks=[count]", "run_dir=run", "total_frames=60")
    process = script(*arguments, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert process.returncode == 0, process.stderr
    assert lines(RUN)[-1]["train/iterations"] == 60
