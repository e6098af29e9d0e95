"""The list of what is trained for the results, and what its lines come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.made_up_runs import make_run

from benchmarks.learning import Job, Planned, picked, read_list
from benchmarks.machine import ROOT, commit, cpu
from trainers.config import ConfigError, save_config
from trainers.config.composer import composing

LIST = ROOT / "benchmarks" / "learning.yaml"
PENDULUM = "- {algo: sac, env: Pendulum, frames: 20_000, seeds: 3, more: eval.episodes=100}\n"


def rows(folder: Path, text: str = PENDULUM) -> list[Planned]:
    path = folder / "list.yaml"
    path.write_text(text)
    return read_list(path)


def test_the_shipped_list() -> None:
    listed = read_list(LIST)
    shown = {p.row.name: (p.row.seeds, p.row.must, p.row.goal) for p in listed}
    assert (
        shown.items()
        >= {
            "sac-HalfCheetah-100k": (5, 5490, 6156),
            "sac-Hopper-100k": (3, None, 1103),
            "sac-Walker2d-100k": (3, None, 690),
            "ppo-HalfCheetah-1M": (5, 4660, 5800),
            "ppo-Hopper-1M": (3, 1850, 2600),
            "ppo-Walker2d-1M": (3, 2770, 3600),
            "sac-Pendulum-20k": (3, -180, -150),
            "ppo-Pendulum-100k": (3, -250, -172),
            "ppo-CartPole-100k": (3, 475, 500),
            "ppo-LunarLander-1M": (3, 200, 242),
            "sac-HalfCheetah-1M": (1, 9400, 11300),
            "crossq-HalfCheetah-100k": (3, "sac-HalfCheetah-100k", None),
            "tqc-HalfCheetah-100k": (3, "sac-HalfCheetah-100k", None),
            "ppo-Pong-2M": (1, None, None),
        }.items()
    )
    assert list(shown)[-1] == "sac-HalfCheetah-1M"  # it takes the longest
    by_name = {p.row.name: p.config for p in listed}
    assert by_name["sac-Pendulum-20k"].eval.episodes == 100
    assert by_name["ppo-Pendulum-100k"].eval.episodes == 100


def test_a_line_becomes_commands(tmp_path: Path) -> None:
    (planned,) = rows(tmp_path)
    assert list(planned.row.seed_numbers) == [100, 101, 102]
    assert planned.config.to_dict()["algo"]["lr"] == 1e-3  # of the preset
    job = Job(planned, 101, Path("runs"))
    assert job.title == "sac-Pendulum-20k seed 101"
    assert job.command[1:] == [
        str(ROOT / "scripts" / "train.py"),
        *("algo=sac", "env=Pendulum", "total_frames=20_000", "eval.episodes=100"),
        *("threads=1", "device=cpu", "report.interval_s=0"),
        *("seed=101", "run_dir=runs/sac-Pendulum-20k/seed101", "resume=auto"),
    ]


@pytest.mark.parametrize("runs", ["ünï", "a,b", "it's here"])
def test_the_place_of_a_run_is_read_as_it_is(tmp_path: Path, runs: str) -> None:
    (planned,) = rows(tmp_path)
    job = Job(planned, 101, Path(runs))
    with composing() as composer:
        read = {each.key_or_group: each.value() for each in composer.parse(job.command[2:])}
    assert read["run_dir"] == f"{runs}/sac-Pendulum-20k/seed101"


def test_a_run_that_another_command_made_is_known(tmp_path: Path) -> None:
    (planned,) = rows(tmp_path)
    job = Job(planned, 101, tmp_path)
    assert job.run() is None
    make_run(job.run_dir)
    own = replace(planned.config, seed=101, run_dir="there", max_seconds=5.0)
    for config, expected in [
        (own, []),
        (replace(own, algo=replace(own.algo, lr=1e-4)), ["algo.lr"]),
        (replace(own, total_frames=10_000), ["total_frames"]),
        (replace(own, env=replace(own.env, max_episode_steps=7)), ["env"]),
    ]:
        save_config(config, job.run_dir / "config.yaml")
        run = job.run()
        assert run is not None
        assert planned.differences(run) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "--list: got .*, expected a list of rows in YAML; it is none"),
        ("a: 1", "expected a list of rows in YAML; it is none"),
        ("- [", "--list: got .*, expected a list of rows in YAML; while parsing"),
        ("- 3", "row 1: configuration: got 3, expected a section"),
        (PENDULUM.replace("seeds", "seed"), "row 1: seed: got 3, .* did you mean seeds?"),
        (PENDULUM.replace("seeds: 3, ", ""), "row 1: seeds: got null, expected a value"),
        (PENDULUM.replace("seeds: 3", "seeds: 0"), "row 1: seeds: got 0, expected a whole number"),
        (PENDULUM.replace("20_000", "x"), 'row 1: frames: got "x", expected a whole number'),
        (PENDULUM.replace("sac", "sacc"), 'row 1: algo: got "sacc", .* did you mean sac?'),
        (PENDULUM.replace("Pendulum", "P"), 'row 1: env: got "P", expected one of Acrobot'),
        (PENDULUM.replace("eval.", "evil."), "row 1: evil: got"),
        (PENDULUM.replace("=100", "=0"), "row 1: eval.episodes: got 0"),
        (
            PENDULUM.replace("more", "must: true, more"),
            "row 1: must: got true, expected a number or",
        ),
        (
            PENDULUM + PENDULUM.replace("sac", "td3").replace("more", "must: sac-Pendulum, more"),
            'row 2: must: got "sac-Pendulum", .*name of another row; did you mean sac-Pendulum-20k',
        ),
        (
            PENDULUM.replace("more", "must: sac-Pendulum-20k, more"),
            'row 1: must: got "sac-Pendulum-20k", expected a number or the name of another row',
        ),
        (PENDULUM * 2, 'row 2: row: got "sac-Pendulum-20k", expected a name that no row before'),
    ],
)
def test_a_list_that_is_wrong_is_named(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        rows(tmp_path, text)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--list: got .*nowhere.*No such file"):
        read_list(tmp_path / "nowhere.yaml")


def test_rows_are_picked_by_name(tmp_path: Path) -> None:
    listed = rows(tmp_path, PENDULUM + PENDULUM.replace("20_000", "1_000_000"))
    assert [p.row.name for p in listed] == ["sac-Pendulum-20k", "sac-Pendulum-1M"]
    assert picked(listed, []) == listed
    assert picked(listed, ["sac-Pendulum-1M", "sac-Pendulum-20k"]) == listed
    assert picked(listed, ["sac-Pendulum-1M"]) == listed[1:]
    with pytest.raises(ConfigError, match=r'--only: got "sac-Pendulum-2M", .* did you mean'):
        picked(listed, ["sac-Pendulum-2M"])


def test_code_and_machine_have_names() -> None:
    assert commit()
    assert cpu()
