import os
import stat

import pytest

from junctor.cli.private_files import make_directory, replace_file
from junctor.sql.errors import EnvironmentProblem


def test_a_file_is_replaced_as_a_whole_and_for_us_only(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)

    replace_file(path, "new ü")

    assert path.read_text(encoding="utf-8") == "new ü"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("untouched")
    link = tmp_path / "link"
    link.symlink_to(target)

    replace_file(link, "new", mode=0o640)

    assert target.read_text() == "untouched"
    assert not link.is_symlink()
    assert stat.S_IMODE(link.stat().st_mode) == 0o640


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"none/file cannot be written: No such file"):
        replace_file(tmp_path / "none/file", "x")


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "x").touch()

    with pytest.raises(EnvironmentProblem, match="cannot be made a directory"):
        make_directory(tmp_path / "x")
