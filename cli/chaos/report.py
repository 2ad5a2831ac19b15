"""The report of a run: one HTML page that needs nothing else, to be kept, sent and printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from junctor.cli.chaos import charts
from junctor.cli.chaos.checker import Judgement, Tally, Verdict, Violation
from junctor.cli.chaos.figures import Figures
from junctor.cli.chaos.plan import Plan, describe

MAX_SHOWN = 10  # violations of a promise


def render(plan: Plan, judgement: Judgement, figures: Figures, *, about: str, again: str) -> str:
    """The page; ``about`` says in a line which cluster it was, when, and which version; ``again`` is the command that repeats the plan."""
    parts = [
        f"<header><p class='about'>{escape(about)}</p><h1>Publish/subscribe under faults</h1>{_banner(judgement)}</header>",
        _cards(judgement, figures),
        _section("Promises", "".join(_verdict(verdict) for verdict in judgement.verdicts)),
        _section("Faults", charts.timeline(figures)),
        _section("Messages a second", charts.rates(figures)),
        _section("Time from publishing to the first reception", charts.latencies(figures)),
        _section("Subscriptions", _subscriptions(judgement.tallies)),
        _section("Plan", _plan(plan, again)),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Chaos verification, seed {plan.seed}</title><style>{_style()}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def summary(judgement: Judgement) -> str:
    """The result in a sentence."""
    broken = [verdict.name for verdict in judgement.verdicts if not verdict.is_kept]
    if broken:
        return f"Broken: {', '.join(broken).lower()}."
    return (
        f"Every promise was kept: {judgement.acknowledged:,} messages were acknowledged, and none was lost."
    )


def _banner(judgement: Judgement) -> str:
    state, mark = ("kept", "&#10003;") if judgement.is_kept else ("broken", "&#10007;")
    return f'<p class="banner {state}"><b>{mark}</b> {escape(summary(judgement))}</p>'


def _cards(judgement: Judgement, figures: Figures) -> str:
    receptions = sum(tally.receptions for tally in judgement.tallies)
    repeated = sum(tally.repeated for tally in judgement.tallies)
    items = (
        (f"{judgement.acknowledged:,}", "messages acknowledged"),
        (f"{receptions:,}", "receptions"),
        (f"{repeated:,}", "received again, and marked so"),
        (f"{len(figures.spans)}", "faults"),
        (span_text(figures.overall.get("p50", 0.0)), "median latency"),
        (span_text(figures.overall.get("max", 0.0)), "longest, faults included"),
    )
    cards = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in items)
    return f'<div class="cards">{cards}</div>'


def _verdict(verdict: Verdict) -> str:
    state, mark = ("kept", "&#10003;") if verdict.is_kept else ("broken", "&#10007;")
    count = "kept" if verdict.is_kept else f"{len(verdict.violations):,} violations"
    details = "" if verdict.is_kept else _violations(verdict.violations)
    return (
        f'<div class="verdict {state}"><i>{mark}</i><div><h3>{escape(verdict.name)}</h3>'
        f"<p>{escape(verdict.promise)}</p>{details}</div>"
        f"<p class='count'>{count}<span>{verdict.checked:,} checked</span></p></div>"
    )


def _violations(violations: Sequence[Violation]) -> str:
    shown = "".join(
        f"<li><code>{escape(item.subscription)}</code> <code>{escape(item.message)}</code> {escape(item.text)}</li>"
        for item in violations[:MAX_SHOWN]
    )
    more = f"<li>and {len(violations) - MAX_SHOWN:,} more</li>" if len(violations) > MAX_SHOWN else ""
    return f"<ul>{shown}{more}</ul>"


def _subscriptions(tallies: Iterable[Tally]) -> str:
    head = ("Subscription", "Kind", "Topic", "Acknowledged", "Received", "Again", "Receptions", "Slowest")
    rows = [
        (
            item.name,
            item.kind,
            item.topic,
            f"{item.expected:,}",
            f"{item.received:,}",
            f"{item.repeated:,}",
            f"{item.receptions:,}",
            span_text(item.slowest),
        )
        for item in tallies
    ]
    return (
        f"{_table(head, rows, numbers_from=3)}<p class='quiet'>Fewer received than acknowledged: messages which expired, or, "
        "with hand-over, which were in answers that were lost.</p>"
    )


def _plan(plan: Plan, again: str) -> str:
    lines = "\n".join(describe(plan))
    return f"<p>The same again: <code>{escape(again)}</code></p><pre>{escape(lines)}</pre>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int) -> str:
    def cells(values: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="number">{escape(value)}</{tag}>'
            if place >= numbers_from
            else f"<{tag}>{escape(value)}</{tag}>"
            for place, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def span_text(seconds: float) -> str:
    """A span of time with the unit that suits it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _style() -> str:
    return files(__package__).joinpath("report.css").read_text(encoding="utf-8")
