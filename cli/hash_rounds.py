"""``junctor hash``: how much work a password hash should be on this machine."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import click

from junctor.cli.command import Command, Group, pass_session
from junctor.cli.session import Session

MEASURED: Final = 50_000  # rounds in a measurement
REPEATS: Final = 5
SALT_SIZE: Final = 64  # bytes
RECOMMENDED: Final = 210_000  # rounds of PBKDF2-HMAC-SHA512, OWASP's minimum


@click.group("hash", cls=Group)
def hash_() -> None:
    """Hashes of passwords: how many rounds take how long."""


@hash_.command("get-rounds", cls=Command)
@click.argument("goal", metavar="GOAL", type=click.FloatRange(0.001, 60))
@click.option("--rounds-only", is_flag=True, help="Print the number alone.")
@pass_session
def get_rounds(session: Session, /, goal: float, rounds_only: bool) -> None:
    """Finds how many rounds make a password hash take GOAL seconds on this machine.

    The number is for the field hash_secret_rounds of 'junctor edit-sso sso'.  Run it on a server while it has nothing to do.
    """
    seconds = min(_measure() for _ in range(REPEATS))
    rounds = max(1000, round(goal * MEASURED / seconds / 1000) * 1000)
    found = {"goal": goal, "rounds": rounds, "algorithm": "pbkdf2-sha512", "salt_size": SALT_SIZE}

    def show() -> None:
        if rounds_only:
            click.echo(rounds)
            return
        session.say(f"{rounds} rounds of PBKDF2-HMAC-SHA512 take {goal:g} s on this machine.")
        if rounds < RECOMMENDED:
            session.warn(
                f"{RECOMMENDED} rounds are the least that OWASP recommends; they take {seconds * RECOMMENDED / MEASURED:.2f} s."
            )

    session.answer(found, show)


def _measure() -> float:
    """The seconds that a hash takes."""
    from junctor.server.sso.pbkdf2 import derive

    started = perf_counter()
    derive(b"password", bytes(SALT_SIZE), MEASURED)
    return perf_counter() - started
