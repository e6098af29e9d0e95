"""Who is told what, and how a program of the benchmark is run."""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torchrl.data import Bounded

from benchmarks import peers, running
from benchmarks.figures import MeasurementError, MoreThan, time_to_pass
from benchmarks.jobs import PROGRAMS, QUICK, Job, Sizes, jobs
from benchmarks.rows import BATCHES, GROUPS, ROWS, Growth
from benchmarks.running import run
from trainers.build import ALGORITHMS
from trainers.config import DDPGConfig, DQNConfig, SACConfig, TD3Config


def _settings(job: Job) -> dict[str, Any]:
    return json.loads(job.command[-1])


def test_all_contestants_of_a_row_are_told_the_same() -> None:
    for group in ("sac", "td3", "ddpg", "dqn", "ppo1", "ppo8"):
        told = []
        for job in jobs([group], QUICK, seed=1):
            settings = _settings(job)
            assert settings.pop("jax") == (job.who == "sbx")
            rough = job.who == "ours, in bfloat16"
            assert settings.pop("matmul_precision") == ("medium" if rough else "highest")
            told.append(settings)
        assert len(told) >= (2 if group == "dqn" else 3)
        assert all(settings == told[0] for settings in told)


def test_collectors_differ_in_who_collects() -> None:
    told = {job.who: _settings(job) for job in jobs(["envpool"], QUICK, seed=1)}
    how = {who: (each.pop("by"), each.pop("backend")) for who, each in told.items()}
    assert how == {
        "ours": ("ours", "envpool"),
        "ours without EnvPool": ("ours", "sync"),
        "sync vector": ("sync vector", "sync"),
    }
    assert all(settings == told["ours"] for settings in told.values())
    assert told["ours"]["num_envs"] == 32


def test_only_the_gpu_s_rows_see_one() -> None:
    groups = [each for each in GROUPS if each != "startup"]
    for job in jobs(groups, QUICK, seed=0):
        assert _settings(job)["device"] == ("cuda" if job.on_gpu else "cpu")
    assert {job.on_gpu for job in jobs(["gpu"], QUICK, seed=0)} == {True}
    assert running.surroundings(2)["CUDA_VISIBLE_DEVICES"] == ""


def test_every_program_is_there() -> None:
    for job in jobs(GROUPS, Sizes(), seed=0):
        assert job.command[1] == "-c" or Path(job.command[1]).is_file()


def test_every_algorithm_of_the_registry_has_a_row_of_ours() -> None:
    groups = [each for each in GROUPS if each not in ("bare", "scaling", "gpu", "learning")]
    marks = json.dumps([{"frames": n * 1e6, "seconds": n} for n in (1, 2)])
    measured = set()
    for job in jobs(groups, Sizes(), seed=0):
        if job.command[1] == str(PROGRAMS / "ours.py"):
            (row,) = job.read(marks, 0.0)
            assert row in ROWS
            measured.add(_settings(job)["algo"])
    assert measured == set(ALGORITHMS)


