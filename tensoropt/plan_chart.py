"""A plan as a picture: where every buffer lies in the arena while the sequence runs, with the budget."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from tensoropt.plan_types import Problem

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 420, 90, 60, 40

COLOURS = {"first": "#3a8f64", "recomputed": "#d9843b", "fetched": "#3b6fd9"}
"""By how a value was had."""


def chart(problem: Problem, found: Mapping[str, Any]) -> str:
    """An SVG: positions of the sequence across, bytes of the arena upward; each value in the colour of how it was had."""
    names = {action.name: number for number, action in enumerate(problem.actions)}
    sequence = [names[name] for name in found["sequence"]]
    spans = _spans(problem, sequence, found["offsets"])
    top = max(found["arena_bytes"], found["budget_bytes"] if found["budget_bytes"] < 2 * found["arena_bytes"] else 0, 1)
    across, upward = (WIDTH - LEFT - 20) / max(1, len(sequence)), (HEIGHT - TOP - BOTTOM) / top
    base = HEIGHT - BOTTOM
    fetched = f", blue: {found['fetched']} fetched from the host" if found["fetched"] else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(str(found["name"]))}: arena over the sequence</text>',
        f'<text x="{LEFT}" y="40" fill="#555">{found["recomputed"]} recomputations, {found["duration_increase_percent"]:.3f} % '
        f"longer ({found['status']}); green: first computations, orange: recomputed{fetched}</text>",
    ]
    for value, first, last, offset, kind in spans:
        size = problem.values[value].bytes
        if not size:
            continue
        colour = COLOURS[kind]
        title = escape(f"{problem.values[value].name}: {size} bytes at {offset}, positions {first} to {last}")
        left, width = LEFT + first * across, (last - first + 1) * across
        over, height = base - (offset + size) * upward, max(0.3, size * upward)
        parts.append(
            f'<rect x="{left:.2f}" y="{over:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}" '
            f'fill-opacity="0.75" stroke="white" stroke-width="0.3"><title>{title}</title></rect>'
        )
    for label, size in (
        ("budget", found["budget_bytes"]),
        ("arena", found["arena_bytes"]),
        ("live peak", found["peak_bytes"]),
    ):
        height = base - size * upward
        if height >= TOP - 5:
            dashes = "" if label == "budget" else ' stroke-dasharray="4 3"'
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{height:.1f}" y2="{height:.1f}" stroke="#222"{dashes}/>'
            )
    parts.append(
        f'<text x="{LEFT - 8}" y="{base - found["budget_bytes"] * upward + 4:.1f}" text-anchor="end">budget</text>'
    )
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 12}" fill="#555">{len(sequence)} positions; dashed: arena and live peak</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _spans(problem: Problem, sequence: list[int], offsets: list[Any]) -> list[tuple[int, int, int, int, str]]:
    """Value, first and last position, offset, and how it was had."""
    spans: list[list[Any]] = []
    current: dict[int, int] = {}
    for position, (step, found) in enumerate(zip(sequence, offsets, strict=True)):
        for value in problem.actions[step].reads:
            spans[current[value]][2] = position
        places = found if isinstance(found, list) else [found]
        for value, offset in zip(problem.actions[step].writes, places, strict=False):
            again = value in current
            fetched = step >= len(problem.steps)
            current[value] = len(spans)
            spans.append(
                [value, position, position, offset, "fetched" if fetched else "recomputed" if again else "first"]
            )
    for value, index in current.items():
        if problem.values[value].kept:
            spans[index][2] = len(sequence) - 1
    return [(value, first, last, offset, kind) for value, first, last, offset, kind in spans]
