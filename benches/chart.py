"""The ratios as a bar chart in SVG, written directly: it is bars, ticks and text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from benches.report import Row, Section, times

COLORS = {
    "greenlet": "#1b7f4d",
    "gevent": "#3f6fb5",
    "asyncio": "#8a8f98",
    "uvloop": "#c9772b",
    "rloop": "#8d5aa8",
    "asyncio_gevent": "#5f8f8b",
    "asyncio_protocol": "#b5b9bf",
    "uvloop_protocol": "#e3a869",
    "generator": "#b8a13a",
    "blocking": "#a8854a",
    "native": "#b0413e",
    "greenloop_serve": "#4f9d8f",
    "bjoern": "#b0413e",
    "granian": "#c9772b",
    "gunicorn": "#8a8f98",
    "uvicorn": "#8d5aa8",
}

WIDTH = 960
LEFT, RIGHT, TOP, BOTTOM = 270, 110, 84, 36
BAR, BAR_GAP, GROUP_GAP = 13, 3, 14
LABEL_CHARACTER = 6.5


def svg(sections: list[Section], title: str, subtitle: str) -> str:
    """A bar for each peer and metric: how many times greenloop's figure the peer's is.

    The scale is logarithmic and bars start at 1x: to the right greenloop is better, to the left
    the peer. A black tick marks the ratio to reach.
    """
    groups = [
        (section, rows) for section in sections if (rows := [r for r in section.rows if r.ratio])
    ]
    scale = Scale([x for _, rows in groups for row in rows for x in _extent(row)])
    height = TOP + BOTTOM + sum(_height(rows) for _, rows in groups)
    peers = [name for name in COLORS if any(r.impl == name for _, rows in groups for r in rows)]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(16, 26, title, size=17, weight="bold"),
        _text(16, 44, subtitle, color="#666"),
    ]
    parts += _legend(peers)
    parts += _axis(scale, height)
    y = TOP
    for section, rows in groups:
        parts += _group(section, rows, scale, y)
        y += _height(rows)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


class Scale:
    """Ratios to horizontal positions, between the powers of two that hold all of `ratios`."""

    def __init__(self, ratios: list[float]) -> None:
        exponents = [math.log2(ratio) for ratio in ratios]
        self._first = min(-1, math.floor(min(exponents, default=0)))
        self._last = max(1, math.ceil(max(exponents, default=0)))

    def ticks(self) -> Iterator[float]:
        for exponent in range(self._first, self._last + 1):
            yield 2.0**exponent

    def x(self, ratio: float) -> float:
        part = (math.log2(ratio) - self._first) / (self._last - self._first)
        return LEFT + part * (WIDTH - LEFT - RIGHT)


def tick_label(ratio: float) -> str:
    return f"{ratio:g}x" if ratio >= 1 else f"1/{1 / ratio:g}x"


def _extent(row: Row) -> list[float]:
    assert row.ratio is not None
    return [row.ratio.median] + ([row.target] if row.target is not None else [])


def _height(rows: list[Row]) -> int:
    return max(3, len(rows)) * (BAR + BAR_GAP) + GROUP_GAP


def _legend(peers: list[str]) -> list[str]:
    parts = []
    x = 16
    for peer in peers:
        parts.append(f'<rect x="{x}" y="56" width="11" height="11" fill="{COLORS[peer]}"/>')
        parts.append(_text(x + 16, 66, peer))
        x += 34 + 7 * len(peer)
    parts.append(f'<rect x="{x + 4}" y="55" width="2.5" height="13" fill="#000"/>')
    parts.append(_text(x + 13, 66, "ratio to reach"))
    return parts


def _axis(scale: Scale, height: int) -> list[str]:
    parts = []
    for ratio in scale.ticks():
        x = scale.x(ratio)
        color = "#555" if ratio == 1 else "#ddd"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - BOTTOM}" '
            f'stroke="{color}"/>'
        )
        parts.append(
            _text(x, height - BOTTOM + 16, tick_label(ratio), anchor="middle", color="#666")
        )
    return parts


def _group(section: Section, rows: list[Row], scale: Scale, y: int) -> list[str]:
    per = f"per {section.metric.per}" + (" (information)" if section.informational else "")
    parts = [
        _text(LEFT - 12, y + 12, section.workload, anchor="end", weight="bold"),
        _text(LEFT - 12, y + 27, per, anchor="end", color="#666"),
    ]
    one = scale.x(1)
    for row in rows:
        assert row.ratio is not None
        end = scale.x(row.ratio.median)
        parts.append(
            f'<rect x="{min(one, end):.1f}" y="{y}" width="{abs(end - one):.1f}" height="{BAR}" '
            f'fill="{COLORS[row.impl]}"><title>{row.impl}: {times(row.ratio.median)}</title></rect>'
        )
        label = times(row.ratio.median) + ("" if row.reached is not False else " (missed)")
        # Past the bar's end, and past the target's tick where that would cross the label.
        right = max(one, end)
        if row.target is not None:
            tick = scale.x(row.target)
            parts.append(
                f'<rect x="{tick - 1:.1f}" y="{y - 1.5}" width="2.5" height="{BAR + 3}" '
                'fill="#000"/>'
            )
            if right <= tick < right + 10 + LABEL_CHARACTER * len(label):
                right = tick
        parts.append(_text(right + 6, y + 11, label, size=11))
        y += BAR + BAR_GAP
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
    color: str = "#222",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )
