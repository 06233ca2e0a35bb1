"""The time of a run by class: against a diary that knows what every moment went into, and for logs of any shape."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.goodput import CLASSES, Goodput, goodput, ratio

START = 1_000_000


class Diary:
    """Writes the two logs of a run, and beside them what each second was, by the definition and nothing else."""

    def __init__(self):
        self.now, self.attempt = Fraction(START), 0
        self.events, self.supervision = [], []
        self.true = dict.fromkeys(CLASSES, Fraction(0))
        self.steps = {}
        self.repeated = []

    def spend(self, name, seconds):
        self.now += seconds
        self.true[name] += seconds

    def tell(self, log, event, **fields):
        log.append({"event": event, "attempt": self.attempt, "time": float(self.now)} | fields)

    def place(self):
        self.attempt += 1
        self.tell(self.supervision, "attempt_placed", workers=2)

    def start(self, step, start, restore):
        self.spend("start", start)
        self.spend("restore", restore)
        self.tell(self.events, "attempt_started", step=step, start_seconds=float(start), restore_seconds=float(restore))

    def step(self, step, work, data):
        if step in self.steps:
            self.repeated.append(self.steps[step])
        self.steps[step] = (work, data)
        self.now += work + data
        self.tell(self.events, "step", step=step, seconds=float(work + data), data_seconds=float(data))

    def end(self, cause, kept):
        self.tell(self.supervision, "attempt_ended", cause=cause, kept_step=kept, lost_steps=len(self.steps) - kept)

    def truth(self):
        """Every step is productive the last time it was done and lost each time before."""
        work, data = (sum((step[part] for step in self.steps.values()), Fraction(0)) for part in (0, 1))
        lost = sum((sum(step) for step in self.repeated), Fraction(0))
        return {name: float(value) for name, value in (self.true | {"productive": work, "data": data, "lost": lost}).items()}


millis = st.integers(0, 4000).map(lambda count: Fraction(count, 1000))


@st.composite
def diaries(draw):
    """A run of some attempts; each but the last ends in the middle, and the next redoes what was not kept."""
    diary, kept = Diary(), 0
    attempts = draw(st.integers(1, 4))
    for number in range(attempts):
        diary.place()
        diary.start(kept, draw(millis), draw(millis))
        begin = kept
        # What the attempt before has lost is done again in whole: until then nobody can know that it will be.
        for step in range(begin, max(len(diary.steps), begin + draw(st.integers(0, 5)))):
            diary.step(step, draw(millis), draw(millis))
            if draw(st.booleans()):
                seconds = draw(millis)
                diary.spend("evaluation", seconds)
                diary.tell(diary.events, "evaluation_finished", step=step + 1, seconds=float(seconds))
            if draw(st.booleans()):
                seconds, fine = draw(millis), draw(st.booleans())
                diary.spend("checkpoint", seconds)
                diary.tell(diary.events, "checkpoint_saved" if fine else "checkpoint_failed", step=step + 1, seconds=float(seconds))
                kept = step + 1 if fine else kept
            diary.spend("other", draw(millis))
        if number < attempts - 1:
            diary.end(draw(st.sampled_from(("lost_worker", "hung", "preempted"))), kept)
            diary.spend("idle", draw(millis))
    return diary


@given(diaries())
def test_every_second_is_in_the_class_that_it_was_spent_on(diary):
    found = goodput(diary.events, diary.supervision, float(diary.now))
    assert found == pytest.approx(diary.truth(), abs=1e-6)
    assert sum(found.values()) == pytest.approx(float(diary.now - START), abs=1e-6)


@given(diaries(), st.randoms(use_true_random=False))
def test_the_two_logs_may_be_read_in_any_order(diary, random):
    ledger, logs = Goodput(), [list(diary.events), list(diary.supervision)]
    while any(logs):
        ledger.observe(random.choice([log for log in logs if log]).pop(0))
    assert ledger.seconds(float(diary.now)) == pytest.approx(diary.truth(), abs=1e-6)


anything = st.fixed_dictionaries(
    {"event": st.sampled_from(("attempt_placed", "attempt_started", "attempt_finished", "attempt_ended", "gave_up", "step", "evaluated",
                               "evaluation_finished", "checkpoint_saved", "restarting", "waiting_for_capacity"))},
    optional={
        "attempt": st.integers(0, 4),
        "time": st.floats(0, 1e6) | st.just(math.nan),
        "cause": st.sampled_from(("finished", "stopped", "hung")),
        "start_seconds": st.floats(-1, 1e4),
        "restore_seconds": st.floats(-1, 1e4) | st.none(),
        "seconds": st.floats(-1, 1e4) | st.just(math.inf),
        "data_seconds": st.floats(-1, 1e4),
    },
)  # fmt: skip


@given(st.lists(st.tuples(anything, st.integers(0, 6)), max_size=30), st.lists(anything, max_size=10), st.floats(0, 2e6))
def test_logs_of_any_shape_add_up_and_nothing_is_negative(told, supervision, now):
    events = [event | {"step": step} for event, step in told]
    supervision = [event | {"step": 0} for event in supervision]
    found = goodput(events, supervision, now)
    assert found.keys() == CLASSES.keys()
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in found.values())
    steps = [event["seconds"] for event in (*events, *supervision) if event["event"] == "step" and 0 < event.get("seconds", 0) < math.inf]
    assert found["productive"] <= sum(steps) * (1 + 1e-9) + 1e-6
    assert found["productive"] + found["data"] + found["lost"] <= sum(steps) * (1 + 1e-9) + 1e-6
    times = [event["time"] for event in (*events, *supervision) if math.isfinite(event.get("time", math.nan))]
    if times:
        longest_start = 2e4  # What an attempt says of its start may lie before the first line of the log.
        assert sum(found.values()) <= max(now, *times) - min(times) + longest_start


def told(event, time, attempt=1, **fields):
    return {"event": event, "attempt": attempt, "time": time} | fields


PLACED = told("attempt_placed", 100.0)
STARTED = told("attempt_started", 110.0, step=0, start_seconds=8.0, restore_seconds=2.0)


def test_what_is_being_placed_is_starting():
    assert goodput([], [PLACED], 130.0) == dict.fromkeys(CLASSES, 0.0) | {"start": 30.0}


def test_steps_are_lost_as_soon_as_a_later_attempt_begins_before_them():
    events = [STARTED, *(told("step", 120.0 + step, step=step, seconds=1.0, data_seconds=0.25) for step in range(4))]
    assert goodput(events, [PLACED], 124.0)["productive"] == 3.0
    supervision = [PLACED, told("attempt_ended", 125.0, cause="lost_worker"), told("attempt_placed", 131.0, 2)]
    again = told("attempt_started", 140.0, 2, step=1, start_seconds=9.0, restore_seconds=0.0)
    found = goodput([*events, again], supervision, 140.0)
    assert found == {
        "productive": 0.75, "data": 0.25, "start": 17.0, "restore": 2.0, "checkpoint": 0.0, "evaluation": 0.0, "lost": 3.0, "idle": 6.0,
        "other": pytest.approx(11.0),
    }  # fmt: skip
    assert ratio(found) == pytest.approx(0.75 / 40)


def test_a_repeated_step_is_lost_also_where_the_line_that_says_why_was_torn():
    events = [STARTED, *(told("step", 120.0 + at, step=step, seconds=1.0, data_seconds=0.0) for at, step in enumerate((0, 1, 2, 1)))]
    found = goodput(events, [PLACED], 124.0)
    assert (found["productive"], found["lost"]) == (2.0, 2.0)


@pytest.mark.parametrize(("cause", "idle"), [("finished", 0.0), ("stopped", 0.0), ("lost_worker", 50.0), ("preempted", 50.0)])
def test_after_its_end_a_run_waits_only_if_somebody_will_go_on(cause, idle):
    ended = told("attempt_ended", 150.0, cause=cause)
    assert goodput([STARTED], [PLACED, ended], 200.0)["idle"] == idle
    assert goodput([STARTED], [PLACED, ended, told("gave_up", 151.0)], 200.0)["idle"] == 0.0


def test_a_driver_that_died_leaves_idle_time_after_the_last_event_of_its_attempt():
    events = [STARTED, told("step", 120.0, step=0, seconds=10.0, data_seconds=0.0), told("checkpoint_saved", 121.0, step=1, seconds=1.0)]
    supervision = [PLACED, told("attempt_placed", 171.0, 2)]
    assert goodput(events, supervision, 171.0)["idle"] == 50.0


def test_waiting_for_capacity_is_no_attempt():
    ended, waiting = told("attempt_ended", 150.0, cause="lost_worker"), told("waiting_for_capacity", 155.0, 2)
    assert goodput([STARTED], [PLACED, ended, waiting, told("attempt_placed", 190.0, 2)], 195.0)["idle"] == 40.0


def test_a_run_of_before_there_was_a_log_of_the_driver():
    events = [
        told("attempt_started", 100.0, step=0),
        told("step", 104.0, step=0, seconds=4.0, data_seconds=1.0),
        told("attempt_started", 120.0, 2, step=1),
        told("step", 125.0, 2, step=1, seconds=5.0, data_seconds=0.0),
        told("attempt_finished", 125.0, 2, step=2),
    ]
    found = goodput(events, [], 999.0)
    assert found == dict.fromkeys(CLASSES, 0.0) | {"productive": 8.0, "data": 1.0, "idle": 16.0}


def test_no_log_is_no_time():
    assert goodput([], [], 100.0) == dict.fromkeys(CLASSES, 0.0)
    assert ratio(goodput([], [], 100.0)) is None
