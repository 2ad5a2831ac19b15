"""Charts of a run as SVG text: faults over time, rates, latencies; one axis of time for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from junctor.cli.chaos.figures import Figures, Span

WIDTH, LEFT, RIGHT = 1000.0, 118.0, 14.0
TOP, BOTTOM = 10.0, 26.0
LANE = 22.0  # height of a kind of fault
PLOT = 190.0  # height of the charts of values
SHORTEST = 3.0  # width of a fault that was over at once
STEPS = (1, 2, 5)
MOST_TICKS = 10
FASTEST = 0.001  # seconds; the latency axis begins here
DECADES = ("1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s", "1000 s")


@dataclass(frozen=True, slots=True)
class Line:
    """A series to draw: a value for each interval, None where there is a gap; ``style`` is its class in the style sheet."""

    name: str
    style: str
    values: Sequence[float | None]
    is_filled: bool = False


def timeline(figures: Figures) -> str:
    """The faults: a lane for each kind, a bar for each fault."""
    kinds = list(dict.fromkeys(span.kind for span in figures.spans))
    if not kinds:
        return '<p class="quiet">There were no faults.</p>'
    height = TOP + LANE * len(kinds) + BOTTOM
    parts = [*_time_axis(figures.seconds, height)]
    for number, kind in enumerate(kinds):
        y = TOP + LANE * number
        parts.append(
            f'<text class="label" x="{LEFT - 8:g}" y="{y + LANE * 0.68:.1f}" text-anchor="end">{escape(kind)}</text>'
        )
        parts += (_bar(span, figures.seconds, y + 3, LANE - 6) for span in figures.spans if span.kind == kind)
    return _svg(height, parts, "Faults over time")


def rates(figures: Figures) -> str:
    """Messages a second, published and received."""
    lines = (
        Line("received, all subscriptions", "received", figures.received, is_filled=True),
        Line("acknowledged to publishers", "acknowledged", figures.acknowledged),
    )
    top = nice_above(max((*figures.received, *figures.acknowledged, 1.0)))
    ticks = [(value, f"{value:g}") for value in steps(top, 4)]
    return _plot(figures, lines, ticks, lambda value: value / top, "Messages a second")


def latencies(figures: Figures) -> str:
    """How long messages took, on a logarithmic axis."""
    lines = (
        Line("slowest", "slowest", figures.slowest),
        Line("median", "median", figures.median),
    )
    largest = max((value for value in figures.slowest if value is not None), default=1.0)
    decades = min(len(DECADES) - 1, max(2, math.ceil(math.log10(max(largest, FASTEST) / FASTEST))))
    ticks = [(FASTEST * 10**number, DECADES[number]) for number in range(decades + 1)]

    def place(value: float) -> float:
        return min(1.0, math.log10(max(value, FASTEST) / FASTEST) / decades)

    return _plot(figures, lines, ticks, place, "Latency")


def nice_above(value: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not below ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (*STEPS, 10) if power * step >= value)


def steps(top: float, most: int) -> list[float]:
    """Evenly spaced round values from 0 to ``top``, at most about so many."""
    step = nice_above(top / most)
    return [step * number for number in range(int(top / step + 1e-9) + 1)]


def _plot(
    figures: Figures,
    lines: Sequence[Line],
    ticks: Sequence[tuple[float, str]],
    place: Callable[[float], float],
    title: str,
) -> str:
    height = TOP + PLOT + BOTTOM
    parts = [_shade(span, figures.seconds) for span in figures.spans]
    for value, label in ticks:
        y = TOP + PLOT * (1 - place(value))
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="label" x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        )
    parts += _time_axis(figures.seconds, height)
    for line in lines:
        parts += _drawn(line, figures, place)
    return _svg(height, parts, title) + _legend(lines)


def _drawn(line: Line, figures: Figures, place: Callable[[float], float]) -> Iterator[str]:
    for run in _runs(line.values):
        points = [
            (_x((number + 0.5) * figures.bin, figures.seconds), TOP + PLOT * (1 - place(value)))
            for number, value in run
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if line.is_filled:
            bottom = TOP + PLOT
            area = f"{points[0][0]:.1f},{bottom:.1f} {path} {points[-1][0]:.1f},{bottom:.1f}"
            yield f'<polygon class="area {line.style}" points="{area}"/>'
        if len(points) == 1:
            yield f'<circle class="dot {line.style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2"/>'
        else:
            yield f'<polyline class="line {line.style}" points="{path}"/>'


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The stretches without gaps."""
    run: list[tuple[int, float]] = []
    for number, value in enumerate(values):
        if value is not None:
            run.append((number, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _time_axis(seconds: float, height: float) -> Iterator[str]:
    bottom = height - BOTTOM
    yield f'<line class="axis" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'
    for value in steps(seconds, MOST_TICKS):
        x = _x(value, seconds)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>'
        yield f'<text class="label" x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{value:g} s</text>'


def _bar(span: Span, seconds: float, y: float, height: float) -> str:
    x, width = _extent(span, seconds)
    tip = f"{span.kind} {span.text}, {span.start:.1f} to {span.end:.1f} s"
    return (
        f'<rect class="fault" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3">'
        f"<title>{escape(tip)}</title></rect>"
    )


def _shade(span: Span, seconds: float) -> str:
    x, width = _extent(span, seconds)
    return (
        f'<rect class="shade" x="{x:.1f}" y="{TOP:g}" width="{width:.1f}" height="{PLOT:g}">'
        f"<title>{escape(span.kind)}</title></rect>"
    )


def _extent(span: Span, seconds: float) -> tuple[float, float]:
    x = _x(span.start, seconds)
    return x, max(SHORTEST, _x(span.end, seconds) - x)


def _x(time: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, time / seconds)


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _legend(lines: Iterable[Line]) -> str:
    items = "".join(
        f'<span><i class="key {line.style}"></i>{escape(line.name)}</span>' for line in reversed(list(lines))
    )
    return f'<p class="legend">{items}</p>'
