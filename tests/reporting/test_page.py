"""What a person sees of a report, without a browser."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_up_runs import line, make_run, write_lines

from trainers.reporting.figures import looks, short
from trainers.reporting.page import as_html, duration, number
from trainers.reporting.report import Report, make_report
from trainers.reporting.runs import read

PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """The elements of a page, its text, and the rows of its tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(html)
        self.text = " ".join(self.text.split())
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "style":
            return
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data


def report_of(*paths: Path) -> Report:
    return make_report([read(path) for path in paths])


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of SAC, two of PPO that came half as far, and one that is unfinished."""
    folder = tmp_path_factory.mktemp("seeds")
    paths = [
        make_run(folder / f"sac{seed}", [0, 10, 20, 30 + seed], every=25_000, seed=seed)
        for seed in (1, 2, 3)
    ]
    for seed in (1, 2):
        path = folder / f"ppo{seed}"
        paths.append(make_run(path, [5, 5 + seed], every=25_000, seed=seed, algo="ppo"))
    paths.append(make_run(folder / "late", [1], every=25_000, seed=4, total_frames=100_000))
    return paths


@pytest.fixture(scope="module")
def report(seeds: list[Path]) -> Report:
    return report_of(*seeds)


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(as_html(report))


def test_pictures_are_in_the_page(report: Report, page: Page) -> None:
    shown = [element["src"] or "" for tag, element in page.elements if tag == "img"]
    assert len(shown) == len(report.pictures) == 2 + 3 + 2
    for source, picture in zip(shown, report.pictures, strict=True):
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) == picture.png
        assert picture.png.startswith(PNG)
    widths = {element["width"] for tag, element in page.elements if tag == "img"}
    assert widths == {"900"}
    assert all(element["alt"] for tag, element in page.elements if tag == "img")


def test_the_page_needs_nothing_else(page: Page) -> None:
    for tag, element in page.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        for key in ("src", "href", "srcset", "action"):
            assert (element.get(key) or "data:").startswith("data:")
    assert "url(" not in page.text


def test_the_table_of_results(page: Page) -> None:
    ppo, sac = page.rows[1:3]
    assert ppo[:4] == ["HalfCheetah-v5", "ppo", "5.75", "5.5 to 6"]
    assert ppo[6:9] == ["2", "50k", "8 min 20 s"]
    # The scores are 20.3, 20.7 and 21: means of 10, 20, 31 and so on.
    assert sac[1:6] == ["sac", "20.7", "20.3 to 21", "20.7 ± 0.333", "20.3 to 21"]
    assert sac[6:10] == ["3 finished of 4", "100k", "16 min 40 s", "300"]
    assert sac[10] == "4,212 at 50k [1], 6,156 at 100k [2]"


def test_sources_are_named(page: Page) -> None:
    assert "sac on HalfCheetah-v4: 6,156 ± 738 at 100,000 frames, 10 seeds; mean" in page.text
    assert "arXiv:2502.15280" in page.text
    assert "arXiv:2108.13264" in page.text


def test_every_run_is_listed_with_its_state(page: Page, seeds: list[Path]) -> None:
    listed = {row[0]: row for row in page.rows[-6:]}
    assert set(listed) == {str(path) for path in seeds}
    late = listed[str(seeds[-1])]
    assert late[3:6] == ["4", "1", "25,000 of 100,000"]
    assert late[-1] == "unfinished"
    assert listed[str(seeds[0])][-1] == "finished"


def test_methods_are_compared(report: Report, page: Page) -> None:
    assert [picture.name for picture in report.compared] == [
        "performance-profiles",
        "probability-of-improvement",
    ]
    assert "Finished runs only, on HalfCheetah-v5 at 50k frames" in page.text


def test_what_is_not_compared_is_said(tmp_path: Path, report: Report, page: Page) -> None:
    assert report.not_compared == []
    assert "such figures of two reports cannot be compared" in page.text
    paths = [make_run(tmp_path / algo, algo=algo) for algo in ("sac", "ppo")]
    text = Page(as_html(report_of(*paths))).text
    assert (
        "There is nothing to compare. Left out of it: 2 ppo on HalfCheetah-v5: 1 finished" in text
    )


def test_runs_that_failed_are_counted(tmp_path: Path) -> None:
    def add(seed: int, **given: Any) -> Path:
        return make_run(tmp_path / f"{seed}", seed=seed, settings={"total_frames": 3000}, **given)

    failed = [add(1, returns=[1.0]), add(2, returns=[2.0])]
    for path in failed:
        (path / "train.log").write_text("1:00 DEBUG the run ended with an error\n1:00 ERROR Oh\n")
    assert Page(as_html(report_of(*failed))).rows[1][6] == "2, failed"
    unfinished = add(3, returns=[3.0])
    assert Page(as_html(report_of(*failed, unfinished))).rows[1][6] == "3, unfinished, 2 failed"
    page = Page(as_html(report_of(*failed, unfinished, add(4))))
    assert page.rows[1][6] == "1 finished of 4, 2 failed"
    assert [row[-1] for row in page.rows[-4:]] == ["failed", "failed", "unfinished", "finished"]
    assert f"{failed[0]}: it ended with an error: Oh" in page.text


def test_one_run(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", [1, 2], total_frames=9000, seed=5)
    (path / "train.log").write_text("10:00 INFO resumed from a: frame 1000, update 9\n")
    report = report_of(path)
    page = Page(as_html(report))
    assert report.title == "sac on HalfCheetah-v5, seed 5"
    assert f"unfinished 2,000 of 9,000 frames in 20 s, resumed 1 time. {path}" in page.text
    assert page.rows[1][1:7] == ["sac", "1.5", "-", "-", "-", "1, unfinished"]
    assert report.comparison is None


def test_a_run_that_is_running(tmp_path: Path) -> None:
    run = read(make_run(tmp_path / "a", total_frames=9000), "running")
    page = Page(as_html(make_report([run]), reload_s=60.0))
    (reload,) = [e for tag, e in page.elements if tag == "meta" and "http-equiv" in e]
    assert reload == {"http-equiv": "refresh", "content": "60"}
    assert page.rows[1][6] == "1, running"
    page = Page(as_html(make_report([run])))
    assert not [e for tag, e in page.elements if tag == "meta" and "http-equiv" in e]


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=9000)
    write_lines(path, [line(1000, loss__actor=1.0), line(2000, loss__actor=2.0)])
    report = report_of(path)
    assert [picture.name for picture in report.pictures] == [
        "HalfCheetah-v5-loss-actor-over-frames"
    ]
    page = Page(as_html(report))
    assert "No evaluation yet." in page.text
    assert page.rows[1][2] == "-"


def test_a_single_line(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", total_frames=9000)
    write_lines(path, ['{"frames": 0}'])
    page = Page(as_html(report_of(path)))
    assert "0 of 9,000 frames in 0 s" in page.text


def test_problems_are_shown(tmp_path: Path) -> None:
    broken, twice = (make_run(tmp_path / name, seed=1) for name in "ab")
    with (broken / "metrics.jsonl").open("a") as file:
        file.write("{\n")
    (tmp_path / "b").touch()
    text = Page(as_html(report_of(broken, twice))).text
    assert "Not everything could be read, or counts" in text
    assert "left out: seed 1 with the same settings as" in text
    assert "broken and left out: line 4" in Page(as_html(report_of(broken))).text


def test_names_from_files_are_text(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>$x_{"
    path = make_run(tmp_path / "<b>$", env=name, settings={"hooks": ["<i>&"]})
    write_lines(path, [line(3000, **{"eval/episode_return": 1.0, f"loss/{name}": 1.0})])
    report = report_of(path)
    page = Page(as_html(report))
    assert not [tag for tag, _ in page.elements if tag in ("script", "i")]
    assert name in page.text
    assert '["<i>&"]' in page.text
    for picture in report.pictures:
        assert re.fullmatch(r"[\w.=-]+", picture.name)


def test_methods_have_looks_of_their_own() -> None:
    given = looks([f"{number}" for number in range(24)])
    assert len(given) == 24
    assert len(set(list(given.values())[:21])) == 21


def test_success_rates_are_drawn(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_lines(path, [line(3000, eval__episode_return=1.0, eval__success_rate=0.5)])
    names = [picture.name for picture in report_of(path).pictures]
    assert "HalfCheetah-v5-eval-success_rate-over-frames" in names


def test_the_loss_of_a_part_is_left_out(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_lines(path, [line(3000, loss__qvalue=1.0, loss__qvalue_0=0.5, loss__qvalue_1=0.5)])
    (picture,) = report_of(path).pictures
    assert picture.name == "HalfCheetah-v5-loss-qvalue-over-frames"


def test_the_same_runs_make_the_same_pictures(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / f"{seed}", [1, 2, seed], seed=seed) for seed in range(3)]
    one, two = (report_of(*paths).pictures[0] for _ in range(2))
    assert one.png == two.png


@pytest.mark.parametrize(
    ("value", "expected"),
    [(6156.3, "6,156"), (-172.2, "-172"), (0.98765, "0.988"), (-3.0, "-3"), (np.nan, "-")],
)
def test_scores_are_short(value: float, expected: str) -> None:
    assert number(value) == expected


def test_times_and_counts_are_short() -> None:
    times = [duration(seconds) for seconds in (0.4, 59, 61, 3600, 90_061)]
    assert times == ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "25 h 1 min"]
    counts = [short(number) for number in (0, 999, 1000, 50_000, 1_001_472, 999_999, 2.5e9)]
    assert counts == ["0", "999", "1k", "50k", "1M", "1M", "2.5G"]
