"""``junctor chaos``: verifies on a running cluster that publish/subscribe keeps its promises."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, Command, Group, pass_session
from junctor.cli.exit_codes import ExitCode
from junctor.cli.session import Session
from junctor.sql.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from junctor.cli.chaos.checker import Judgement
    from junctor.cli.chaos.plan import Plan
    from junctor.cli.chaos.run import Result, Where
    from junctor.cli.environment import Environment

MAX_SEED = 2**32 - 1
LOOPBACK = "127.0.0.1"
SHOWN = 5  # violations of a promise, on a terminal
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 5, 14_400, 60  # as in plan.py, which --help need not import


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line of ``verify`` says."""

    seed: int
    seconds: int
    faults: tuple[str, ...] | None
    bound: int
    callback_host: str | None
    history: Path
    report: Path | None
    plan_only: bool

    @property
    def again(self) -> str:
        """The command that makes the same plan, at the same kind of cluster."""
        faults = "" if self.faults is None else f" --faults {','.join(self.faults) or 'none'}"
        return f"junctor chaos verify --seed {self.seed} --seconds {self.seconds}{faults}"


@click.group(cls=Group)
def chaos() -> None:
    """Verifies that publish/subscribe keeps its promises while things fail."""


@chaos.command(cls=ClusterCommand)
@click.argument("directory", metavar="[ENV]", required=False, type=click.Path())
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), help="The run; random by default.", metavar="NUMBER"
)
@click.option(
    "--seconds",
    type=click.IntRange(MIN_SECONDS, MAX_SECONDS),
    default=DEFAULT_SECONDS,
    show_default=True,
    metavar="NUMBER",
    help="How long to publish under faults.",
)
@click.option(
    "--faults", metavar="KINDS", help="Only these, with commas between; 'none' for none; see --plan."
)
@click.option(
    "--bound",
    type=click.IntRange(1, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How soon after the last fault everything must have arrived.",
)
@click.option(
    "--callback-host",
    metavar="HOST",
    help="The name or address by which the cluster reaches this machine; of an environment here, 127.0.0.1. "
    "Without it, nobody is notified by REST or by a service.",
)
@click.option(
    "--history", metavar="FILE", type=click.Path(dir_okay=False), help="Where to write what happened."
)
@click.option(
    "--report", metavar="FILE", type=click.Path(dir_okay=False), help="Where to write a report in HTML."
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what the run would do, and do not run it.")
@pass_session
@click.pass_context
def verify(context: click.Context, session: Session, /, directory: str | None, **given: Any) -> None:
    """Kills, pauses and cuts off parts of a cluster while messages flow, and checks every promise.

    It works with topics and subscriptions of its own, which it removes in the end.  Whatever else uses the cluster is disturbed by the
    faults: never do this in production.  Processes are only killed in an environment of this machine; of any other cluster, named by
    --address, connections are cut.  The exit code is 0 if every promise was kept, and 1 if not.  The same --seed and --seconds are the same
    plan.
    """
    session.path = directory or session.path
    options = _options(**given)
    environment = None if session.remote else session.environment()
    where = _where(session, environment, options)
    plan = _plan(options, where)
    if options.plan_only:
        session.answer(plan.as_dict(), lambda: _show_plan(plan))
        return
    result = _run(session, plan, where, options)
    if options.report is not None:
        _write_report(options.report, plan, result, of=where.address, again=options.again)
    found = _as_dict(result, options)
    session.answer(found, lambda: _show(session, result, options))
    if not result.judgement.is_kept:
        context.exit(ExitCode.NO)


@chaos.command(cls=Command)
@click.argument("history", metavar="HISTORY", type=click.Path(exists=True, dir_okay=False))
@click.option("--bound", type=click.IntRange(1, 3600), default=60, show_default=True, metavar="SECONDS")
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False))
@pass_session
@click.pass_context
def check(context: click.Context, session: Session, history: str, bound: int, report: str | None) -> None:
    """Judges the history of a run once more.

    HISTORY is a file that 'junctor chaos verify' has written.
    """
    from junctor.cli.chaos.checker import judge
    from junctor.cli.chaos.figures import figures_of
    from junctor.cli.chaos.history import plan_in, read
    from junctor.cli.chaos.ledger import Ledger
    from junctor.cli.chaos.plan import plan_of
    from junctor.cli.chaos.run import Result

    events = list(read(Path(history)))
    written = plan_in(events)
    if written is None:
        raise InvalidInput.one("", f"{history} does not begin with the plan of a run.")
    plan = plan_of(written)
    result = Result(judge(plan, events, bound), figures_of(events, Ledger.of(plan, events)), ())
    if report:
        _write_report(Path(report), plan, result, of=history, again=f"junctor chaos check {history}")
    session.answer(_verdicts(result.judgement), lambda: _show_judgement(session, result.judgement))
    if not result.judgement.is_kept:
        context.exit(ExitCode.NO)


