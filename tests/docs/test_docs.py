"""What the pages tell a user to type can be typed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainers.config import ConfigError, TrainConfig
from trainers.config.arguments import from_arguments
from trainers.config.composer import composing, plain
from trainers.config.evaluate import EvaluateConfig
from trainers.config.export import ExportConfig
from trainers.reporting import cli as report

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = ROOT / "docs" / "guide.md"
TYPED = ("bash", "sh", "console")
INSTALLED = ("pip", "python3", "source", "tensorboard")  # of others: not looked at


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Kind and text of the fenced blocks of a page, in their order."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def shown(page: Path) -> dict[str, str]:
    """What the page shows that a bash block prints: the unmarked block right after it."""
    fenced = r"```%s\n((?:(?!```).*\n)*)```\n"
    found = re.findall(rf"^{fenced % 'bash'}\n{fenced % ''}", page.read_text(), re.MULTILINE)
    return dict(found)


def masked(text: str) -> set[str]:
    """Its lines without numbers and devices, which differ from machine to machine."""
    text = re.sub(r"cuda(:\d+)?", "cpu", text).replace("threads", "thread")
    lines = re.sub(r"-?\d[\d,.]*(e[+-]\d+)?", "#", text).splitlines()
    return {" ".join(line.split()) for line in lines}


def commands(page: Path) -> Iterator[tuple[list[str], str]]:
    """The words of every command of a page, and the line after it."""
    for kind, text in blocks(page):
        if kind not in TYPED:
            continue
        lines = text.replace("\\\n", " ").splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if kind != "console" or line.startswith("$ "):
                if words := shlex.split(line.removeprefix("$ "), comments=True):
                    yield words, following


CASES = [
    pytest.param(words, following, id=f"{page.name}: {' '.join(words)[:60]}")
    for page in PAGES
    for words, following in commands(page)
]


def check(words: list[str]) -> None:
    """Raise, or exit, unless the program would begin to do what it is asked for."""
    program, *arguments = words
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        for target in targets:
            assert re.search(rf"^{target}: ", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        given = [word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")]
        script = {"train": "train.py", "bench": "benchmark.py", "results": "results.py"}
        for target in targets if given else ():
            check_script(script[target], shlex.split(given[0]))
    elif program == "python" and arguments[0].startswith("scripts/"):
        assert (ROOT / arguments[0]).is_file()
        check_script(Path(arguments[0]).name, arguments[1:])
    elif program == "python":
        assert arguments[0] in written(GUIDE)
    else:
        assert program in INSTALLED, program


def check_script(script: str, arguments: list[str]) -> None:
    if "--help" in arguments:
        return
    if script in ("train.py", "verify_resume.py"):
        check_training([a for a in arguments if not re.match(r"(resume|run_dir)=|--kills", a)])
    elif script == "evaluate.py":
        from_arguments(EvaluateConfig, arguments)
    elif script == "export.py":
        from_arguments(ExportConfig, arguments)
    elif script == "report.py":
        report.parse(arguments)
    else:
        imported(script).parse(arguments)


def check_training(arguments: list[str]) -> None:
    """As the preflight does, but for directories that are not there."""
    with composing() as composer:
        overrides = composer.parse([each for each in arguments if not each.startswith("--")])
        sweep = "--multirun" in arguments
        for job in composer.jobs(overrides) if sweep else [composer.single(overrides)]:
            TrainConfig.from_dict(plain(composer.compose(job)))


def imported(script: str) -> Any:
    spec = importlib.util.spec_from_file_location(script[:-3], ROOT / "scripts" / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(page: Path) -> dict[str, str]:
    """The Python blocks whose first line names a file, by that name."""
    found = {}
    for kind, text in blocks(page):
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            found[name[1]] = text
    return found


@pytest.mark.parametrize(("words", "following"), CASES)
def test_every_command_can_be_typed(words: list[str], following: str) -> None:
    if not following.startswith("train.py: "):
        check(words)
        return
    with pytest.raises(ConfigError) as refused:  # shown with the answer to it
        check(words)
    assert f"train.py: {refused.value}" == following


def test_a_command_that_cannot_be_typed_is_found() -> None:
    for words in (
        ["make", "trian"],
        ["make", "train", "ARGS=env=Hoper"],
        ["python", "scripts/train.py", "algo.lrr=1"],
        ["python", "scripts/train.py", "--multirun", "seed=0,x"],
        ["python", "scripts/evaluate.py", "run_dir=x", "episode=3"],
        ["python", "scripts/export.py", "run_dir=x", "format=tflite"],
        ["python", "scripts/report.py"],
        ["python", "scripts/verify_resume.py", "env=Hoper"],
        ["python", "scripts/results.py", "--pages"],
        ["python", "scripts/nosuch.py"],
        ["python", "nosuch.py"],
        ["nosuch"],
    ):
        with pytest.raises((ConfigError, AssertionError, SystemExit)):
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text())
    for target in targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"`(?:tests/([^`]*)|(test_[^`]*\.py))`", page.read_text()):
        within, alone = name
        found = (ROOT / "tests").glob(within or f"**/{alone}") if any(name) else [ROOT]
        assert any(found), name


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    for package in ("av", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="an extra that the guide uses")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    prints = shown(GUIDE)
    assert len(prints) == 5, "an output that is shown is not found beside its command"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for kind, text in blocks(GUIDE):
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)
        if kind != "bash":
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{text}\n{said}"
        assert masked(prints.get(text, "")) <= masked(said), f"{text}\n{said}"
    for left in (
        *("runs/first/best", "runs/first/videos/evaluation-best.mp4"),
        *("runs/second/best", "report/report.html", "my_policy/policy.pt2", "metrics.jsonl"),
    ):
        assert (tmp_path / left).exists(), left
