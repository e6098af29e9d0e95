"""Runs are the same but for their seed, or they are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.made_up_runs import line, make_run, write_lines

from trainers.reporting.groups import Group, LeftOut, grouped, plain
from trainers.reporting.runs import read


class Runs:
    """Runs of a test, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []

    def add(self, *args: Any, **kwargs: Any) -> Path:
        self.paths.append(make_run(self.folder / f"{len(self.paths)}", *args, **kwargs))
        return self.paths[-1]

    def grouped(self) -> tuple[list[Group], list[LeftOut]]:
        return grouped([read(path) for path in self.paths])

    def names(self) -> list[tuple[str, str, list[int]]]:
        groups, _ = self.grouped()
        return [(g.task, g.method, [run.seed for run in g.runs]) for g in groups]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_seeds_of_a_task_and_an_algorithm_belong_together(runs: Runs) -> None:
    for seed in (2, 1):
        runs.add(seed=seed, settings={"run_dir": f"r{seed}", "log.interval": seed, "stop_at": 5})
    runs.add(seed=1, algo="ppo")
    runs.add(seed=1, env="Hopper-v5")
    assert runs.names() == [
        ("HalfCheetah-v5", "ppo", [1]),
        ("HalfCheetah-v5", "sac", [1, 2]),
        ("Hopper-v5", "sac", [1]),
    ]


def test_settings_tell_methods_apart(runs: Runs) -> None:
    for seed, lr in [(1, 1e-3), (2, 1e-3), (1, 3e-4)]:
        runs.add(seed=seed, settings={"algo.lr": lr, "network.hidden": [8]})
    assert runs.names() == [
        ("HalfCheetah-v5", "sac lr=0.0003", [1]),
        ("HalfCheetah-v5", "sac lr=0.001", [1, 2]),
    ]
    (one, two), _ = runs.grouped()
    assert (one.varied, two.varied) == ({"algo.lr": "0.0003"}, {"algo.lr": "0.001"})


def test_what_most_groups_have_is_not_named(runs: Runs) -> None:
    runs.add()
    runs.add(settings={"algo.n_steps": 3})
    runs.add(settings={"env.num_envs": 4})
    assert sorted(name for _, name, _ in runs.names()) == [
        "sac",
        "sac env.num_envs=4",
        "sac n_steps=3",
    ]
    groups, _ = runs.grouped()
    assert groups[0].usual == {"algo.n_steps": "1", "env.num_envs": "1"}


def test_a_preset_of_a_task_makes_no_other_method(runs: Runs) -> None:
    runs.add(settings={"algo.lr": 1e-3})
    runs.add(settings={"algo.lr": 1e-3, "algo.n_steps": 3})
    runs.add(env="Hopper-v5", settings={"algo.lr": 3e-4})
    runs.add(env="Hopper-v5", settings={"algo.lr": 3e-4, "algo.n_steps": 3})
    names = ["sac n_steps=1", "sac n_steps=3"]
    assert [name for _, name, _ in runs.names()] == names * 2


def test_values_that_read_the_same_are_told_apart(runs: Runs) -> None:
    for plugin in (["null"], ["x, y"], ["x", "y"]):
        runs.add(settings={"plugins": plugin})
    assert len({name for _, name, _ in runs.names()}) == 3
    assert [plain(value) for value in ("null", None, "relu", "a b", 1, [1])] == [
        *('"null"', "null", "relu", '"a b"', "1", "[1]")
    ]


def test_a_key_that_a_version_did_not_know_is_null(runs: Runs) -> None:
    for seed in (1, 2):
        path = runs.add(seed=seed)
    text = (path / "config.yaml").read_text()
    for key, value in (("  critic: null\n", ""), ("lr_schedule:", "schedule:")):
        text = text.replace(key, value)
    (path / "config.yaml").write_text(text)
    names = [name for _, name, _ in runs.names()]
    assert len(set(names)) == len(names) == 2
    assert not any("critic" in name for name in names)


def test_names_that_get_too_long_become_numbers(runs: Runs) -> None:
    for env in ("HalfCheetah-v5", "Hopper-v5"):
        for units in (8, 9):
            runs.add(env=env, settings={"network.hidden": [units] * 30})
    assert [name for _, name, _ in runs.names()] == ["sac #1", "sac #2"] * 2


def test_a_seed_counts_once(runs: Runs) -> None:
    unfinished = runs.add([1, 2, 3, 4], seed=1, total_frames=9000)
    old, new = runs.add([5], seed=1), runs.add([6], seed=1)
    for path in (unfinished, old, new):
        text = (new / "config.yaml").read_text()
        (path / "config.yaml").write_text(text.replace("1000\nstop", "4000\nstop"))
    write_lines(old, [line(4000, eval__episode_return=5.0)])
    write_lines(new, [line(4000, eval__episode_return=6.0)])
    write_lines(unfinished, [line(3000, eval__episode_return=7.0)])
    os.utime(old / "metrics.jsonl", (1, 1))
    os.utime(new, (1, 1))  # a page was put into the other one since
    (group,), left_out = runs.grouped()
    assert [run.path for run in group.runs] == [new]
    assert {each.path for each in left_out} == {unfinished, old}
    assert all(f"seed 1 with the same settings as {new}" in each.reason for each in left_out)


def test_finished_runs_stand_for_a_group(runs: Runs) -> None:
    settings = {"algo.lr": 1e-3}
    runs.add([1, 2], seed=1, total_frames=3000, settings=settings)
    (group,), _ = runs.grouped()
    assert (group.finished, [run.seed for run in group.counted]) == ([], [1])
    runs.add([1, 2, 3], seed=2, total_frames=3000, settings=settings)
    (group,), _ = runs.grouped()
    assert [run.seed for run in group.counted] == [2]
