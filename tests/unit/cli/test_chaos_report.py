import re
from xml.etree import ElementTree

import pytest

from junctor.cli.chaos import charts
from junctor.cli.chaos.checker import judge
from junctor.cli.chaos.figures import figures_of, percentile
from junctor.cli.chaos.history import FAULT, INVOKE, OK, PUBLISH, RECEIVE, Event, Received, Sent
from junctor.cli.chaos.ledger import Ledger
from junctor.cli.chaos.plan import make_plan
from junctor.cli.chaos.report import render

PLAN = make_plan(4, 20)
PUBLISHER, SUBSCRIBER = PLAN.publishers[0], PLAN.subscribers[0]


def events(*, is_lost=False, message="m1"):
    sent = (Sent(message, 1),)
    yield Event(1.0, INVOKE, PUBLISH, PUBLISHER.name, 1, PUBLISHER.topic, sent=sent)
    yield Event(1.1, OK, PUBLISH, PUBLISHER.name, 1, PUBLISHER.topic, sent=sent)
    yield Event(2.0, INVOKE, FAULT, "kill-worker", 2)
    yield Event(2.5, OK, FAULT, "kill-worker", 2, text="server1, process 7")
    if not is_lost:
        for subscriber in PLAN.subscribers:
            yield Event(3.0, OK, RECEIVE, subscriber.name, received=(Received(message),))
    yield Event(4.0, INVOKE, FAULT, "reload", 3)


def page(found):
    found = list(found)
    figures = figures_of(found, Ledger.of(PLAN, found))
    return render(PLAN, judge(PLAN, found), figures, about="A cluster <here>", again="junctor chaos verify")


def test_figures_are_those_of_the_events():
    found = list(events())
    figures = figures_of(found, Ledger.of(PLAN, found))
    spans = [(span.kind, span.start, span.end, span.text) for span in figures.spans]
    assert spans == [("kill-worker", 2.0, 2.5, "server1, process 7"), ("reload", 4.0, 4.0, "")]
    assert sum(figures.acknowledged) * figures.bin == pytest.approx(1)
    assert sum(figures.received) * figures.bin == pytest.approx(len(PLAN.subscribers))
    assert figures.overall["max"] == pytest.approx(2.0)


@pytest.mark.parametrize(("rank", "expected"), [(50, 2), (99, 4), (100, 4), (1, 1)])
def test_percentiles_are_values_that_occurred(rank, expected):
    assert percentile([1, 2, 3, 4], rank) == expected


def test_nothing_has_no_percentile():
    assert percentile([], 50) is None


def test_a_report_needs_nothing_from_elsewhere():
    text = page(events())
    assert not re.search(r"""(?:src|href)=|@import|url\(|https?://""", text)
    assert "A cluster &lt;here&gt;" in text


def test_a_report_says_which_promise_was_broken_and_by_what():
    text = page(events(is_lost=True, message="<m&1>"))
    assert "Broken: no loss" in text
    assert "&lt;m&amp;1&gt;" in text
    assert "<m&1>" not in text


def test_a_report_of_a_run_without_faults_and_messages_is_one():
    assert "There were no faults." in page([])


def test_charts_are_well_formed_and_inside_their_frames():
    found = list(events())
    figures = figures_of(found, Ledger.of(PLAN, found))
    for chart in (charts.timeline(figures), charts.rates(figures), charts.latencies(figures)):
        root = ElementTree.fromstring(f"<div>{chart}</div>")
        drawn = next(root.iter("svg"))
        _, _, width, height = map(float, drawn.attrib["viewBox"].split())
        for shape in drawn.iter("rect"):
            assert 0 <= float(shape.attrib["x"]) <= width
            assert float(shape.attrib["y"]) + float(shape.attrib["height"]) <= height
        for shape in drawn.iter("polyline"):
            points = [tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1), (1.1, 2), (3, 5), (7, 10), (0.03, 0.05), (1200, 2000)]
)
def test_axes_end_at_round_values(value, expected):
    assert charts.nice_above(value) == pytest.approx(expected)
