"""What trackers are told, how often, and what happens when one of them fails."""

import builtins
import json
import threading

import pytest

from ptm_dist.errors import ConfigError
from ptm_dist.plugins import plugin
from ptm_dist.trackers import TRACKERS
from ptm_dist.trackers import sink as sink_module
from ptm_dist.trackers.base import Tracker, TrackerSettings, note, noted, reached, scalars, settings_of
from ptm_dist.trackers.sink import Sink
from tests.tiny import tiny_recipe
from tests.unit.trackers.story import KILLED, SAVED, TOTAL, attempt_of, loss, make_run

STEP = {"event": "step", "step": 4, "task": "nsp", "loss": 3.0, "losses": {"masked_lm": 2.5, "classify_sequence": 0.5}, "seconds": 0.5}
STEP |= {"learning_rate": 1e-3, "gradient_norm": float("nan"), "loss_scale": None, "tokens": 100, "time": 1.0}


class Notes(Tracker):
    kind = "notes"

    def __init__(self, run, every_steps=1):
        super().__init__(run, every_steps)
        self.began, self.written, self.closed = [], [], 0

    def begin(self, attempt, start):
        self.began.append((attempt, start))

    def write(self, done, values, time):
        self.written.append((done, dict(values)))

    def close(self):
        self.closed += 1


class Opened(TrackerSettings):
    """Settings that open what a test has made."""

    made: object

    def open(self, run):
        return self.made


def test_several_objectives_are_told_apart_and_what_is_not_finite_is_left_out():
    assert scalars(STEP) == {
        "loss/nsp": 3.0,
        "loss/nsp/masked_lm": 2.5,
        "loss/nsp/classify_sequence": 0.5,
        "train/learning_rate": 1e-3,
        "train/seconds": 0.5,
        "train/tokens_per_second": 200.0,
    }


def test_held_out_figures_are_told_by_task_objective_and_source(tmp_path):
    event = list(attempt_of(make_run(tmp_path), 1, 0, 20))[-1]
    assert event["event"] == "evaluated"
    found = scalars(event)
    assert found["held_out/mlm/masked_lm/loss"] == event["loss"]
    assert found["held_out/mlm/masked_lm/a/loss"] == 2.0
    assert found["held_out/mlm/masked_lm/b/accuracy"] == 0.5
    assert "held_out/mlm/masked_lm/baseline_loss" not in found


def test_one_step_in_ten_of_each_task_is_told_and_the_last(tmp_path):
    tracker = Notes(make_run(tmp_path), every_steps=10)
    tracker.observe({"event": "attempt_started", "attempt": 1, "step": 0, "total_steps": 36})
    for step in range(36):
        tracker.observe(STEP | {"step": step, "task": "ab"[step % 2]})
    told = {task: [done for done, values in tracker.written if f"loss/{task}" in values] for task in "ab"}
    assert told == {"a": [1, 11, 21, 31], "b": [2, 10, 20, 30, 36]}


class KeepsFirst(Notes):
    def begin(self, attempt, start):
        super().begin(attempt, start)
        self.reached = reached(self.run, attempt)


def told_of(kind, *trackers):
    return [done for notes in trackers for done, values in notes.written if kind in values]


def test_every_step_is_told_once_by_a_tracker_that_keeps_what_it_heard_first(tmp_path):
    run = make_run(tmp_path)
    first, second = KeepsFirst(run), KeepsFirst(run)
    for event in attempt_of(run, 1, 0, KILLED):
        first.observe(event)
    for event in attempt_of(run, 2, SAVED, TOTAL):
        second.observe(event)
    assert (first.began, second.began) == ([(1, 0)], [(2, SAVED)])
    assert told_of("loss/mlm", first, second) == list(range(1, TOTAL + 1))
    assert told_of("held_out/mlm/masked_lm/loss", first, second) == [0, 20, 40]
    assert told_of("checkpoint/bytes", first, second) == [8, 16, 24, 32, 40]
    assert (first.succeeded, second.succeeded) == (False, True)
    assert reached(run, 2) == {"step": 21, "evaluated": 20, "checkpoint_saved": 16}
    assert reached(run, 1) == {}


