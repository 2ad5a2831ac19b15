"""The page of security requirements names tests that exist, and leaves no claim without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "security_requirements.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
EXCUSED = ("There are none", "There is none", "**Not met**")


def rows() -> list[list[str]]:
    """The cells of each row, but for those of headings."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("Requirement", "Section")]


@cache
def names_in(path: str) -> set[str]:
    """The names of the tests in a file."""
    file = ROOT / "tests" / path
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED.findall(PAGE.read_text("utf-8"))

    assert len(named) > 100
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_every_requirement_is_shown_by_a_test_or_says_why_not() -> None:
    unproven = [row[0] for row in rows() if not NAMED.search(row[3]) and not row[2].startswith(EXCUSED)]

    assert unproven == []


def test_every_row_has_four_cells() -> None:
    assert [row[0] for row in rows() if len(row) != 4] == []
