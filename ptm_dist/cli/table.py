"""Tables of a heading and lines: drawn on a terminal, elsewhere a line a row with the columns below each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

NO_STYLES: Final[Mapping[str, str]] = {}


def show_columns(
    console: Console,
    heading: Sequence[str],
    lines: Sequence[Sequence[str]],
    numbers: Collection[str] = (),
    whole: Collection[str] = (),
    styles: Mapping[str, str] = NO_STYLES,
) -> None:
    """Print lines below a heading.

    Columns of `numbers` stand to the right; they and those of `whole` are never cut in two. On a terminal a cell that is a key of `styles`
    has that style.
    """
    if console.is_terminal:
        table = Table(box=None, pad_edge=False)
        for name in heading:
            # A number that is cut in two reads as two numbers.
            table.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in (*numbers, *whole))
        for line in lines:
            table.add_row(*(Text(cell, style=styles.get(cell, ""), overflow="fold") for cell in line))
        console.print(table, soft_wrap=False)
        return
    rows = [heading, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(heading, row, widths, strict=True)
        text = "  ".join(cell.rjust(width) if name in numbers else cell.ljust(width) for name, cell, width in cells)
        console.print(text.rstrip(), markup=False, soft_wrap=True)
