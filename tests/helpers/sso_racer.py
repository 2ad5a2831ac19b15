"""A worker of Single Sign-On in a process of its own, patched as a server's is, that races with others on one database.

A program: it reads a ``Task`` as JSON, says that it is ready, waits for a line, does its task, and writes an ``Outcome``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gevent.lock import BoundedSemaphore

from tests.helpers.waiting import eventually

if TYPE_CHECKING:
    from tests.helpers.sso import SsoUnderTest

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = (
    "from gevent import monkey; monkey.patch_all(); from tests.helpers.sso_racer import main; main()"
)
PASSWORDS: Final = ("first correct horse battery", "second correct horse battery")
CONCURRENT: Final = 8  # calls that are under way in a process at a time
MAX_ERRORS: Final = 5
ROUNDS: Final = 6  # times that an administrator does each thing


@dataclass
class Task:
    """What a racer does: with ``admin``, the token of a super-user, each thing that super-users do, to ``users`` (ids and names), and at
    last it locks the ``rival``, another super-user (an id); otherwise the sessions of ``tokens`` do what users do until a super-user is
    locked, or for ``seconds``.
    """

    url: str
    keys: str
    cluster: str
    seed: int
    seconds: float
    tokens: list[tuple[str, str]] = field(default_factory=list)
    admin: str = ""
    rival: str = ""
    users: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of it: how often what was done, refused with which codes, failed how, and the tokens that the racer had at the end."""

    done: dict[str, int]
    refused: dict[str, int]
    errors: list[str]
    tokens: list[tuple[str, str]]


def race(tasks: Sequence[Task]) -> list[Outcome]:
    """Runs each task in a process, all at once; none of them is left."""
    with ExitStack() as stack:
        processes = []
        for _ in tasks:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        for process, task in zip(processes, tasks, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(task)) + "\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outcomes = []
        for process, task in zip(processes, tasks, strict=True):
            output, errors = process.communicate(timeout=task.seconds + 60)
            assert process.returncode == 0, errors
            outcomes.append(Outcome(**json.loads(output)))
    return outcomes


class Racer:
    """Does a task."""

    def __init__(self, task: Task, sso: SsoUnderTest) -> None:
        self._task = task
        self._worker = sso
        self._sso = sso.sso
        self._random = random.Random(task.seed)
        self._is_over = False
        self._turns = BoundedSemaphore(CONCURRENT)
        self._done: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._errors: list[str] = []
        self.tokens = {number: (name, ust) for number, (name, ust) in enumerate(task.tokens)}

    def run(self) -> Outcome:
        """All of it."""
        import gevent

        if self._task.admin:
            self._administer()
        else:
            greenlets = [gevent.spawn(self._use, number) for number in self.tokens]
            eventually(self._has_lock, self._task.seconds)
            self._is_over = True
            gevent.joinall(greenlets)
        return Outcome(
            dict(self._done), dict(self._refused), self._errors[:MAX_ERRORS], list(self.tokens.values())
        )

    def _attempt(self, what: str, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What an action returns; None if it was refused, or failed, which must not happen."""
        from junctor.server.sso.errors import ValidationError

        try:
            result = action(*arguments, **named)
        except ValidationError as refused:
            self._refused[f"{what} {refused.sub_status[0]}"] += 1
            return None
        except Exception:  # noqa: BLE001 - this is what the test looks for
            self._errors.append(f"{what}: {traceback.format_exc()}")
            return None
        self._done[what] += 1
        return result

    def _has_lock(self) -> bool:
        """Whether a super-user is locked, after which the administrators are done."""
        import gevent

        gevent.sleep(0.1)  # between two looks; the other greenlets race on
        with self._worker.store.engine.connect() as connection:
            locked = "SELECT count(*) FROM sso_user WHERE is_super_user AND is_locked"
            return bool(connection.exec_driver_sql(locked).scalar())

    def _use(self, number: int) -> None:
        import gevent

        gevent.sleep(self._random.random())  # users do not come all at once; nothing is waited for
        while True:
            with self._turns:
                if self._is_over:
                    return
                self._use_once(number)
            gevent.sleep(self._random.random())

    def _use_once(self, number: int) -> None:
        username, ust = self.tokens[number]
        caller, sessions = self._worker.caller(ust), self._sso.sessions
        turn = self._random.random()
        if turn < 0.35:
            self._attempt("renew", sessions.renew, caller)
        elif turn < 0.6:
            self._attempt("get", self._sso.users.get, caller)
        elif turn < 0.75:
            self._attempt("list", sessions.get_list, caller)
        elif turn < 0.8:
            self._attempt("end others", sessions.end_others, caller)
        elif turn < 0.9:
            self._attempt("log out", sessions.log_out, caller)
        else:
            self._log_in(number, username)

    def _log_in(self, number: int, username: str) -> None:
        from junctor.server.sso.login import Credentials

        credentials = Credentials(username=username, password=self._random.choice(PASSWORDS))
        made = self._attempt("log in", self._sso.login.log_in, self._worker.caller(), credentials)
        if made is not None:
            self.tokens[number] = (username, made.ust)

    def _administer(self) -> None:
        import gevent

        task, users = self._task, self._sso.users
        kinds = ["lock", "unlock", "approve", "reject", "password", "rename", "create", "delete", "link"]
        plan = kinds * ROUNDS
        self._random.shuffle(plan)
        for kind in plan:
            user_id, username = self._random.choice(task.users)
            caller = self._worker.caller(task.admin)
            if kind in ("lock", "unlock"):
                self._attempt(kind, users.set_lock, caller, user_id, is_locked=kind == "lock")
            elif kind in ("approve", "reject"):
                self._attempt(kind, users.decide, caller, user_id, is_approved=kind == "approve")
            elif kind == "rename":
                name = self._random.choice((username, f"pool{self._random.randrange(20)}"))
                self._attempt(kind, users.update, caller, {"username": name}, user_id)
            elif kind == "create":
                data = {"username": f"Pool{self._random.randrange(20)}", "password": PASSWORDS[0]}
                self._attempt(kind, users.create, caller, data)
            elif kind == "delete":
                self._attempt(kind, users.delete, caller, user_id)
            elif kind == "password":
                self._change_password(user_id)
            else:
                self._attempt(kind, self._worker.context.audit.chain.link_next)
            gevent.sleep(
                self._random.random() * 0.02
            )  # gives the others their turn at another moment each time
        self._attempt(
            "lock rival", users.set_lock, self._worker.caller(task.admin), task.rival, is_locked=True
        )

    def _change_password(self, user_id: str) -> None:
        from junctor.server.sso.change_password import NewPassword

        wanted = NewPassword(new_password=self._random.choice(PASSWORDS), user_id=user_id, must_change=False)
        self._attempt(
            "password", self._sso.change_password.change, self._worker.caller(self._task.admin), wanted
        )


def main() -> None:
    """The program."""
    from junctor.sql.engine import connect
    from junctor.sql.secrets import Keyring, parse_keys
    from junctor.sql.store import Store
    from tests.helpers.sso import SsoUnderTest

    task = Task(**json.loads(sys.stdin.readline()))
    engine = connect(task.url, pool_size=5)
    worker = SsoUnderTest(Store.open(engine, task.cluster, Keyring(parse_keys(task.keys))))
    worker.sso.sessions.start()
    racer = Racer(task, worker)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    outcome = racer.run()
    worker.stop()
    engine.dispose()
    sys.stdout.write(json.dumps(asdict(outcome)))
