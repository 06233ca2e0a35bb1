"""The event log: exact floats, torn lines, repeated steps."""

import math

from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.events import EventLog, read_events, steps_of


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_floats_come_back_with_the_same_bits(tmp_path_factory, values):
    log = EventLog(tmp_path_factory.mktemp("log") / "events.jsonl", 1)
    for step, value in enumerate(values):
        log.write("step", step=step, loss=value)
    log.close()
    back = steps_of(log.path)
    assert [math.copysign(1, back[i]["loss"]) for i in sorted(back)] == [math.copysign(1, v) for v in values]
    assert [back[i]["loss"] for i in sorted(back)] == values


def test_a_torn_line_is_passed_over_and_the_next_writer_starts_a_new_one(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 1)
    log.write("step", step=0, loss=1.0)
    log.close()
    with path.open("a") as file:
        file.write('{"event": "step", "step": 1, "lo')
    again = EventLog(path, 2)
    again.write("step", step=1, loss=2.0)
    again.close()
    assert {step: event["loss"] for step, event in steps_of(path).items()} == {0: 1.0, 1: 2.0}


def test_the_last_word_on_a_repeated_step_counts(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", 1)
    for step, loss in ((0, 1.0), (1, 2.0), (1, 3.0)):
        log.write("step", step=step, loss=loss)
    assert steps_of(log.path)[1]["loss"] == 3.0


def test_kinds_are_selected(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", 1)
    log.write("a")
    log.write("b")
    assert [event["event"] for event in read_events(log.path, "b")] == ["b"]
    assert list(read_events(tmp_path / "nothing")) == []
