"""The closing line of a run, on which CI relies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.report import main

GOOD = '<testsuites><testsuite><testcase classname="a.b" name="t1"/><testcase classname="a.b" name="t2"/></testsuite></testsuites>'
MIXED = """<testsuites><testsuite>
<testcase classname="a.b" name="t1"/>
<testcase classname="a.b" name="t2"><failure message="AssertionError: not so&#10;more">...</failure></testcase>
<testcase classname="a.b" name="t3"><error message="fixture failed">...</error></testcase>
<testcase classname="a.b" name="t4"><skipped message="no Docker"/></testcase>
</testsuite></testsuites>"""


def run(directory: Path, capsys: pytest.CaptureFixture[str], *failed_steps: str) -> tuple[int, list[str]]:
    code = main([str(directory), *failed_steps])
    return code, capsys.readouterr().out.splitlines()


def test_a_good_run_ends_with_the_number_of_all_its_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unit.xml").write_text(GOOD)
    (tmp_path / "other.xml").write_text(GOOD)
    code, lines = run(tmp_path, capsys)
    assert (code, lines[-1]) == (0, "4 passed, 0 failed")


def test_what_failed_is_named_above_the_closing_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unit.xml").write_text(MIXED)
    code, lines = run(tmp_path, capsys, "unit tests")
    assert (code, lines[-1]) == (1, "1 passed, 2 failed, 1 skipped")
    assert "  a.b::t2: AssertionError: not so more" in lines
    assert "  a.b::t3: fixture failed" in lines


def test_a_failed_step_is_a_failure_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unit.xml").write_text(GOOD)
    code, lines = run(tmp_path, capsys, "ruff check", "coverage")
    assert (code, lines[-1]) == (1, "2 passed, 2 failed")
    assert "  step 'ruff check'" in lines


def test_tests_that_were_cut_off_are_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unit.xml").write_text("<testsuites><testsu")
    assert run(tmp_path, capsys)[0] == 1
    (tmp_path / "unit.xml").unlink()
    code, lines = run(tmp_path, capsys, "unit tests")
    assert (code, lines[-1]) == (1, "0 passed, 1 failed")


def test_a_run_in_which_nothing_passed_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unit.xml").write_text("<testsuites><testsuite/></testsuites>")
    assert run(tmp_path, capsys)[0] == 1
