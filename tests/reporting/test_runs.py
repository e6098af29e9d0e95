"""What is read of a run, however it was left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.made_up_runs import line, make_run, write_lines

from trainers.reporting.runs import NothingToReport, find, read


def test_a_finished_run(tmp_path: Path) -> None:
    run = read(make_run(tmp_path / "a", [1, 2, 4, 9], seed=7))
    assert (run.algo, run.env, run.task, run.seed) == ("sac", *["HalfCheetah-v5"] * 2, 7)
    assert (run.frames, run.total_frames, run.seconds) == (4000, 4000, 40.0)
    assert (run.state, run.end, run.resumes, list(run.problems)) == ("finished", "", 0, [])
    assert run.evaluations.frames.tolist() == [1000, 2000, 3000, 4000]
    assert run.series["loss/actor"].values.tolist() == [-1, -2, -4, -9]
    assert run.frames_per_s == 300.0  # of 200, 300 and 400: the first line had no updates


def test_a_score_is_the_mean_of_the_last_three_evaluations(tmp_path: Path) -> None:
    run = read(make_run(tmp_path / "a", [100, 1, 2, 6]))
    assert run.score() == 3.0
    assert read(make_run(tmp_path / "b", [1, 2])).score() == 1.5


def test_an_unfinished_run_that_was_resumed(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=50_000)
    log = "2026-01-01 10:00:00,0 INFO {}\n"
    said = [
        "ended at frame 1000, update 9 (SIGTERM); go on with: python scripts/train.py resume=a",
        "resumed from a/checkpoints/1: frame 1000, update 9",
        "resumed from a/checkpoints/2: frame 2000, update 9",
    ]
    (path / "train.log").write_text("".join(log.format(each) for each in said))
    run = read(path)
    assert (run.state, run.frames, run.resumes) == ("unfinished", 3000, 2)


def test_a_run_that_ended_early_for_good(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=50_000)
    end = "INFO ended at frame 3000, update 9 (eval/episode_return=3 is at least 2); metrics in a"
    (path / "train.log").write_text(f"2026-01-01 10:00:00,0 {end}\n")
    run = read(path)
    assert (run.state, run.end) == ("finished", "eval/episode_return=3 is at least 2")
    write_lines(path, [line(4000)])  # it was made longer, and then killed
    assert read(path).state == "unfinished"


def test_a_run_without_its_last_evaluation_is_not_finished(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_lines(path, [line(1000, eval__episode_return=1.0), line(3000)])
    assert read(path).state == "unfinished"


ENDED = """\
2026-01-01 10:00:00,0 INFO sac on A, seed 0, frames 0 to 9, cpu, 1 threads; everything goes to a
2026-01-01 10:00:01,0 DEBUG the run ended with an error
Traceback (most recent call last):
RuntimeError: the wheel came off
2026-01-01 10:00:01,0 ERROR RuntimeError: the wheel came off
2026-01-01 10:00:01,0 ERROR ended at frame 3000, update 9; the traceback is in a/train.log
"""


def test_a_run_that_ended_with_an_error_has_failed(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=50_000)
    (path / "train.log").write_text(ENDED)
    run = read(path)
    problem = "it ended with an error: RuntimeError: the wheel came off"
    assert (run.state, list(run.problems)) == ("failed", [problem])
    # While it goes on, and when it is stopped then, it has not.
    again = ENDED.splitlines()[0].replace("frames 0", "frames 2000") + "\n"
    (path / "train.log").write_text(ENDED + again)
    assert (read(path).state, list(read(path).problems)) == ("unfinished", [])
    (path / "train.log").write_text(ENDED + again + ENDED)
    assert read(path).state == "failed"


def test_what_failed_after_the_last_evaluation_is_finished_and_said(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    (path / "train.log").write_text(ENDED)
    run = read(path)
    assert (run.state, len(run.problems)) == ("finished", 1)


def test_what_the_training_says_of_itself_counts(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=50_000)
    assert read(path, "running").state == "running"
    assert read(path, "finished").state == "finished"
    failed = read(path, "failed")  # its log does not say so yet
    assert (failed.state, list(failed.problems)) == (
        "failed",
        ["it ended with an error: see train.log"],
    )


BROKEN = [
    b"",
    b"{",
    b"[1, 2]",
    b"null",
    b'{"updates": 3}',
    b'{"frames": "many"}',
    b'{"frames": null}',
    b'{"frames": -1}',
    b'{"frames": true}',
    b'{"frames": NaN}',
    b'{"frames": 1' + b"0" * 400 + b"}",
    b"\xff\xfe\x00\x01",
    b"[" * 100_000,
    b'{"frames": 2000, "eval/episode_return": 9',  # cut short
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_named_and_left_out(text: bytes, tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", [1, 2, 3])
    first, rest = (path / "metrics.jsonl").read_bytes().split(b"\n", 1)
    (path / "metrics.jsonl").write_bytes(first + b"\n" + text + b"\n" + rest)
    run = read(path)
    assert run.evaluations.values.tolist() == [1, 2, 3]
    assert run.problems == ["metrics.jsonl: broken and left out: line 2"]


def test_many_broken_lines_are_one_problem(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    with (path / "metrics.jsonl").open("a") as file:
        file.write("{\n" * 100)
    (problem,) = read(path).problems
    assert problem.endswith("broken and left out: lines 4, 5, 6, 7, 8 and 95 more")


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    lines = [
        line(1000, eval__episode_return=1.0, loss__actor=None),
        line(2000, eval__episode_return=None, loss__actor=2.0, seconds="late"),
        line(3000, eval__episode_return=3.0, loss__actor=10**400),
    ]
    write_lines(path, lines)
    run = read(path)
    assert run.score() == 2.0
    assert np.isnan(run.series["loss/actor"].values).tolist() == [True, False, True]
    (problem,) = run.problems
    assert problem == (
        "metrics.jsonl: no number in loss/actor (2 lines), seconds (1 line), "
        "eval/episode_return (1 line)"
    )


def test_missing_lines_are_noticed(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", range(1, 11))
    lines = (path / "metrics.jsonl").read_text().splitlines()
    write_lines(path, lines[:4] + lines[6:])
    (problem,) = read(path).problems
    assert problem == "metrics.jsonl: lines are missing between frames 4,000 and 7,000"
    write_lines(path, lines[3:])
    (problem,) = read(path).problems
    assert problem == "metrics.jsonl: lines are missing between frames 0 and 4,000"


@pytest.mark.parametrize(
    "frames",
    [
        [50, 60, 100, 120, 150, 160],  # lines of evaluations in between
        [2048, 4096, 6144, 8192],  # rollouts longer than the interval of 1,000
        [1980, 2970, 3960, 4950, 5940],  # a bit shorter: of 990
        [5000, 10_000, 15_000, 16_000, 17_000],  # another interval after a resume
        [180, 200, 200],  # made longer
        [50],
    ],
)
def test_no_lines_are_missing_here(frames: list[int], tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", settings={"log.interval": min(1000, frames[0])})
    write_lines(path, [line(each) for each in frames])
    assert list(read(path).problems) == []


def test_a_copy_that_has_kept_the_evaluations_only_lacks_no_lines(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", settings={"eval.interval": 5000})
    frames = [8192, 12_288, 16_384, 20_480, 28_672, 32_768]  # of rollouts of 4,096
    write_lines(path, [line(each, eval__episode_return=1.0) for each in frames])
    assert list(read(path).problems) == []
    write_lines(path, [line(each, eval__episode_return=1.0) for each in (8192, 12_288, 32_768)])
    assert len(read(path).problems) == 1


def test_frames_that_go_back_are_those_that_a_resume_went_through_again(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    lines = [line(frames, eval__episode_return=value) for frames, value in
             [(1000, 1.0), (2000, 2.0), (3000, 3.0), (2000, 20.0), (3000, 30.0)]]  # fmt: skip
    write_lines(path, lines)
    run = read(path)
    assert run.evaluations.frames.tolist() == [1000, 2000, 3000]
    assert run.evaluations.values.tolist() == [1, 20, 30]
    assert run.problems == ["metrics.jsonl: frames go back at line 4"]


def test_a_policy_that_was_evaluated_twice_counts_once(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_lines(path, [line(200, eval__episode_return=1.0), line(200, eval__episode_return=3.0)])
    assert read(path).evaluations.values.tolist() == [3]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "it has no config.yaml"),
        ("a: [", "config.yaml is broken: while parsing"),
        ("[" * 1200, "config.yaml is broken: "),
        ("\0", "config.yaml is broken: "),
        ("- 1", "config.yaml is not a run's: "),
        ("", "config.yaml is not a run's: "),
        ("algo: {name: [sac]}", "config.yaml is not a run's: "),
        ("algo: {name: sac}\nenv: {id: A}\nseed: x\ntotal_frames: 1", "config.yaml is not a run's"),
        ("!!python/object/apply:os.system ['touch hit']", "config.yaml is broken: "),
    ],
)
def test_a_configuration_that_cannot_be_read(
    config: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make_run(tmp_path / "a")
    (path / "config.yaml").unlink()
    if config is not None:
        (path / "config.yaml").write_text(config)
    with pytest.raises(NothingToReport, match=reason):
        read(path)
    assert not (tmp_path / "hit").exists()


def test_a_configuration_of_another_version(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", seed=3)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("gamma:", "gama:"))
    run = read(path)
    assert (run.seed, run.settings["algo.gama"]) == (3, 0.99)
    (path / "config.yaml").write_text(text.replace("  gamma: 0.99\n", ""))
    assert read(path).settings["algo.gamma"] == 0.99


@pytest.mark.parametrize("content", [None, b"", b"\n", b"{\n"])
def test_a_run_without_a_line_holds_nothing(content: bytes | None, tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    (path / "metrics.jsonl").unlink()
    if content is not None:
        (path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(NothingToReport, match=r"metrics\.jsonl"):
        read(path)


def test_another_task_of_an_environment(tmp_path: Path) -> None:
    changed = {"env.kwargs": {"b": 1, "a": [2]}, "env.wrappers": ["mine"]}
    run = read(make_run(tmp_path / "a", settings=changed))
    assert run.env == "HalfCheetah-v5"
    assert run.task == 'HalfCheetah-v5 kwargs={"b": 1, "a": [2]} wrappers=["mine"]'
    assert not any(key.startswith(("env.kwargs", "env.wrappers")) for key in run.settings)


def test_settings_are_what_makes_a_difference(tmp_path: Path) -> None:
    settings = read(make_run(tmp_path / "a")).settings
    assert {"algo.lr", "env.num_envs", "network.hidden", "total_frames"} <= set(settings)
    aside = ["seed", "run_dir", "log.interval", "checkpoint.keep", "report.interval_s"]
    assert not set(aside) & set(settings)
    assert "eval.interval" not in settings
    assert "algo.max_grad_norm" not in settings  # null
    assert "eval.episodes" in settings


def test_runs_are_found_in_folders_but_not_in_runs(tmp_path: Path) -> None:
    one = make_run(tmp_path / "sac" / "one")
    two = make_run(tmp_path / "two")
    make_run(one / "wandb" / "files")
    make_run(tmp_path / ".hidden" / "three")
    headless = tmp_path / "headless"
    headless.mkdir()
    (headless / "metrics.jsonl").write_text(json.dumps({"frames": 1}))
    assert find(tmp_path) == [headless, one, two]
    assert find(one) == [one]
    (tmp_path / "empty").mkdir()
    assert find(tmp_path / "empty") == []
