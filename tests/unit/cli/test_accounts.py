import os
import pwd

import pytest

from junctor.cli import accounts
from junctor.cli.accounts import Account
from junctor.sql.errors import EnvironmentProblem

NOBODY = Account("nobody", 65534, 65534)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up privileges")


@root_only
def test_root_gives_its_privileges_up_to_an_account_that_exists():
    account = accounts.unprivileged_account()

    assert account is not None
    assert account.name in ("postgres", "nobody")
    assert pwd.getpwnam(account.name).pw_uid == account.uid != 0


@root_only
def test_a_machine_without_such_an_account_is_refused(monkeypatch):
    monkeypatch.setattr(accounts, "CANDIDATES", ("no-such-account",))

    with pytest.raises(EnvironmentProblem, match="no account"):
        accounts.unprivileged_account()


@root_only
def test_files_of_another_account_are_recognised(tmp_path):
    accounts.give(tmp_path, NOBODY)

    assert accounts.owner_of(tmp_path) == Account("nobody", 65534, 65534)


def test_our_own_files_need_no_other_account(tmp_path):
    accounts.give(tmp_path, None)

    assert accounts.owner_of(tmp_path) is None


def test_a_closed_directory_on_the_way_is_found(public_directory):
    closed = public_directory / "closed"
    (closed / "inside").mkdir(parents=True)
    closed.chmod(0o700)
    link = public_directory / "link"
    link.symlink_to(closed / "inside")

    assert accounts.first_barrier(closed / "inside/file", NOBODY) == closed
    assert accounts.first_barrier(link / "file", NOBODY) == closed
    assert accounts.first_barrier(closed, NOBODY) is None


def test_the_bits_of_the_owner_and_the_group_count(public_directory):
    mine = public_directory / "bits"
    mine.mkdir()
    mine.chmod(0o010)
    entry = mine.stat()

    assert accounts.first_barrier(mine / "x", Account("owner", entry.st_uid, 1)) == mine
    assert accounts.first_barrier(mine / "x", Account("member", 54321, entry.st_gid)) is None
    assert accounts.first_barrier(mine / "x", Account("other", 54321, 54321)) == mine
