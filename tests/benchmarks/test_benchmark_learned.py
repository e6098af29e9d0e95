"""The page of results, from runs that were made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.made_up_runs import make_run

from benchmarks.learned import VERSIONS, keep, result, summary, write_page
from benchmarks.learning import Job, Planned, read_list
from benchmarks.training import sessions_file
from trainers.config import save_config
from trainers.reporting.runs import read

LIST = """\
- {algo: sac, env: HalfCheetah, frames: 100_000, seeds: 2, must: 5_490, goal: 6_156}
- {algo: ppo, env: CartPole, frames: 100_000, seeds: 2, must: 475}
- {algo: sac, env: Hopper, frames: 100_000, seeds: 1, goal: 1_103, retuned: true}
- {algo: ppo, env: Hopper, frames: 1_000_000, seeds: 1, must: 1_850, goal: 2_600}
- {algo: tqc, env: HalfCheetah, frames: 100_000, seeds: 1, must: sac-HalfCheetah-100k}
"""
ABOUT: dict[str, Any] = {
    "date": "2026-01-02 03:04",
    "from_frame": 0,
    "commit": "abc1234",
    "cpu": "A CPU",
    "cores": 4,
    "at_once": 2,
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
}
SAID = "2 runs at a time on 4 cores of A CPU, python 3.11.2, torch 2.13.0"


class Results:
    """A list, its runs, and the page on them."""

    def __init__(self, rows: Sequence[Planned], folder: Path) -> None:
        self.rows = {each.row.name: each for each in rows}
        self.runs, self.out = folder / "runs", folder / "docs"

    def trained(
        self,
        name: str,
        seed: int,
        returns: Sequence[float],
        made_by: Any = (ABOUT,),
    ) -> Job:
        """A run that was evaluated ten times on its way, as often as there are returns."""
        job = Job(self.rows[name], seed, self.runs)
        row = job.planned.row
        make_run(job.run_dir, returns, algo=row.algo, every=row.frames // 10)
        config = replace(job.planned.config, seed=seed)
        save_config(config, job.run_dir / "config.yaml")
        sessions_file(job).write_text(json.dumps(list(made_by)))
        keep(job, self.out / "results")
        return job

    def page(self) -> str:
        assert write_page(list(self.rows.values()), self.out) == self.out / "results.md"
        return (self.out / "results.md").read_text()

    def line(self, name: str) -> list[str]:
        """The row's line in the table."""
        place = self.out / "results"
        lines = summary([result(each, place) for each in self.rows.values()]).splitlines()[2:]
        line = lines[list(self.rows).index(name)]
        return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Planned]:
    path = tmp_path_factory.mktemp("list") / "list.yaml"
    path.write_text(LIST)
    return read_list(path)


@pytest.fixture
def results(rows: list[Planned], tmp_path: Path) -> Results:
    return Results(rows, tmp_path)


