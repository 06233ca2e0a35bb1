"""Held-out figures on a terminal, in the table at the end and on the model card: of all sources, and of each below."""

import io
import json

import pytest
from rich.console import Console

from ptm_dist.progress import Display
from ptm_dist.report import last_evaluations, load_run, summary
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe


def figures(loss, entropy=None, guess=(None, None)):
    return {"loss": loss, "accuracy": 0.5, "unigram_entropy": entropy, "baseline_loss": guess[0], "baseline_accuracy": guess[1]}


def event(objective, whole, **sources):
    return {"event": "evaluated", "step": 4, "task": "t", "objective": objective} | whole | {"sources": sources}


TOKENS = event("masked_lm", figures(5.5, 6.0), books=figures(5.0, 5.25), wiki=figures(5.75, 6.25))
PAIRS = event("classify_sequence", figures(0.5, guess=(0.625, 0.75)), books=figures(0.25, guess=(0.375, 0.875)))
BEFORE = {"event": "evaluated", "step": 4, "task": "t", "objective": "masked_lm", "loss": 5.5, "accuracy": 0.5, "unigram_entropy": 6.0}
"""An event of an earlier version."""


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (TOKENS, "step 4: held-out t loss 5.500, unigram entropy 6.000, accuracy 50.0%; books 5.000; wiki 5.750"),
        (PAIRS, "step 4: held-out t classify_sequence loss 0.500, accuracy 50.0% (labels alone 0.625, 75.0%); books 0.250"),
        (BEFORE, "step 4: held-out t loss 5.500, unigram entropy 6.000, accuracy 50.0%"),
    ],
)
def test_a_line_while_it_runs(told, line):
    printed = io.StringIO()
    Display(Console(file=printed, width=200), None).event(told)
    assert printed.getvalue() == f"{line}\n"


def run_of(folder, *events):
    run = RunFolder(folder)
    run.claim(tiny_recipe())
    run.events_path.write_text("".join(json.dumps(told) + "\n" for told in events))
    return load_run(folder)


def test_rows_of_the_table(tmp_path):
    rows = summary(run_of(tmp_path, TOKENS | {"loss": 9.0}, TOKENS, PAIRS))
    assert rows[1:-2] == [
        ("held-out loss, t, masked_lm", "5.5000 nats, accuracy 50.00%"),
        ("held-out unigram entropy", "6.0000 nats (0.50 nats above the model)"),
        ("  books", "5.0000 nats, accuracy 50.00%; unigram entropy 5.2500 nats"),
        ("  wiki", "5.7500 nats, accuracy 50.00%; unigram entropy 6.2500 nats"),
        ("held-out loss, t, classify_sequence", "0.5000 nats, accuracy 50.00%"),
        ("held-out labels alone", "0.6250 nats, accuracy 75.00%"),
        ("  books", "0.2500 nats, accuracy 50.00%; labels alone 0.3750 nats, accuracy 87.50%"),
    ]


def test_one_source_and_one_objective_need_no_names(tmp_path):
    run = run_of(tmp_path, BEFORE)
    assert [name for name, _ in summary(run)[1:-2]] == ["held-out loss, t", "held-out unigram entropy"]
    assert list(last_evaluations(run)) == ["t"]


def test_names_for_the_card_and_rows_for_a_frame(tmp_path):
    run = run_of(tmp_path, TOKENS, PAIRS)
    assert list(last_evaluations(run)) == [
        "t, masked_lm",
        "t, masked_lm, books",
        "t, masked_lm, wiki",
        "t, classify_sequence",
        "t, classify_sequence, books",
    ]
    frame = run.evaluations()
    assert list(frame["source"]) == ["", "books", "wiki", "", "books"]
    assert list(frame["loss"]) == [5.5, 5.0, 5.75, 0.5, 0.25]


def test_the_speed_is_that_of_the_workers_clock_however_late_news_come():
    printed = io.StringIO()
    display = Display(Console(file=printed, width=200), None)
    display.event({"event": "attempt_started", "attempt": 2, "time": 1000.0, "step": 600, "total_steps": 610, "world": 2, "metrics": ""})
    display.event({"event": "step", "time": 1000.5, "step": 600, "loss": 1.0, "tokens": 1000, "seconds": 0.5})
    assert "step 601 of 610  loss 1.000  2,000 tokens/s  4 s left" in printed.getvalue()