def _options(**given: Any) -> Options:
    seed = random.randrange(MAX_SEED) if given["seed"] is None else given["seed"]  # noqa: S311 - shown, not secret
    history = given["history"]
    if history is None and not given["plan_only"]:
        directory = Path(tempfile.mkdtemp(prefix=f"junctor-chaos-{seed}-"))
        history = directory / "history.jsonl"
    return Options(
        seed=seed,
        seconds=given["seconds"],
        faults=_kinds(given["faults"]),
        bound=given["bound"],
        callback_host=given["callback_host"],
        history=Path(history or ""),
        report=Path(given["report"]) if given["report"] else None,
        plan_only=given["plan_only"],
    )


def _kinds(given: str | None) -> tuple[str, ...] | None:
    from junctor.cli.chaos.plan import FAULTS

    if given is None:
        return None
    if given == "none":
        return ()
    kinds = tuple(name.strip() for name in given.split(","))
    if unknown := [kind for kind in kinds if kind not in FAULTS]:
        raise click.BadParameter(
            f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}.", param_hint="--faults"
        )
    return kinds


def _where(session: Session, environment: Environment | None, options: Options) -> Where:
    from junctor.cli.chaos.run import Where

    address = session.web_address()
    host = options.callback_host or ("" if environment is None else LOOPBACK)
    has_proxy = urlsplit(address).scheme == "http"  # a certificate is not valid for the proxy's address
    return Where(
        address=address,
        admin=session.client(),
        environment=environment,
        callback_host=host,
        has_proxy=has_proxy,
        bound=options.bound,
    )


def _plan(options: Options, where: Where) -> Plan:
    from junctor.cli.chaos.nemeses import possible
    from junctor.cli.chaos.plan import CALLED_BACK, SUBSCRIBERS, make_plan

    faults: Sequence[str] = possible(where.environment, has_proxy=where.has_proxy)
    if options.faults is not None:
        if missing := [kind for kind in options.faults if kind not in faults]:
            raise InvalidInput.one(
                "faults", f"cannot be brought about at this cluster: {', '.join(missing)}."
            )
        faults = options.faults
    kinds = SUBSCRIBERS if where.callback_host else [kind for kind in SUBSCRIBERS if kind not in CALLED_BACK]
    return make_plan(options.seed, options.seconds, faults=faults, kinds=kinds)


def _run(session: Session, plan: Plan, where: Where, options: Options) -> Result:
    from junctor.cli.chaos.history import History
    from junctor.cli.chaos.progress import Display
    from junctor.cli.chaos.run import Run

    session.say(
        f"Seed {plan.seed}, {plan.seconds:g} s, {len(plan.faults)} faults; history in {options.history}"
    )
    try:
        history = History(options.history)
    except OSError as error:
        raise InvalidInput.one("history", f"cannot be written: {error.strerror}.") from error
    with Display(as_json=session.as_json) as display:
        return Run(plan, where, history).execute(display.tell)


def _write_report(path: Path, plan: Plan, result: Result, *, of: str, again: str) -> None:
    from junctor.cli.chaos.report import render
    from junctor.cli.reachability import installed_version

    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = f"{of}, {now}, Junctor {installed_version()}"
    try:
        page = render(plan, result.judgement, result.figures, about=about, again=again)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput.one("report", f"cannot be written: {error.strerror}.") from error


def _show_plan(plan: Plan) -> None:
    from junctor.cli.chaos.plan import describe

    for text in describe(plan):
        click.echo(text)


def _show(session: Session, result: Result, options: Options) -> None:
    _show_judgement(session, result.judgement)
    for problem in result.problems:
        session.warn(problem)
    session.say(f"The same plan again: {options.again}")
    if options.report:
        session.say(f"Report: {options.report}")


def _show_judgement(session: Session, judgement: Judgement) -> None:
    from junctor.cli.chaos.report import span_text, summary

    columns = ("Subscription", "Kind", "Topic", "Acknowledged", "Received", "Again", "Slowest")
    rows = [
        (t.name, t.kind, t.topic, t.expected, t.received, t.repeated, span_text(t.slowest))
        for t in judgement.tallies
    ]
    output.print_table(columns, rows)
    for verdict in judgement.verdicts:
        mark = (
            click.style("kept  ", fg="green")
            if verdict.is_kept
            else click.style("BROKEN", fg="red", bold=True)
        )
        click.echo(f"{mark}  {verdict.promise} ({verdict.checked:,} checked)")
        for item in verdict.violations[:SHOWN]:
            session.say("        " + " ".join(filter(None, (item.subscription, item.message, item.text))))
        if len(verdict.violations) > SHOWN:
            session.say(f"        and {len(verdict.violations) - SHOWN:,} more")
    session.say(summary(judgement))


def _as_dict(result: Result, options: Options) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "history": str(options.history),
        "problems": list(result.problems),
        "faults": len(result.figures.spans),
        "latency": result.figures.overall,
    } | _verdicts(result.judgement)


def _verdicts(judgement: Judgement) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(judgement)
    return {"kept": judgement.is_kept} | found
