"""What recipes cost, as text."""

from __future__ import annotations

from typing import Final

from rich.console import Console

from ptm_dist.cli.table import show_columns
from ptm_dist.cost import Cost

UNKNOWN: Final = "not known yet"
LABELS: Final = {
    "parameters": "parameters",
    "backbone": "  backbone",
    "heads": "  heads",
    "steps": "steps",
    "sequences": "sequences seen",
    "tokens": "tokens seen, at most",
    "training_flops": "training FLOPs",
}
"""What each figure of a cost is called in a table."""


def as_text(figure: float | None) -> str:
    """Return a figure as people read it: counts in full, FLOPs, which are no counts, with three digits."""
    if figure is None:
        return UNKNOWN
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.2e}".replace("e+", "e")


def lines_of(cost: Cost) -> list[str]:
    """Return what `ptm show` says: a line of parameters, by parts, and one of what the run takes."""
    parts = ", ".join(f"{part} {count:,}" for part, count in cost.parts.items())
    figures = {name: as_text(figure) for name, figure in cost.figures.items()}
    return [
        f"parameters {figures['parameters']}{f': {parts}' if parts else ''}",
        *(f"{LABELS[name]} {figures[name]}" for name in ("steps", "sequences", "tokens", "training_flops")),
    ]


def show_costs(console: Console, names: tuple[str, str], costs: tuple[Cost, Cost]) -> None:
    """Print the figures of two recipes side by side, and how many times the first the second takes."""
    before, after = (cost.figures for cost in costs)
    lines = [(LABELS[name], as_text(before[name]), as_text(after[name]), _ratio(before[name], after[name])) for name in before]
    heading = ("", *_headings(names), "ratio")
    show_columns(console, heading, lines, numbers=heading[1:])


def _headings(names: tuple[str, str]) -> tuple[str, str]:
    # Columns go by their headings.
    return names if names[0] != names[1] else (names[0], f"{names[1]} (second)")


def _ratio(before: float | None, after: float | None) -> str:
    return f"{after / before:.3g}" if before and after else ""
