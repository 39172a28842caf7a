"""Charts as inline SVG: they need no script, print well and take their colours from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 42


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: for the legend.
        points: (x, y), drawn in order; a point without y (None) interrupts the line.
        series: 1 to 4, which sets colour and dashes.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    series: int


@dataclass(frozen=True)
class Axes:
    """The frame of a chart: value ranges, titles and the positions of the ticks."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Returns the pixels of a point."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns round numbers that cover a range, `most` steps at most."""
    if not math.isfinite(high - low) or high <= low:
        high = low + 1.0
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    start = math.floor(low / step + 1e-9)
    ticks = []
    while True:
        ticks.append(round(start * step, 12))
        if ticks[-1] >= high - 1e-9 * step:
            return ticks
        start += 1


def draw_lines(axes: Axes, lines: Sequence[Line], title: str, marks: Sequence[float] = (), dots: bool = True) -> Markup:
    """Draws lines with a legend in the corner.

    Args:
        axes: the frame.
        lines: what is drawn.
        title: what a person who cannot see the chart is told.
        marks: x of vertical dashed lines.
        dots: whether points get a dot.
    """
    parts = [_frame(axes)]
    for x in marks:
        (px, _), bottom, top = axes.place(x, axes.y[0]), _HEIGHT - _BOTTOM, _TOP
        parts.append(f'<line class="mark" x1="{px:.1f}" x2="{px:.1f}" y1="{bottom}" y2="{top}"/>')
    for line in lines:
        segments: list[list[tuple[float, float]]] = [[]]
        for x, y in line.points:
            if y is None:
                segments.append([])
            else:
                segments[-1].append(axes.place(x, y))
        for segment in filter(None, segments):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in segment)
            parts.append(f'<polyline class="s{line.series}" points="{path}"/>')
            if dots:
                parts += [f'<circle class="s{line.series}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in segment]
    return _svg(title, parts) + _legend(lines)


def draw_bars(
    axes: Axes, bars: Sequence[tuple[float, float, Sequence[float]]], labels: Sequence[str], title: str
) -> Markup:
    """Draws stacked bars.

    Args:
        axes: the frame.
        bars: (left x, right x, heights of the stack from the bottom).
        labels: of the stack's parts.
        title: what a person who cannot see the chart is told.
    """
    parts = [_frame(axes)]
    for left, right, heights in bars:
        base = 0.0
        for series, height in enumerate(heights, 1):
            if height:
                (x0, y0), (x1, y1) = axes.place(left, base), axes.place(right, base + height)
                parts.append(
                    f'<rect class="s{series}" x="{x0 + 0.5:.1f}" y="{y1:.1f}" width="{x1 - x0 - 1:.1f}" '
                    f'height="{max(y0 - y1, 0.6):.1f}"/>'
                )
                base += height
    return _svg(title, parts) + _legend([Line(label, (), series) for series, label in enumerate(labels, 1)], "bars")


def _frame(axes: Axes) -> str:
    parts = []
    for value in axes.y_ticks:
        x, y = axes.place(axes.x[0], value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    for value in axes.x_ticks:
        x, _ = axes.place(value, axes.y[0])
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:,g}</text>'
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="title" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(axes.x_title)}</text>"
    )
    parts.append(
        f'<text class="title" transform="rotate(-90 13 {middle})" x="13" y="{middle}" text-anchor="middle">'
        f"{escape(axes.y_title)}</text>"
    )
    return "".join(parts)


def _svg(title: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        + "".join(parts)
        + "</svg>"
    )


def _legend(lines: Sequence[Line], kind: str = "") -> Markup:
    items = "".join(
        f'<span class="key"><svg aria-hidden="true" viewBox="0 0 26 10"><line class="s{line.series}" x1="1" x2="25" '
        f'y1="5" y2="5"/></svg>{escape(line.label)}</span>'
        for line in lines
    )
    return Markup(f'<p class="legend {kind}">{items}</p>')
