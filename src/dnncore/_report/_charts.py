"""Charts as SVG inside the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnncore._report._html import Html, h, number

__all__ = ["bars", "curves", "histogram", "scatter"]

COLORS = ("#1f5fa8", "#d1661b", "#2e8b57", "#8a4fa3", "#b3373f", "#6b6b6b")
_WIDTH, _HEIGHT = 360, 225
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 34


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from low to high."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * i for i in range(first, last + 1)]


def _widen(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    return low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)


class _Frame:
    """Axes with a grid: from values to places."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        x_title: str,
        *,
        log: bool = False,
        square: bool = False,
        whole: bool = False,
    ) -> None:
        self.height = _WIDTH - 10 if square else _HEIGHT
        self.log = log
        self.x_low, self.x_high = _widen(*x)
        low, high = (math.log10(y[0]), math.log10(y[1])) if log else y
        self.y_low, self.y_high = _widen(low, high)
        parts = []
        ticks = _ticks(self.y_low, self.y_high, 4)
        if log:
            whole_powers = [t for t in ticks if abs(t - round(t)) < 1e-9]
            ticks = whole_powers if len(whole_powers) > 1 else ticks
        for tick in ticks:
            at = self._place_y(tick)
            parts.append(h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, cls="grid"))
            shown = number(10**tick) if log else number(round(tick, 12))
            parts.append(h("text", shown, x=_LEFT - 6, y=at + 3.5, text_anchor="end"))
        base = self.height - _BOTTOM
        for tick in _ticks(self.x_low, self.x_high):
            if whole and tick != round(tick):
                continue
            at = self.x(tick)
            parts.append(h("line", x1=at, x2=at, y1=base, y2=base + 4, cls="axis"))
            shown = number(round(tick, 12))
            parts.append(h("text", shown, x=at, y=base + 15, text_anchor="middle"))
        parts.append(h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, cls="axis"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(h("text", x_title, x=middle, y=self.height - 4, text_anchor="middle"))
        self.parts = parts

    def x(self, value: float) -> float:
        part = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + part * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return self._place_y(math.log10(value) if self.log else value)

    def _place_y(self, value: float) -> float:
        part = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - _BOTTOM - part * (self.height - _TOP - _BOTTOM), 1)

    def draw(self, title: str, legend: Sequence[str] = ()) -> Html:
        picture = h(
            "svg", *self.parts, viewBox=f"0 0 {_WIDTH} {self.height}", role="img", aria_label=title
        )
        keys = [
            h("span", h("i", style=f"background:{COLORS[i % len(COLORS)]}"), name, cls="key")
            for i, name in enumerate(legend)
        ]
        caption = h("figcaption", h("b", title), *([h("span", *keys, cls="keys")] if keys else []))
        return h("figure", caption, picture)


def curves(
    title: str,
    lines: Mapping[str, Sequence[float]],
    *,
    x_title: str = "epoch",
    first: int = 1,
    log: bool = False,
    level: tuple[str, float] | None = None,
) -> Html:
    """Draw numbers by epoch; ``level`` is a dashed line with a name, such as a baseline."""
    found = [v for values in lines.values() for v in values if math.isfinite(v)]
    if level is not None:
        found.append(level[1])
    log = log and min(found) > 0 and max(found) > 20 * min(found)
    longest = max(len(values) for values in lines.values())
    span = (min(found), max(found))
    if not log:
        span = span[0] - 0.04 * (span[1] - span[0]), span[1] + 0.04 * (span[1] - span[0])
    frame = _Frame((first, first + longest - 1), span, x_title, log=log, whole=True)
    for i, values in enumerate(lines.values()):
        color = COLORS[i % len(COLORS)]
        points = [
            (frame.x(first + k), frame.y(v)) for k, v in enumerate(values) if math.isfinite(v)
        ]
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        frame.parts.append(h("path", d=path, stroke=color, cls="curve"))
        if len(points) <= 2:
            frame.parts += [h("circle", cx=x, cy=y, r=3, fill=color) for x, y in points]
    if level is not None:
        at = frame.y(level[1])
        frame.parts.append(h("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, cls="level"))
        frame.parts.append(
            h("text", level[0], x=_WIDTH - _RIGHT, y=at - 4 if at > 30 else at + 12,
              text_anchor="end")
        )  # fmt: skip
    return frame.draw(title, list(lines) if len(lines) > 1 else ())


def histogram(values: NDArray[Any], title: str, *, bins: int = 24) -> Html:
    """Draw a small histogram of finite numbers, without axes."""
    counts, edges = np.histogram(values, bins=bins)
    width, height = 120, 30
    step = width / len(counts)
    tallest = max(int(counts.max()), 1)
    rects = [
        h("rect", x=round(i * step, 1), y=round(height * (1 - c / tallest), 1),
          width=round(step - 0.6, 1), height=round(height * c / tallest, 1), fill=COLORS[0])
        for i, c in enumerate(counts) if c
    ]  # fmt: skip
    label = f"{title}: from {number(edges[0])} to {number(edges[-1])}"
    base = h("line", x1=0, x2=width, y1=height, y2=height, cls="axis")
    return h("svg", *rects, base, viewBox=f"0 0 {width} {height}", cls="small", role="img",
             aria_label=label)  # fmt: skip


def bars(
    rows: Sequence[tuple[Any, float, str]], *, color: str = COLORS[0], top: float | None = None
) -> Html:
    """Draw a bar for each (name, length, what is written beside it)."""
    longest = top or max((abs(length) for _, length, _ in rows), default=0.0) or 1.0
    lines = []
    for name, length, words in rows:
        width = f"width:{100 * max(length, 0) / longest:.1f}%;background:{color}"
        bar = h("span", h("i", style=width), cls="track")
        lines.append(h("div", h("span", name, cls="name"), bar, h("span", words, cls="value")))
    return h("div", *lines, cls="bars")


def scatter(
    title: str,
    x: NDArray[Any],
    y: NDArray[Any],
    x_title: str,
    *,
    most: int = 1500,
    line: Callable[[float], float],
    square: bool = False,
) -> Html:
    """Draw points, at most ``most`` of them, and a dashed line."""
    if square:
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        x_span = y_span = (float(low), float(high))
    else:
        x_span, y_span = (float(x.min()), float(x.max())), (float(y.min()), float(y.max()))
    frame = _Frame(x_span, y_span, x_title, square=square)
    ends = [frame.x_low, frame.x_high]
    frame.parts.append(
        h("line", x1=frame.x(ends[0]), y1=frame.y(line(ends[0])), x2=frame.x(ends[1]),
          y2=frame.y(line(ends[1])), cls="level")
    )  # fmt: skip
    chosen = np.arange(len(x))
    if len(x) > most:
        chosen = np.linspace(0, len(x) - 1, most).astype(int)
    # One path of round dots is far smaller than a circle for each.
    path = "".join(f"M{frame.x(float(x[i]))} {frame.y(float(y[i]))}h0" for i in chosen)
    frame.parts.append(h("path", d=path, stroke=COLORS[0], cls="dots"))
    return frame.draw(title)
