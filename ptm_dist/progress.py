"""What a person sees: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ptm_dist.driver.run import Watcher
from ptm_dist.events import probed
from ptm_dist.report import FilledMask, Run, continue_texts, fill_masks, summary

PLAIN_SECONDS: Final = 5.0
"""How often a line is printed where there is no terminal."""


@dataclass
class _Rate:
    """Tokens per second and time left over the steps of an attempt, by the clock of the workers: news may come late, and together."""

    started_at: float = 0.0
    first_step: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, event: dict[str, Any]) -> None:
        self.tokens += event["tokens"]
        self.seconds = max(event["seconds"], event["time"] - self.started_at)

    def per_second(self) -> float:
        return self.tokens / max(1e-6, self.seconds)

    def seconds_left(self, step: int, total: int) -> float:
        return (total - step - 1) * self.seconds / max(1, step + 1 - self.first_step)


class Display:
    """Shows stages and steps."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console, self._bar = console, bar
        self._total = 0
        self._tasks: dict[str, TaskID] = {}
        self._rate = _Rate()
        self._printed_at = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def stage(self, name: str, done: int, total: int) -> None:
        """Show how far a stage of the preparation is."""
        if self._bar is None:
            if done == total:
                self.say(f"prepare {name}: {total} of {total}")
            return
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(f"prepare {name}", total=total, note="")
        self._bar.update(self._tasks[name], completed=done, total=total)

    def event(self, event: dict[str, Any]) -> None:
        """Show an event of training."""
        show = getattr(self, f"_on_{event['event']}", None)
        if show:
            show(event)

    def supervised(self, event: dict[str, Any]) -> None:
        """Show what the supervisor does between attempts."""
        if event["event"] == "attempt_ended" and event["exit_code"]:
            self.say(f"attempt {event['attempt']} ended at step {event['step']:,}: {event['message']}")
        elif event["event"] == "restarting":
            left = f"{event['restarts_left']} more restarts before a new checkpoint"
            self.say(f"going on from the last checkpoint in {event['seconds']:.0f} s ({event['reason']}; {left})")
        elif event["event"] == "stepped_back":
            self.say(f"the newest checkpoint is set aside, going on from step {event['step']:,}: {event['reason']}")
        elif event["event"] == "waiting_for_capacity":
            self.say(f"waiting for workers: room for {event['workers']} now, at least {event['least']} are needed")

    def _on_attempt_started(self, event: dict[str, Any]) -> None:
        self._total = event["total_steps"]
        self._rate = _Rate(event["time"], event["step"])
        self.say(f"attempt {event['attempt']}: {event['world']} workers from step {event['step']:,}; metrics at {event['metrics']}")
        if self._bar is not None:
            self._tasks["train"] = self._bar.add_task("train", total=self._total, completed=event["step"], note="")

    def _on_chosen(self, event: dict[str, Any]) -> None:
        self.say(f"{event['key']}: auto is {event['value']}")

    def _on_initialized(self, event: dict[str, Any]) -> None:
        fresh = f"; fresh: {', '.join(event['fresh'])}" if event["fresh"] else ", every parameter"
        self.say(f"weights from {event['source']}{fresh}")

    def _on_heads_added(self, event: dict[str, Any]) -> None:
        self.say(f"step {event['step']:,}: new, with fresh weights: {', '.join(event['parameters'])}")

    def _on_code_changed(self, event: dict[str, Any]) -> None:
        self.say(f"this attempt runs other code ({event['before']} -> {event['after']}): its losses may differ in their last digits")

    def _on_step(self, event: dict[str, Any]) -> None:
        self._rate.add(event)
        note = f"loss {event['loss']:.3f}  {self._rate.per_second():,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._tasks["train"], completed=event["step"] + 1, note=note)
        elif time.monotonic() - self._printed_at >= PLAIN_SECONDS or event["step"] + 1 == self._total:
            self._printed_at = time.monotonic()
            left = self._rate.seconds_left(event["step"], self._total)
            self.say(f"step {event['step'] + 1:,} of {self._total:,}  {note}  {left:.0f} s left")

    def _on_evaluated(self, event: dict[str, Any]) -> None:
        name, entropy, labels = event["task"], "", ""
        if event.get("unigram_entropy"):
            entropy = f", unigram entropy {event['unigram_entropy']:.3f}"
        elif event.get("baseline_accuracy"):
            name = f"{name} {event['objective']}"
            labels = f" (labels alone {event['baseline_loss']:.3f}, {event['baseline_accuracy']:.1%})"
        accuracy = "" if event["accuracy"] is None else f", accuracy {event['accuracy']:.1%}"
        told = f"loss {event['loss']:.3f}{entropy}{accuracy}{labels}"
        apart = "".join(f"; {source} {figures['loss']:.3f}" for source, figures in event.get("sources", {}).items())
        self.say(f"step {event['step']:,}: held-out {name} {told}{apart}")

    def _on_probed(self, event: dict[str, Any]) -> None:
        self.say(f"step {event['step']:,}: probe {event['probe']} accuracy {probed(event)}")

    def _on_checkpoint_failed(self, event: dict[str, Any]) -> None:
        self.say(f"step {event['step']:,}: the checkpoint could not be written, training goes on: {event['reason']}")

    def _on_checkpoint_quarantined(self, event: dict[str, Any]) -> None:
        self.say(f"a damaged checkpoint was set aside: {event['reason']}")


@contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    """Show progress while the block runs."""
    if not console.is_terminal:
        display = Display(console, None)
        yield Watcher(display.stage, display.event, display.say, display.supervised)
        return
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        display = Display(console, bar)
        yield Watcher(display.stage, display.event, display.say, display.supervised)


def show_table(console: Console, rows: list[tuple[str, str]]) -> None:
    """Print rows of name and value."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows:
        table.add_row(name, Text(value, overflow="fold"))
    console.print(table)


def show_results(console: Console, run: Run, exported: Path, environment: str) -> None:
    """Print figures, places, what the model makes of held-out text, and what to try next."""
    console.print()
    show_table(console, [*summary(run), ("exported model", str(exported))])
    heads = {objective.head.kind for task in run.recipe.tasks.values() for objective in task.objectives}
    if "masked_lm" in heads:
        filled_masks = fill_masks(run)
        number = {1: "One word", 2: "Two words", 3: "Three words"}.get(len(filled_masks), "No word")
        console.print(f"\n{number} the model has not seen, hidden in held-out text:")
        for filled in filled_masks:
            console.print(_shown(filled))
    if "causal_lm" in heads:
        console.print("\nHeld-out text, and how the model goes on:")
        for before, after in continue_texts(run):
            console.print(Text.assemble(f"  {' '.join(before.split())}", (" ".join(after.split()).join((" ", "")), "cyan")))
    console.print(f"\nTo go on:  source {environment}/bin/activate", markup=False)
    for example in (
        f"ptm report {run.folder.path}",
        f"python -c \"from ptm_dist import load_run; print(load_run('{run.folder.path}').steps())\"",
        f"ptm run {run.folder.recipe_path} --text YOUR_FOLDER",
    ):
        console.print(f"  {example}", markup=False)


def _shown(filled: FilledMask) -> Text:
    guesses = ", ".join(f"{word} {share:{'.0%' if share >= 0.01 else '.1%'}}" for word, share in filled.guesses)
    before, after = (" ".join(part.split()) for part in (filled.before, filled.after))
    return Text.assemble(f"  ...{before} ", ("[" + filled.truth.strip() + "]", "bold"), f" {after}...\n", (f"      {guesses}", "cyan"))
