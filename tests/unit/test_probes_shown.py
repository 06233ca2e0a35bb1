"""What probes reach, wherever a run is shown: while it runs, where it stands, in the table at the end, on its page, to trackers."""

import io
import math

import pytest
from rich.console import Console

from ptm_dist.cli.screen import screen_of, show_plain
from ptm_dist.page.run import data_of
from ptm_dist.progress import Display
from ptm_dist.report import last_probes, load_run, summary
from ptm_dist.trackers.base import KINDS, scalars, settings_of
from ptm_dist.watched import Watched
from tests.unit.test_status import T0, make_run, started, steady
from tests.unit.train.test_probe import MOOD


def probed(step, name="mood", accuracy=0.75, attempt=1, **fields):
    told = {"event": "probed", "attempt": attempt, "time": T0 + step, "step": step, "probe": name, "accuracy": accuracy}
    return told | {"loss": 0.5, "baseline_accuracy": 0.6, "rows": 100} | fields


@pytest.fixture
def run(tmp_path):
    """A run of twenty steps with two probes, of which the second attempt has gone back to step 10."""
    first = [started(1, 0, T0), probed(0, accuracy=0.5), probed(0, "tags"), *steady(15), probed(10), probed(15, accuracy=0.99)]
    second = [started(2, 10, T0 + 50), *steady(10, 10, T0 + 50, attempt=2), probed(20, accuracy=0.8, attempt=2)]
    return make_run(tmp_path / "run", [*first, *second])


def printed(show):
    text = io.StringIO()
    show(Console(file=text, width=120, force_terminal=False))
    return text.getvalue()


def test_a_line_while_it_runs():
    assert printed(lambda console: Display(console, None).event(probed(1000))) == (
        "step 1,000: probe mood accuracy 75.0%, loss 0.500 (most frequent class 60.0%)\n"
    )


def test_where_a_run_stands(run):
    status = Watched.open(run.path).status()
    assert status.to_json()["probes"] == [
        {"probe": "mood", "step": 20, "accuracy": 0.8, "loss": 0.5, "baseline_accuracy": 0.6},
        {"probe": "tags", "step": 0, "accuracy": 0.75, "loss": 0.5, "baseline_accuracy": 0.6},
    ]
    lines = printed(lambda console: show_plain(console, status)).splitlines()
    assert "probe mood            accuracy 80.0% at step 20 (most frequent class 60.0%)" in lines
    assert "probe tags            accuracy 75.0% at step 0 (most frequent class 60.0%)" in lines
    assert "accuracy 80.0% at step 20" in printed(lambda console: console.print(screen_of(Watched.open(run.path), 120)))


def test_a_curve_on_the_page_without_what_was_done_again(run):
    assert data_of(Watched.open(run.path))["probes"] == [
        {"probe": "mood", "steps": [0, 10, 20], "accuracy": [0.5, 0.75, 0.8], "baseline_accuracy": [0.6] * 3},
        {"probe": "tags", "steps": [0], "accuracy": [0.75], "baseline_accuracy": [0.6]},
    ]


def test_a_figure_that_is_not_finite_is_none(tmp_path):
    run = Watched.open(make_run(tmp_path / "run", [started(1, 0, T0), *steady(3), probed(3, accuracy=math.nan, loss=math.nan)]).path)
    assert data_of(run)["probes"][0]["accuracy"] == [None]
    assert run.status().to_json()["probes"][0]["accuracy"] is None


def test_rows_of_the_table(run):
    found = dict(summary(load_run(run.path)))
    assert found["held-out accuracy, probe mood"] == "80.0%, loss 0.500 (most frequent class 60.0%)"
    assert last_probes(load_run(run.path)).keys() == {"mood", "tags"}


def test_trackers_are_told_figures_and_not_where_items_come_from(tmp_path):
    assert "probed" in KINDS
    assert scalars(probed(8)) == {"probe/mood/accuracy": 0.75, "probe/mood/loss": 0.5, "probe/mood/baseline_accuracy": 0.6}
    assert scalars(probed(8, accuracy=math.nan)).keys() == {"probe/mood/loss", "probe/mood/baseline_accuracy"}
    told = settings_of(make_run(tmp_path / "run", evaluate={"downstream": {"mood": MOOD}}))["evaluate"]["downstream"]["mood"]
    assert told.keys() == {"format", "labels", "every_steps", "rows"}
