"""Draw the ratios of a benchmark as a bar chart: ``python -m examples.chart benchmark.json docs/latency.svg``."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, ROW, LEFT, TOP = 760, 24, 170, 56
BAR = WIDTH - LEFT - 150


def chart(document: dict[str, Any]) -> str:
    """An SVG with a bar for each model: ours through ONNX Runtime's latency; shorter is faster, the line is equal speed."""
    rows = {
        name: row["engines"]
        for name, row in document["rows"].items()
        if row.get("batch") == 1 and "onnxruntime" in row["engines"]
    }
    ratios = {name: engines["onnxruntime"]["ratio"] for name, engines in rows.items()}
    ordered = sorted(ratios, key=lambda name: ratios[name])
    longest = max([1.2, *ratios.values()])
    scale = BAR / longest
    height = TOP + ROW * len(ordered) + 20
    equal = LEFT + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">Latency as a share of ONNX Runtime\'s (shorter is faster)</text>',
        f'<text x="{LEFT}" y="42" fill="#666">{escape(_machine(document["machine"]))}</text>',
    ]
    for position, name in enumerate(ordered):
        ratio = ratios[name]
        top = TOP + ROW * position
        colour = "#2a7f4f" if ratio <= 1 else "#b5651d"
        times = f"{ratio:.2f} ({rows[name]['tensoropt']['median_ms']:.2f} ms)"
        parts += [
            f'<text x="{LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(name.removeprefix("light_"))}</text>',
            f'<rect x="{LEFT}" y="{top + 4}" width="{ratio * scale:.1f}" height="{ROW - 8}" fill="{colour}"/>',
            f'<text x="{LEFT + ratio * scale + 6:.1f}" y="{top + 16}">{times}</text>',
        ]
    bottom = TOP + ROW * len(ordered) + 4
    parts.append(
        f'<line x1="{equal:.1f}" y1="{TOP - 4}" x2="{equal:.1f}" y2="{bottom}" stroke="#333" stroke-dasharray="4 3"/>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _machine(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, f32, batch 1, ONNX Runtime {machine['onnxruntime']}"


def main(arguments: list[str]) -> int:
    """Read a benchmark's JSON and write the chart."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = map(Path, arguments)
    target.write_text(chart(json.loads(source.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
