"""Wherever a tool is told to look away, or a test is left out, it says why."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("trainers", "scripts", "benchmarks", "tests")

IGNORE = re.compile(r"#\s*(type: ignore|pyright: ignore|noqa)")
WITH_REASON = re.compile(r"#\s*((type|pyright): ignore(\[[^]]*\])?|noqa: [A-Z0-9, ]+)  # \S")
SKIPS = ("importorskip", "skipif", "skip", "xfail")


def without_reason(source: str) -> list[int]:
    """The lines with an exception that is not explained beside it."""
    comments = (
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
        if token.type == tokenize.COMMENT
    )
    ignores = [at for at, text in comments if IGNORE.search(text) and not WITH_REASON.search(text)]
    return sorted([*ignores, *_skips(ast.parse(source))])


def _skips(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        given = {keyword.arg for keyword in node.keywords}
        said = node.func.attr == "skip" and node.args
        if node.func.attr in SKIPS and "pytest" in ast.unparse(node.func):
            if not said and "reason" not in given:
                yield node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_exception_has_its_reason_beside_it(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in without_reason(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = 1  # type: ignore[attr-defined]", [1]),
        ("a = 1  # type: ignore[attr-defined]  # set above", []),
        ("a = 1  # noqa", [1]),
        ("a = 1  # noqa  # whatever it is", [1]),
        ("a = 1  # noqa: E731  # handed on once", []),
        ("a = '# noqa'", []),
        ("import pytest\npytest.importorskip('av')", [2]),
        ("import pytest\npytest.importorskip('av', reason='an extra')", []),
        ("import pytest\npytest.skip()", [2]),
        ("import pytest\nm = pytest.mark.skipif(True)", [2]),
    ],
)
def test_what_is_found(source: str, expected: list[int]) -> None:
    assert without_reason(f"{source}\n") == expected
