"""The limits of the code style that linters do not check: sizes, READMEs, no banners, no places for everything else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sql", "server", "cli", "scheduler", "web_admin", "client")
FOLDERS = (*PACKAGES, "deploy", "tests")

MAX_FILE, MAX_TEST_FILE = 500, 800  # lines
MAX_INIT = 45  # lines; two a name in the public API of the client
MAX_FUNCTION = 80  # lines of code
MAX_CLASS, MAX_PUBLIC_METHODS = 300, 20  # lines
MAX_README, MAX_ROOT_README = 80, 120  # lines

BANNER = re.compile(r"^\s*#\s*([-=#*~_+])\1{3,}")
EXCEPTION = re.compile(r"#\s*noqa(:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)?(?P<reason>.*)$")
PLACES_FOR_EVERYTHING = {"common", "util", "utils", "misc", "helpers", "lib"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """The Python files of some top-level folders."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not {"__pycache__", "build"} & set(path.parts) and ".egg-info" not in str(path)
    )


SOURCE = python_files(*PACKAGES)
TESTS = python_files("tests")
ALL = [*SOURCE, *TESTS, *python_files("deploy")]


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def lines_of(path: Path) -> list[str]:
    return text(path).splitlines()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path))


def shown(path: Path, line: int = 0) -> str:
    """Where something is, as editors open it."""
    return f"{path.relative_to(ROOT)}{f':{line}' if line else ''}"


def length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def code_lines(path: Path, function: Function) -> int:
    """The lines of a function without its docstring, comments and empty lines."""
    body = function.body
    docstring = body[0] if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) else None
    skipped = set(range(docstring.lineno, (docstring.end_lineno or 0) + 1)) if docstring else set()
    lines = lines_of(path)
    return sum(
        1
        for number in range(function.lineno, (function.end_lineno or function.lineno) + 1)
        if number not in skipped
        and lines[number - 1].strip()
        and not lines[number - 1].strip().startswith("#")
    )


def none_of(offenders: Iterable[str]) -> None:
    if found := list(offenders):
        pytest.fail("\n".join(found), pytrace=False)


def test_there_is_something_to_check() -> None:
    assert len(SOURCE) > 50
    assert len(TESTS) > 20


def test_files_are_short_enough_to_be_read() -> None:
    sizes = {path: len(lines_of(path)) for path in ALL}
    none_of(
        f"{shown(path)} has {size} lines"
        for path, size in sizes.items()
        if size > (MAX_TEST_FILE if path in TESTS else MAX_FILE)
    )


def test_functions_are_short_enough_to_be_read() -> None:
    none_of(
        f"{shown(path, node.lineno)} {node.name} has {code_lines(path, node)} lines of code"
        for path in ALL
        for node in ast.walk(tree(path))
        if isinstance(node, Function) and code_lines(path, node) > MAX_FUNCTION
    )


def test_classes_do_one_thing() -> None:
    def problems(path: Path, node: ast.ClassDef) -> Iterable[str]:
        if length(node) > MAX_CLASS:
            yield f"{shown(path, node.lineno)} {node.name} has {length(node)} lines"
        public = [item for item in node.body if isinstance(item, Function) and not item.name.startswith("_")]
        methods = [item for item in public if not any("property" in ast.dump(d) for d in item.decorator_list)]
        if len(methods) > MAX_PUBLIC_METHODS:
            yield f"{shown(path, node.lineno)} {node.name} has {len(methods)} public methods"

    none_of(
        problem
        for path in SOURCE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        for problem in problems(path, node)
    )


def test_init_files_only_re_export() -> None:
    def allowed(node: ast.stmt) -> bool:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return (
            isinstance(node, ast.Import | ast.ImportFrom)
            or is_docstring
            or names in (["__all__"], ["__version__"])
        )

    inits = [path for path in ALL if path.name == "__init__.py"]
    none_of(f"{shown(path)} has {n} lines" for path in inits if (n := len(lines_of(path))) > MAX_INIT)
    none_of(
        f"{shown(path, node.lineno)} is no re-export"
        for path in inits
        for node in tree(path).body
        if not allowed(node)
    )


def test_there_is_no_place_for_everything_else() -> None:
    none_of(shown(path) for path in SOURCE if PLACES_FOR_EVERYTHING & {path.stem, path.parent.name})


def test_there_are_no_banners() -> None:
    none_of(
        shown(path, number)
        for path in ALL
        for number, line in enumerate(lines_of(path), start=1)
        if BANNER.match(line)
    )


def test_every_exception_from_a_lint_names_it_and_has_its_reason_beside_it() -> None:
    for_itself = Path(__file__)
    none_of(
        f"{shown(path, number)}: {line.strip()}"
        for path in ALL
        if path != for_itself
        for number, line in enumerate(lines_of(path), start=1)
        if (found := EXCEPTION.search(line))
        and not (found[1] and re.match(r"\s+(-\s+)?\w+", found["reason"]))
    )


def test_tests_wait_for_conditions_and_never_sleep() -> None:
    waiting = ROOT / "tests" / "helpers" / "waiting.py"
    none_of(
        shown(path, node.lineno)
        for path in TESTS
        if path != waiting and path.parent != ROOT / "tests" / "bench"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_top_level_folder_has_a_short_readme(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.exists(), f"{folder}/README.md is missing"
    assert len(text(readme).splitlines()) <= MAX_README


def test_the_readme_fits_on_two_screens() -> None:
    assert len(text(ROOT / "README.md").splitlines()) <= MAX_ROOT_README


def test_the_layout_is_the_one_of_the_design() -> None:
    fixed = {"server", "scheduler", "web_admin", "cli", "sql", "deploy", "tests", "client", "docs"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    files = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")}
    extra = {name for name in folders - fixed if not name.endswith(".egg-info") and name != "build"}
    assert not extra
    assert files <= {"setup.py", "README.md", "LICENSE", "CHANGELOG.md"}
