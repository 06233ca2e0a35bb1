import json

import pytest

from ptm_dist.history import attempts_of, since, summed
from ptm_dist.watched import Watched
from tests.unit.test_status import T0, make_run, observe, started, steady, write


def ended(attempt, at, code, cause, **fields):
    return {
        "event": "attempt_ended",
        "attempt": attempt,
        "time": at,
        "exit_code": code,
        "cause": cause,
        "message": "why",
        "workers": 2,
    } | fields


def placed(attempt, at, workers, step, **fields):
    return {"event": "attempt_placed", "attempt": attempt, "time": at, "workers": workers, "wanted_workers": 4, "step": step} | fields


def test_the_log_of_the_driver_tells_everything():
    found = attempts_of(
        observe(
            placed(1, T0, 4, 0, nodes=["a", "b"]),
            ended(1, T0 + 3600, 60, "oom", workers=4, step=40, kept_step=32, lost_steps=8, seconds=3600.0),
            placed(2, T0 + 3700, 2, 32, nodes=["a"]),
            started(1, 0, T0 + 10),
            *steady(40, at=T0 + 10),
            started(2, 32, T0 + 3710),
            *steady(8, 32, T0 + 3710, 2),
        ),
        True,
        {},
    )
    first, second = found
    assert (first.workers, first.wanted_workers, first.nodes, first.first_step, first.last_step) == (4, 4, ("a", "b"), 0, 40)
    assert (first.cause, first.exit_code, first.message, first.lost_steps, first.compute_hours) == ("oom", 60, "why", 8, 4.0)
    assert (second.cause, second.exit_code, second.ended_at, second.workers, second.lost_steps) == ("running", None, None, 2, 0)
    assert (second.first_step, second.last_step) == (32, 40)
    assert summed(found) == {
        "attempts": 2,
        "steps": 40,
        "lost_steps": 8,
        "hours": pytest.approx((3600 + 18) / 3600),
        "compute_hours": pytest.approx(4 + 2 * 18 / 3600),
        "causes": {"oom": 1, "running": 1},
    }


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], ("killed", None)),
        ([{"exit_code": 60, "message": "lost a peer"}], ("lost_worker", 60)),
        ([{"exit_code": 60, "message": "lost a peer"}, {"exit_code": 41, "message": "full"}], ("storage", 41)),
        ([{"exit_code": 10, "message": "stopped"}], ("stopped", 10)),
        ([{"exit_code": 99, "message": "?"}], ("defect", 99)),
    ],
)
def test_without_it_the_messages_of_ranks_tell_the_cause(errors, expected):
    (found,) = attempts_of(observe(started(1, 0, T0), *steady(5)), False, {1: errors})
    assert (found.cause, found.exit_code) == expected


def test_why_an_attempt_was_asked_to_stop_is_its_cause():
    stopping = {"event": "stopping", "attempt": 1, "time": T0 + 5, "step": 5, "reason": "preempted"}
    (found,) = attempts_of(observe(started(1, 0, T0), *steady(5), stopping), False, {1: [{"exit_code": 10, "message": ""}]})
    assert found.cause == "preempted"


def test_steps_since_the_last_checkpoint_are_lost_until_somebody_goes_on_elsewhere():
    saved = {"event": "checkpoint_saved", "attempt": 1, "time": T0 + 30, "step": 30, "seconds": 1.0, "bytes": 1}
    events = [started(1, 0, T0), *steady(30), saved, *steady(10, 30, T0 + 31)]
    assert [found.lost_steps for found in attempts_of(observe(*events), False, {})] == [10]
    stepped_back = [*events, started(2, 20, T0 + 60), *steady(4, 20, T0 + 60, 2)]
    assert [found.lost_steps for found in attempts_of(observe(*stepped_back), True, {})] == [20, 0]


def test_attempts_that_never_started_are_told():
    never = ended(1, T0 + 60, 60, "lost_worker", step=0, kept_step=0, lost_steps=0, seconds=60.0)
    found = attempts_of(observe(placed(1, T0, 2, 0), never, started(2, 0, T0 + 90), *steady(2, 0, T0 + 90, 2)), True, {})
    assert [(a.attempt, a.cause, a.first_step, a.last_step, a.lost_steps) for a in found] == [
        (1, "lost_worker", 0, 0, 0),
        (2, "running", 0, 2, 0),
    ]


def test_what_ended_before_the_last_day_is_left_out():
    events = [started(1, 0, T0), *steady(5), started(2, 5, T0 + 90_000), *steady(5, 5, T0 + 90_000, 2)]
    found = attempts_of(observe(*events), False, {})
    assert [attempt.attempt for attempt in since(found, 86_400, T0 + 100_000)] == [2]
    assert len(since(found, 200_000, T0 + 100_000)) == 2


def test_no_attempts_have_a_sum():
    assert attempts_of(observe(), True, {}) == []
    assert summed([]) == {"attempts": 0, "steps": 0, "lost_steps": 0, "hours": 0.0, "compute_hours": 0.0, "causes": {}}


def test_a_run_directory_gives_its_attempts_with_the_words_of_its_ranks(tmp_path):
    run = make_run(tmp_path / "run", [started(1, 0, T0, code="0.1.0+abc"), *steady(6)])
    run.logs(1).mkdir(parents=True)
    (run.logs(1) / "rank-0.error.json").write_text(json.dumps({"exit_code": 60, "message": "worker 0 lost a peer"}))
    (run.logs(1) / "rank-1.error.json").write_text(json.dumps({"exit_code": 50, "message": "loss is not finite"}))
    (run.logs(1) / "rank-2.error.json").write_text("{torn")
    (found,) = Watched.open(run.path).attempts()
    assert (found.cause, found.exit_code, found.message, found.code) == ("numeric", 50, "loss is not finite", "0.1.0+abc")
    with (run.path / "supervision.jsonl").open("w") as file:
        file.write(json.dumps(ended(1, T0 + 9, 50, "numeric", step=6, kept_step=0, lost_steps=6, seconds=9.0)) + "\n")
    write(run, started(2, 0, T0 + 20))
    first, second = Watched.open(run.path).attempts()
    assert (first.lost_steps, first.seconds, second.cause) == (6, 9.0, "killed")