@pytest.mark.parametrize("sizes", [Sizes(), QUICK], ids=["whole", "quick"])
def test_those_without_a_peer_are_measured_as_shipped_where_they_can_act(
    sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    from configured import configured

    for job in jobs(["algorithms"], sizes, seed=3):
        settings = _settings(job)
        config = configured(SimpleNamespace(**settings))
        algo, shipped = config.algo.to_dict(), type(config.algo)().to_dict()
        changed = {key for key, value in algo.items() if value != shipped[key]}
        assert changed <= {"init_random_frames", "v_min", "v_max"}
        assert (config.algo.name, config.seed, config.env.num_envs) == (settings["algo"], 3, 1)
        discrete = not ALGORITHMS[config.algo.name].action_space.accepts(Bounded(-1.0, 1.0, (6,)))
        assert config.env.id == ("CartPole-v1" if discrete else "HalfCheetah-v5")
        # Every mark is taken in time, and there are two after what goes before.
        frames = range(0, config.total_frames + 1, config.algo.frames_per_batch or 1)
        due = [f for f in frames if f % settings["mark_every"] == 0]
        marks = [{"frames": f, "seconds": f} for f in due]
        assert job.read(json.dumps(marks), 0.0) == {config.algo.name: 1.0}


def test_every_size_of_what_grows_is_measured_once() -> None:
    told = {
        "updates_by_batch": "batch_size",
        "ppo_by_envs": "num_envs",
        "collect_by_envs": "num_envs",
        "uniform_by_stored": "stored",
        "prioritized_by_stored": "stored",
    }
    marks = [{"frames": f, "updates": f, "seconds": f} for f in (0, 10_000, 100_000)]
    sizes = defaultdict(list)
    for job in jobs(["scaling"], Sizes(), seed=0):
        said = 1.0 if "replay" in job.command[1] else marks
        (row,) = job.read(json.dumps(said), 0.0)
        assert str(_settings(job)[told[row]]) == job.who
        sizes[row].append(int(job.who))
    assert sizes == {name: list(row.sizes) for name, row in ROWS.items() if isinstance(row, Growth)}


def test_every_batch_size_is_about_as_much_work() -> None:
    for settings in map(_settings, jobs(["scaling"], Sizes(), seed=0)[: len(BATCHES)]):
        frames = settings["total_frames"] - settings["warm_up"] - 1
        rows = frames * settings["updates_per_frame"] * settings["batch_size"]
        assert 2_000 * 256 <= rows < 1.1 * 2_000 * 256
        assert settings["updates_per_frame"] * settings["batch_size"] > 40 * 256


@pytest.mark.parametrize("program", ["sb3.py", "common.py", "torchrl_trainers.py"])
def test_the_programs_of_peers_need_nothing_of_ours(program: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((PROGRAMS / program).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported
    assert not imported & {"trainers", "benchmarks", "configured"}


def test_the_settings_become_a_configuration_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    from configured import configured

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    settings = _settings(jobs(["sac"], Sizes(), seed=7)[0])
    config = configured(SimpleNamespace(**settings))
    assert (config.seed, config.threads, config.env.stagger) == (7, 3, False)
    assert isinstance(config.algo, SACConfig)
    assert (config.algo.batch_size, config.algo.init_random_frames) == (256, 500)
    assert config.algo.storage == "memory"
    config = configured(SimpleNamespace(**settings | {"device": "cuda"}))
    assert isinstance(config.algo, SACConfig)
    assert config.algo.storage == "device"
    for name, kind in (("td3", TD3Config), ("ddpg", DDPGConfig)):
        settings = _settings(jobs([name], Sizes(), seed=7)[0])
        config = configured(SimpleNamespace(**settings))
        assert type(config.algo) is kind
        assert (config.algo.noise, config.algo.exploration_noise) == ("gaussian", 0.1)
        assert config.network.activation == "relu"
    settings = _settings(jobs(["td3"], Sizes(), seed=7)[0])
    algo = configured(SimpleNamespace(**settings)).algo
    assert isinstance(algo, TD3Config)
    assert (algo.policy_delay, algo.policy_noise, algo.noise_clip) == (2, 0.2, 0.5)
    settings = _settings(jobs(["dqn"], Sizes(), seed=7)[0])
    config = configured(SimpleNamespace(**settings))
    assert (config.env.id, config.network.hidden) == ("CartPole-v1", [64, 64])
    algo = config.algo
    assert isinstance(algo, DQNConfig)
    assert (algo.double, algo.loss_function, algo.max_grad_norm) == (False, "smooth_l1", 10.0)
    assert (algo.target_update, algo.targets_interval) == ("hard", 64)  # of 256 frames
    assert (algo.frames_per_batch, algo.utd_ratio) == (4, 0.25)
    settings = _settings(jobs(["ppo8"], Sizes(), seed=7)[0])
    config = configured(SimpleNamespace(**settings))
    assert (config.env.num_envs, config.network.hidden) == (8, [64, 64])
    assert (config.algo.frames_per_batch, config.network.activation) == (2_048, "tanh")


def test_every_peer_has_requirements_and_an_interpreter_of_its_own() -> None:
    names = {path.stem for path in peers.REQUIREMENTS.glob("*.txt")}
    assert names == set(peers.PACKAGES)
    assert len({peers.python_of(peer) for peer in names}) == len(names)
    assert peers.python_of("ours") == peers.python_of("torchrl") == sys.executable


def test_the_last_line_of_a_program_becomes_a_value() -> None:
    command = [sys.executable, "-c", "print('noise'); print('[1, 2]')"]
    job = Job("us", command, lambda line, _: {"sac": json.loads(line)[1]})
    assert run(job, {}) == {("sac", "us"): 2}


@pytest.mark.parametrize(
    ("program", "expected"),
    [("raise SystemExit('it broke')", "exit code 1: it broke"), ("print('?')", "not understood")],
)
def test_a_program_that_fails_is_an_error(program: str, expected: str) -> None:
    command = [sys.executable, "-c", program]
    job = Job("us", command, lambda line, _: {"sac": json.loads(line)})
    with pytest.raises(MeasurementError, match=expected):
        run(job, {})


# Says something every now and then, and the rest of it never.
SLOW = """
import time
print('[1, 2]', flush=True)
print('[3, 4', end='', flush=True)
time.sleep(60)
"""


def test_of_a_program_that_is_cut_off_the_last_whole_line_counts() -> None:
    job = Job("us", [sys.executable, "-c", SLOW], lambda line, _: {"sac": json.loads(line)[1]})
    assert run(job, {}, limit_s=3.0) == {("sac", "us"): 2}


def test_one_that_has_said_nothing_until_then_is_an_error() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(MeasurementError, match="not understood"):
        run(Job("us", command, lambda line, _: {"sac": json.loads(line)}), {}, limit_s=0.5)


def test_contestants_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print(1)"]
    all_of_them = [Job(who, command, lambda line, _: {"sac": 1.0}) for who in ("ours", "a", "b")]
    monkeypatch.setattr(running, "jobs", lambda groups, sizes, seed: all_of_them)
    samples, failed = running.measured(["sac"], Sizes(), 1, 1, left_out={"a"})
    assert not failed
    assert samples == {("sac", "ours"): [1.0], ("sac", "b"): [1.0]}


def test_peers_are_waited_for_as_long_as_it_takes_to_tell() -> None:
    ours, *peers = jobs(["learning"], Sizes(), seed=0)
    samples: dict[tuple[str, str], list[float]] = {}
    assert [job.limit_s(samples) for job in (ours, *peers)] == [None] * 3
    samples["learning", "ours"] = [100.0, 150.0]
    assert ours.limit_s(samples) is None
    # One minute to start, and 1.05 times the limits: twice our time for SB3, once for SBX.
    assert {job.who: job.limit_s(samples) for job in peers} == {"sb3": 375.0, "sbx": 217.5}


def test_marks_are_said_as_they_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is cut off has said how far it came."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    import common

    returns = iter([1.0, 7.0])
    monkeypatch.setattr(common, "evaluate", lambda act, env_id: next(returns))
    marks = common.Marks(SimpleNamespace(mark_every=10, until=5.0, env_id="CartPole-v1"))
    assert not marks(10, lambda: 0, lambda observation: 0)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [mark["frames"] for mark in said] == [0, 10]
    assert isinstance(time_to_pass(said, 5.0), MoreThan)
    assert marks(20, lambda: 0, lambda observation: 0)
    assert time_to_pass(json.loads(capsys.readouterr().out.splitlines()[-1]), 5.0) > 0