def test_evaluations_are_kept_and_make_the_same_run(results: Results) -> None:
    job = results.trained("sac-HalfCheetah-100k", 100, range(1, 11))
    place = results.out / "results" / "sac-HalfCheetah-100k"
    assert sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()) == [
        *("seed100.json", "seed100/config.yaml", "seed100/metrics.jsonl")
    ]
    lines = [
        json.loads(each) for each in (place / "seed100/metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert set(lines[0]) == {"frames", "updates", "seconds", "eval/episode_return"}
    kept, run = read(place / "seed100"), read(job.run_dir)
    assert (kept.state, kept.score(), kept.seconds) == ("finished", 9.0, run.seconds)
    assert kept.settings == run.settings
    assert json.loads((place / "seed100.json").read_text()) == [ABOUT]


def test_a_run_without_an_evaluation_is_not_kept(results: Results) -> None:
    job = results.trained("sac-HalfCheetah-100k", 100, [1.0])
    shutil.rmtree(results.out / "results" / "sac-HalfCheetah-100k" / "seed100")
    (job.run_dir / "metrics.jsonl").write_text('{"frames": 10, "updates": 0, "seconds": 1.0}\n')
    keep(job, results.out / "results")
    assert job.run() is not None
    assert "Not trained yet." in results.page().partition("## sac-HalfCheetah-100k")[2][:300]


def test_what_has_come_farther_stays(results: Results, tmp_path: Path) -> None:
    name = "sac-HalfCheetah-100k"
    for folder, returns, kept in [
        ("first", [8.0] * 8, "-"),
        ("farther", [10.0] * 10, "10"),
        ("less far", [9.0] * 9, "10"),
        ("as far", [11.0] * 10, "11"),
    ]:
        results.runs = tmp_path / folder
        results.trained(name, 100, returns)
        assert results.line(name)[3] == kept


def test_a_row_says_what_was_reached(results: Results) -> None:
    results.trained("sac-HalfCheetah-100k", 100, [0] * 7 + [5000, 6000, 7000])
    results.trained("sac-HalfCheetah-100k", 101, [9000] * 7 + [6300, 6400, 6500])
    assert results.line("sac-HalfCheetah-100k") == [
        *("[sac on HalfCheetah-v5](#sac-halfcheetah-100k)", "100k", "2", "6,200 ± 283", "5,490"),
        *("6,156", "goal", "6,156 ± 738 (SimbaV2, 10 seeds, v4)", "16 min 40 s"),
    ]
    results.trained("ppo-CartPole-100k", 100, [500] * 10)
    assert results.line("ppo-CartPole-100k")[7] == "500 (RL Zoo, 1 seed)"  # of the same version
    assert results.line("ppo-CartPole-100k")[2:7] == ["1 of 2", "500", "475", "", "unfinished"]
    results.trained("ppo-CartPole-100k", 101, [500] * 5)
    assert results.line("ppo-CartPole-100k")[2:7] == ["1 of 2", "500", "475", "", "unfinished"]
    results.trained("sac-Hopper-100k", 100, [1000] * 10)
    assert results.line("sac-Hopper-100k")[2:7] == ["1", "1,000", "", "1,103", "below"]
    assert results.line("ppo-Hopper-1M")[2:8] == [
        *("0 of 1", "-", "1,850", "2,600", ""),
        "2,609 ± 701 (Tianshou, 10 seeds, v3); 2,410 (RL Zoo, 1 seed, v3)",
    ]
    for value, verdict in [(1849, "MISSED"), (1850, "must"), (2600, "goal")]:
        results.runs = results.out / verdict
        results.trained("ppo-Hopper-1M", 100, [value] * 10)
        assert results.line("ppo-Hopper-1M")[6] == verdict


def test_a_row_whose_preset_was_tuned_again_is_marked(results: Results) -> None:
    results.trained("sac-Hopper-100k", 100, [1000] * 10)
    assert results.line("sac-Hopper-100k")[0].endswith(") †")
    assert results.line("tqc-HalfCheetah-100k")[0].endswith("100k)")
    assert "† The seeds" in results.page()


def test_what_a_row_must_reach_may_be_the_figure_of_another(results: Results) -> None:
    other, name = "sac-HalfCheetah-100k", "tqc-HalfCheetah-100k"
    assert results.line(name)[3:7] == ["-", f"- ({other})", "", ""]
    results.trained(name, 100, [5000] * 10)
    assert results.line(name)[3:7] == ["5,000", f"- ({other})", "", "not known"]
    results.trained(other, 100, [4000] * 10)  # one seed of two
    assert results.line(name)[4:7] == [f"- ({other})", "", "not known"]
    for second, figure, verdict in [(6000, "5,000", "must"), (6002, "5,001", "MISSED")]:
        results.runs = results.out / verdict
        results.trained(other, 101, [second] * 10)
        assert results.line(name)[4:7] == [f"{figure} ({other})", "", verdict]


def test_a_section_has_command_picture_values_and_origin(results: Results) -> None:
    later = ABOUT | {"commit": "def5678", "from_frame": 50_000, "at_once": 1}
    results.trained("ppo-CartPole-100k", 100, range(10))
    results.trained("ppo-CartPole-100k", 101, [3, 4, 5], [ABOUT, later])
    section = results.page().partition("## ppo-CartPole-100k\n")[2].partition("\n## ")[0]
    assert section.strip().split("\n\n") == [
        "```sh\npython scripts/train.py algo=ppo env=CartPole total_frames=100_000 threads=1 "
        "device=cpu report.interval_s=0 seed=100   # and so on to seed=101\n```",
        "![ppo on CartPole-v1: evaluation return over frames](results/ppo-CartPole-100k.png)",
        "| seed | last three evaluations | at frames | mean | wall clock |\n|---|---|---|---|---|\n"
        "| 100 | 7, 8, 9 | 80k, 90k, 100k | 8 | 16 min 40 s |\n"
        "| 101 | 3, 4, 5 | 10k, 20k, 30k (of 100k: unfinished) |  | 5 min 0 s |",
        f"Seed 100: 2026-01-02, commit abc1234, {SAID}.",
        f"Seed 101: 2026-01-02, commit abc1234, {SAID}; then 2026-01-02, commit def5678, "
        f"{SAID.replace('2 runs', 'one run')}.",
    ]
    png = (results.out / "results" / "ppo-CartPole-100k.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert not (results.out / "results" / "sac-Hopper-100k.png").exists()


def test_seeds_that_have_their_origin_in_common_share_a_line(results: Results) -> None:
    for seed in (100, 101):
        twice = [ABOUT, ABOUT | {"from_frame": 7, "date": "2026-01-02 05:06"}]
        results.trained("ppo-CartPole-100k", seed, range(10), twice)
    assert f"\nSeeds 100, 101: 2026-01-02, commit abc1234, {SAID}.\n" in results.page()


def test_an_origin_that_is_broken_is_not_known(results: Results) -> None:
    results.trained("ppo-CartPole-100k", 100, range(10), [{}, ABOUT | {"versions": 3}])
    results.trained("ppo-CartPole-100k", 101, range(10))
    place = results.out / "results" / "ppo-CartPole-100k"
    (place / "seed101.json").write_text("[{}]")
    assert "\nSeeds 100, 101: not known.\n" in results.page()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("metrics.jsonl", "", "metrics.jsonl holds no line yet."),
        ("metrics.jsonl", '{"frames": 10}', "no line of metrics.jsonl has an evaluation."),
        ("config.yaml", "a: [", "config.yaml is broken: while parsing"),
    ],
)
def test_what_is_kept_and_cannot_be_read_is_said(
    results: Results, file: str, text: str, why: str
) -> None:
    name = "ppo-CartPole-100k"
    results.trained(name, 101, range(10))
    (results.out / "results" / name / "seed101" / file).write_text(text)
    section = results.page().partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert f"\n\nSeed 101: what is kept cannot be read: {why}" in section
    assert "Not trained yet." not in section
    results.trained(name, 100, range(10))
    assert f"\n\nSeed 101: what is kept cannot be read: {why}" in results.page()
    assert results.line(name)[2] == "1 of 2"


def test_a_run_of_other_settings_does_not_count(results: Results) -> None:
    job = results.trained("sac-HalfCheetah-100k", 100, [7000] * 10)
    path = results.out / "results" / "sac-HalfCheetah-100k" / "seed100" / "config.yaml"
    path.write_text(path.read_text().replace("gamma: 0.99", "gamma: 0.98"))
    assert results.line("sac-HalfCheetah-100k")[2:4] == ["0 of 2", "-"]
    assert (
        "Seed 100 does not count: it was trained with other settings than the command's "
        "(algo.gamma)." in results.page()
    )
    keep(job, results.out / "results")  # the one with the command's settings takes its place
    assert results.line("sac-HalfCheetah-100k")[2:4] == ["1 of 2", "7,000"]
    (job.run_dir / "config.yaml").write_text(path.read_text().replace("0.99", "0.98"))
    keep(job, results.out / "results")
    assert results.line("sac-HalfCheetah-100k")[2:4] == ["1 of 2", "7,000"]


def test_sources_and_notes_end_the_page(results: Results) -> None:
    (results.out / "results").mkdir(parents=True)
    assert VERSIONS in results.page().partition("## Published scores")[2]
    assert "Weng et al. (2022), Tianshou" in results.page().partition("## Published scores")[2]
    (results.out / "results" / "notes.md").write_text("## Notes\n\nHopper falls over.\n")
    assert results.page().endswith("\n\n## Notes\n\nHopper falls over.\n")


def test_the_page_is_the_same_without_the_runs(results: Results) -> None:
    job = results.trained("ppo-CartPole-100k", 100, range(10))
    before = results.page()
    (job.run_dir / "metrics.jsonl").unlink()
    keep(job, results.out / "results")
    assert results.page() == before
