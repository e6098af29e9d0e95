"""The page in a real browser, where one is installed: Chromium or Chrome, without a display."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.made_up_runs import make_run

from trainers.reporting.page import as_html
from trainers.reporting.report import make_report
from trainers.reporting.runs import read

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

# A window is no narrower than 500 pixels, a frame in it is. What is in the page says how it is
# laid out there, with every fold opened.
PHONE, DESKTOP = 390, 1280
FRAME = """<!DOCTYPE html><title>frame</title><link rel="icon" href="data:,">
<iframe src="page.html" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>addEventListener("message", event => document.body.dataset.seen = event.data)</script>"""
LOOK = """<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(fold => fold.open = true);
  const root = document.documentElement, images = [...document.images];
  const beyond = [...document.body.querySelectorAll("*")]
    .filter(each => each.getBoundingClientRect().right > root.clientWidth + 1);
  parent.postMessage(JSON.stringify({
    width: root.clientWidth,
    scroll_width: root.scrollWidth,
    beyond: beyond.map(each => each.outerHTML.slice(0, 80)),
    images: images.map(each => [each.complete, each.naturalWidth, each.clientWidth]),
    letters: parseFloat(getComputedStyle(document.body).fontSize),
    viewport: document.querySelector("meta[name=viewport]").content,
    text: document.body.innerText,
  }), "*");
});
</script>"""


def opened(page: str, folder: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """How a page is laid out in so many pixels, and what the browser's console says."""
    (folder / "page.html").write_text(page)
    (folder / "frame.html").write_text(FRAME.format(width=width))
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--window-size=1600,900", "--enable-logging=stderr", "--dump-dom"),
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert seen, done.stderr
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(seen[1])), said


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with everything on it: several tasks, long names, a comparison, problems."""
    folder = tmp_path_factory.mktemp("a-rather-long-name-of-a-folder-that-holds-runs" * 3)
    long = {"network.hidden": [256] * 12, "hooks": ["a_hook_with_quite_a_long_name" * 3]}
    for seed in (1, 2):
        for env in ("HalfCheetah-v5", "Hopper-v5"):
            for algo in ("sac", "ppo"):
                at = folder / f"{algo}-{env}-{seed}"
                make_run(at, [1, 2, seed], every=40_000, algo=algo, env=env, seed=seed)
        make_run(folder / f"long{seed}", [1, 2, seed], every=40_000, seed=seed, settings=long)
    make_run(folder / "unfinished", [1], every=40_000, seed=3, total_frames=120_000)
    with (folder / "unfinished" / "metrics.jsonl").open("a") as file:
        file.write("{\n")
    return as_html(make_report([read(path) for path in sorted(folder.iterdir())]))


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_page_opens_without_errors_and_fits(page: str, width: int, tmp_path: Path) -> None:
    seen, said = opened(page.replace("</body>", f"{LOOK}</body>"), tmp_path, width)
    assert said == []
    assert len(seen["images"]) == page.count("<img ") > 10
    for complete, natural_width, shown_width in seen["images"]:
        assert complete
        assert natural_width == 900
        assert 250 < shown_width <= 620
    assert seen["scroll_width"] <= seen["width"] <= width
    assert seen["letters"] >= 14
    assert "width=device-width" in seen["viewport"]
    assert "sac and" in seen["text"] or "ppo and sac" in seen["text"]
    if width == PHONE:
        assert seen["beyond"] == []


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    wide = '<p style="width: 2000px">wide</p><img src="missing.png">'
    viewport = '<meta name="viewport" content="width=device-width">'
    page = f"<!DOCTYPE html>{viewport}<body>{wide}<script>missing()</script>{LOOK}</body>"
    seen, said = opened(page, tmp_path, PHONE)
    assert seen["scroll_width"] > PHONE
    assert seen["beyond"]
    assert seen["images"][0][1] == 0
    assert "ReferenceError" in "".join(said)
