"""The plot: how many times faster than written by hand, as bars on a logarithmic scale; plain SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 920, 250, 60, 13, 16, 100
LOW, HIGH = 0.25, 16.0
COLOURS = (
    "#0b6e4f",
    "#4fae8a",
    "#8fb8de",
    "#5c80bc",
    "#d9a441",
    "#c8703d",
    "#a44a8c",
    "#7a6c9d",
    "#c9b458",
    "#9a9a9a",
    "#c4c4c4",
)


def _x(value: float) -> float:
    share = (math.log2(min(max(value, LOW), HIGH)) - math.log2(LOW)) / (math.log2(HIGH) - math.log2(LOW))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def svg(title: str, groups: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """
    Return a plot.

    Args:
        title: What it shows.
        groups: By the name of a group, how many times faster each contestant is.
        names: Contestants in the order of their colours.
    """
    colours = dict(zip(names, COLOURS[: len(names)], strict=True))
    parts, y = [], float(TOP)
    for group, bars in groups.items():
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + len(bars) * BAR / 2 + 4:.0f}" text-anchor="end">{escape(group)}</text>'
        )
        for name in (each for each in names if each in bars):
            value = bars[name]
            start, end = sorted((_x(1), _x(value)))
            weight = ' font-weight="bold"' if name == names[0] else ""
            parts.append(
                f'<rect x="{start:.1f}" y="{y:.0f}" width="{max(end - start, 1):.1f}" height="{BAR - 2}" '
                f'fill="{colours[name]}"><title>{escape(f"{group}: {name} {value:.2f}")}</title></rect>'
            )
            parts.append(f'<text x="{end + 4:.1f}" y="{y + BAR - 4:.0f}" class="small"{weight}>{value:.2f}</text>')
            y += BAR
        y += GAP
    grid = []
    for power in range(round(math.log2(LOW)), round(math.log2(HIGH)) + 1):
        x, value = _x(2.0**power), 2.0**power
        colour = "#222" if value == 1 else "#ddd"
        grid.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{y - GAP + 4:.0f}" stroke="{colour}"/>')
        grid.append(f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle" class="small">{value:g}</text>')
    legend, x, line = [], 12.0, 40
    for name in names:
        if x + 26 + 6.1 * len(name) > WIDTH:
            x, line = 12.0, line + 16
        legend.append(f'<rect x="{x:.0f}" y="{line}" width="10" height="10" fill="{colours[name]}"/>')
        legend.append(f'<text x="{x + 14:.0f}" y="{line + 9}" class="small">{escape(name)}</text>')
        x += 26 + 6.1 * len(name)
    height = y + 4
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [
            head,
            "<style>.small { font-size: 10px; }</style>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>',
            f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
            *grid,
            *parts,
            *legend,
            "</svg>",
            "",
        ]
    )
