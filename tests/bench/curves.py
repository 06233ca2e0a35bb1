"""Print the held-out losses of runs at equal rows as a table, and draw them: python tests/bench/curves.py OUT.svg RUN RUN..."""

import sys
from pathlib import Path

from ptm_dist.events import read_events
from ptm_dist.report import load_run

WIDTH, HEIGHT, EDGE = 640, 320, 48
COLORS = ["#1f5fa8", "#c2571a", "#3d8b40", "#7a3fa0"]


def curve(run):
    """Return (millions of rows seen, held-out loss) of a run."""
    events = load_run(run).folder.events_path
    rows = {event["step"] + 1: event["rows"] for event in read_events(events, "step")}
    return [(sum(rows[step] for step in range(1, e["step"] + 1)) / 1e6, e["loss"]) for e in read_events(events, "evaluated")]


def table(curves):
    """Return the losses side by side, in Markdown."""
    names = list(curves)
    lines = ["| rows, millions | " + " | ".join(names) + " |", "| ---: |" + " ---: |" * len(names)]
    for points in zip(*curves.values(), strict=True):
        lines.append(f"| {points[0][0]:.3f} | " + " | ".join(f"{loss:.3f}" for _, loss in points) + " |")
    return "\n".join(lines)


def drawing(curves):
    """Return the curves as SVG."""
    points = [point for found in curves.values() for point in found]
    most = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    place = lambda x, y: (EDGE + x / most * (WIDTH - 2 * EDGE), EDGE + (high - y) / (high - low) * (HEIGHT - 2 * EDGE))  # noqa: E731
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">']
    parts += [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for value in (low, (low + high) / 2, high):
        y = place(0, value)[1]
        parts += [f'<path d="M{EDGE} {y:.1f}H{WIDTH - EDGE}" stroke="#ddd"/><text x="8" y="{y + 4:.1f}">{value:.2f}</text>']
    parts += [f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">rows seen: 0 to {most:.2f} millions</text>']
    for number, (name, found) in enumerate(curves.items()):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in found))
        color = COLORS[number % len(COLORS)]
        parts += [f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>']
        parts += [f'<text x="{WIDTH - EDGE}" y="{EDGE + 16 * number}" text-anchor="end" fill="{color}">{name}</text>']
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    target, *runs = sys.argv[1:]
    found = {Path(run).name: curve(run) for run in runs}
    Path(target).write_text(drawing(found))
    print(table(found))
