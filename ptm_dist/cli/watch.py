"""What people and scripts ask of runs: where they stand, what became of their attempts, a report, several beside each other."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from ptm_dist.cli.words import out
from ptm_dist.errors import ConfigError

if TYPE_CHECKING:
    from ptm_dist.watched import Watched

LIVE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 2.0

Since = Annotated[str | None, typer.Option("--since", help="Only attempts that ran in the last 24h, 90m, 7d.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Where the page goes.", show_default=False)]
Axis = Literal["steps", "tokens", "seconds", "flops"]


def status(paths: list[Path] | None, once: bool, as_json: bool, watch_exit: bool) -> None:
    """Say where runs stand, by default all in runs/; one run on a terminal live, until it ends or Ctrl-C."""
    from ptm_dist.run import RunFolder
    from ptm_dist.watched import Watched

    found = paths or [path for path in sorted(Path("runs").glob("*")) if RunFolder(path).exists]
    if not found and not as_json:
        out.print("no runs here yet. Start one: ptm run configs/quickstart.yaml")
    if watch_exit:
        _wait_for_end(found, as_json)
    runs = (Watched.open(path) for path in found)
    if as_json:
        for run in runs:
            _print_json(run.status().to_json())
    elif len(found) == 1 and paths and (once or out.is_terminal):
        _show_one(next(runs), once)
    else:
        for run in runs:
            out.print(run.line(), markup=False)


def _show_one(run: Watched, once: bool) -> None:
    from rich.live import Live

    from ptm_dist.cli.screen import screen_of, show_plain

    if not out.is_terminal:
        show_plain(out, run.status())
        return
    if once or not run.alive:
        out.print(screen_of(run, out.width))
        return
    with Live(screen_of(run, out.width), console=out, auto_refresh=False) as live:
        try:
            while run.alive:
                time.sleep(LIVE_SECONDS)
                run.refresh()
                live.update(screen_of(run, out.width), refresh=True)
        except KeyboardInterrupt:
            return  # The run goes on; only the view ends.


def _wait_for_end(paths: list[Path], as_json: bool) -> None:
    """Wait for the end of one run and exit with its code.

    Raises:
        ConfigError: not one run was named, or it has not begun and nobody works on it.

    """
    from ptm_dist.watched import Watched

    if len(paths) != 1:
        raise ConfigError("--watch-exit waits for one run. Example: ptm status runs/quickstart-1a2b3c4d --watch-exit")
    run = Watched.open(paths[0])
    while run.alive:
        time.sleep(POLL_SECONDS)
        run.refresh()
    ended = run.status()
    if ended.exit_code is None:
        raise ConfigError(f"{paths[0]} has not begun, and nothing works on it. Start it: ptm train {paths[0]}/recipe.json --run {paths[0]}")
    if as_json:
        _print_json(ended.to_json())
    else:
        out.print(run.line(), markup=False)
        if ended.message:
            out.print(ended.message, markup=False)
    raise typer.Exit(ended.exit_code)


def history(path: Path, since: str | None, as_json: bool, called: str) -> None:
    """Print a line for each attempt of a run, and their sum."""
    from ptm_dist.cli.screen import moment, shown_nodes, span
    from ptm_dist.cli.table import show_columns
    from ptm_dist.history import since as recent
    from ptm_dist.history import summed
    from ptm_dist.watched import Watched, seconds_in

    run = Watched.open(path)
    attempts = run.attempts() if since is None else recent(run.attempts(), seconds_in(since), run.looked_at)
    total = summed(attempts)
    if as_json:
        _print_json({"run": called, "attempts": [attempt.to_json() for attempt in attempts], "sum": total})
        return
    heading = ("attempt", "started", "for", "workers", "nodes", "steps", "ended", "lost", "compute hours")
    lines = [
        (
            str(attempt.attempt),
            moment(attempt.started_at),
            span(attempt.seconds),
            f"{attempt.workers} of {attempt.wanted_workers}",
            shown_nodes(attempt.nodes),
            f"{attempt.first_step:,} to {attempt.last_step:,}",
            attempt.cause if attempt.exit_code in {None, 0} else f"{attempt.cause} ({attempt.exit_code})",
            f"{attempt.lost_steps:,}",
            f"{attempt.compute_hours:,.2f}",
        )
        for attempt in attempts
    ]
    causes = ", ".join(f"{count} {cause}" for cause, count in total["causes"].items())
    hours = f"{total['compute_hours']:,.2f}"
    lines.append(("sum", "", span(total["hours"] * 3600), "", "", f"{total['steps']:,}", causes, f"{total['lost_steps']:,}", hours))
    shown = [place for place, name in enumerate(heading) if name != "nodes" or any(line[place] for line in lines)]
    lines = [tuple(line[place] for place in shown) for line in lines]
    show_columns(out, [heading[place] for place in shown], lines, ("attempt", "for", "lost", "compute hours"), ("started", "steps"))


def report(path: Path, html: Path, called: str) -> None:
    """Print the figures of a run and write its page of plots; a copy of a run is `called` by the address of the run."""
    from ptm_dist.page.run import page_of
    from ptm_dist.progress import show_table
    from ptm_dist.report import load_run, summary
    from ptm_dist.store import write_atomic
    from ptm_dist.watched import Watched

    rows = [(name, value.replace(str(path), called)) for name, value in summary(load_run(path))]
    write_atomic(html, page_of(Watched.open(path)).replace(str(path), called).encode())
    show_table(out, [*rows, ("page", str(html))])


def serve_report(path: Path, port: int) -> None:
    """Print the figures of a run and serve its page to this machine until Ctrl-C."""
    from ptm_dist.page.server import serve
    from ptm_dist.progress import show_table
    from ptm_dist.report import load_run, summary
    from ptm_dist.watched import Watched

    rows = summary(load_run(path))
    with serve(Watched.open(path), port) as url:
        show_table(out, [*rows, ("page", url)])
        out.print("Ctrl-C ends the page; the run goes on", markup=False)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


def compare(paths: list[Path], at: Axis, html: Path | None) -> None:
    """Print the figures of runs at an equal point.

    Raises:
        ConfigError: fewer than two runs are named, or one has nothing to compare.

    """
    from ptm_dist.cli.table import show_columns
    from ptm_dist.page.compare import compared, page_of
    from ptm_dist.store import write_atomic
    from ptm_dist.watched import Watched

    if len(paths) < 2:
        raise ConfigError("compare: name two runs or more. Example: ptm compare runs/one runs/other --at tokens")
    runs = [Watched.open(path) for path in paths]
    table = compared(runs, at)
    show_columns(out, table.heading, table.lines, table.heading[1:])
    if html:
        write_atomic(html, page_of(runs, at).encode())
        out.print(f"page {html}", markup=False)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