def test_what_a_tracker_lost_is_told_again_from_the_event_log_in_order_with_the_last_word(tmp_path):
    run = make_run(tmp_path)
    for number, start, stop in ((1, 0, KILLED), (2, SAVED, 30), (3, 24, 28)):
        list(attempt_of(run, number, start, stop))
    notes = Notes(run)
    notes.tell_again(3, 10, 24)
    assert told_of("loss/mlm", notes) == list(range(11, 25))
    losses = {done: values["loss/mlm"] for done, values in notes.written if "loss/mlm" in values}
    assert losses == {done: loss(done - 1, 1 if done <= SAVED else 2) for done in range(11, 25)}
    assert [done for done, _ in notes.written] == sorted(done for done, _ in notes.written)
    sparse = Notes(run, every_steps=10)
    sparse.tell_again(3, -1, 24)
    assert told_of("loss/mlm", sparse) == [1, 10, 20]
    assert told_of("held_out/mlm/masked_lm/loss", sparse) == [0, 20]


def test_a_run_keeps_what_is_known_of_it_at_each_place(tmp_path):
    run = make_run(tmp_path)
    assert noted(run, "wandb /p") == {}
    note(run, "wandb /p", id="one", done=-1)
    note(run, "wandb /p", done=7)
    note(run, "mlflow x", id="two")
    assert noted(run, "wandb /p") == {"id": "one", "done": 7}
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb /p": {"id": "one", "done": 7}, "mlflow x": {"id": "two"}}


def test_a_tracker_is_not_told_where_texts_and_weights_come_from(tmp_path):
    told = settings_of(make_run(tmp_path))
    assert told["model"]["hidden"] == 32
    assert told["digest"] == tiny_recipe().digest
    assert not {"sources", "init", "metrics"} & told.keys()


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, kind, package):
    import_module = builtins.__import__("importlib").import_module

    def absent(name, *rest):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return import_module(name, *rest)

    monkeypatch.setattr("importlib.import_module", absent)
    settings = TRACKERS[kind].model_validate({"kind": kind} | ({"tracking_uri": "https://h"} if kind == "mlflow" else {}))
    with pytest.raises(ConfigError, match=rf"kind {kind} needs the package {package}.*pip install") as raised:
        Sink([settings], make_run(tmp_path))
    assert raised.value.exit_code == 20


def test_a_recipe_names_a_tracker_by_its_kind():
    validate = plugin(TRACKERS).func
    assert validate({"kind": "wandb", "project": "mine"}).mode == "offline", "no network unless asked for"
    with pytest.raises(Exception, match="did you mean 'wandb'"):
        validate({"kind": "wandbb"})
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD"):
        validate({"kind": "mlflow", "tracking_uri": "https://me:secret@host"})


class Broken(Notes):
    kind = "broken"

    def write(self, done, values, time):
        raise SystemExit("the server said no to key-123456")


def test_a_tracker_that_fails_is_reported_once_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "key-123456")
    run, lines = make_run(tmp_path), []
    bad, good = Broken(run), Notes(run)
    sink = Sink([Opened(made=bad), Opened(made=good)], run, lines.append)
    for event in attempt_of(run, 1, 0, TOTAL):
        sink.observe(event)
    sink.close()
    assert lines == ["tracker broken is told nothing more of this attempt: SystemExit: the server said no to ***"]
    assert (bad.closed, good.closed) == (1, 1)
    assert len([done for done, values in good.written if "loss/mlm" in values]) == TOTAL


class Slow(Notes):
    free = threading.Event()

    def begin(self, attempt, start):
        self.free.wait(30)


def test_a_tracker_that_hangs_delays_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "MOST_WAITING", 20)
    run, lines = make_run(tmp_path), []
    sink = Sink([Opened(made=Slow(run))], run, lines.append)
    for event in attempt_of(run, 1, 0, TOTAL):
        sink.observe(event)
    sink.close(0.1)
    Slow.free.set()
    assert lines == [
        "trackers: 20 events wait for them; they are told nothing more of this attempt",
        "trackers: not done after 0 s; what they had not sent may be missing",
    ]


def test_without_trackers_nothing_is_started(tmp_path):
    before = threading.active_count()
    sink = Sink([], make_run(tmp_path))
    sink.observe(STEP)
    sink.close()
    assert threading.active_count() == before
