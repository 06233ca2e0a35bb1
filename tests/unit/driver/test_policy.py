"""What follows an attempt: budgets that refill, waits that grow, loops that end."""

from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.driver.policy import HOPELESS, MEANT, Ended, decide
from ptm_dist.errors import EXIT_CODES, RETRYABLE
from ptm_dist.terms import Supervise

RULES = Supervise(restarts=3, wait_seconds=4.0, longest_wait_seconds=20.0)


def ended(cause="lost_worker", code=60, started=0, step=5, kept=0, attempt=1):
    return Ended(attempt, cause, code, "", started, step, kept, 2, 10.0)


def test_finished_and_stopped_runs_are_done():
    assert decide([ended("finished", 0)], RULES, 0.0).action == "done"
    assert decide([ended("stopped", 10)], RULES, 0.0).action == "done"


def test_what_a_restart_cannot_mend_is_not_restarted():
    for code in EXIT_CODES.keys() - RETRYABLE - {0}:
        assert decide([ended("numeric", code)], RULES, 0.0).action == "give_up"


def test_without_a_budget_the_first_failure_is_the_last():
    decision = decide([ended()], Supervise(), 0.0)
    assert (decision.action, decision.reason) == ("give_up", "no restarts are allowed")


def test_the_budget_counts_failures_since_the_last_new_checkpoint():
    barren = [ended(step=step) for step in (5, 6, 7)]
    assert [decide(barren[:count], RULES, 0.0).restarts_left for count in (1, 2, 3)] == [2, 1, 0]
    assert decide([*barren, ended(step=9)], RULES, 0.0).action == "give_up"
    fruitful = ended(started=0, step=12, kept=8)
    assert decide([*barren, fruitful], RULES, 0.0).restarts_left == 2


def test_waits_double_up_to_the_longest_and_chance_spreads_them():
    patient = RULES.model_copy(update={"restarts": 9})
    waits = [decide([ended(step=step) for step in range(5, 5 + count)], patient, 0.999) for count in (1, 2, 3, 4)]
    assert [round(decision.wait_seconds) for decision in waits] == [4, 8, 16, 20]
    assert decide([ended()], RULES, 0.0).wait_seconds == 2.0


def test_nodes_that_leave_and_join_cost_nothing():
    meant = [ended("preempted", 10, step=step) for step in range(5, 15)]
    decision = decide([*meant, ended("resized", 10)], RULES, 0.5)
    assert (decision.action, decision.wait_seconds, decision.restarts_left) == ("restart", 0.0, 3)
    assert decide([*meant, ended()], RULES, 0.0).restarts_left == 2


def test_the_same_failure_at_the_same_step_goes_one_checkpoint_back_and_then_ends():
    """Also where the steps in between leave new checkpoints, which fill the budget up again."""
    loop = [ended(started=16, step=21, kept=16), ended(started=16, step=21, kept=16)]
    assert decide(loop[:1], RULES, 0.0).action == "restart"
    assert decide(loop, RULES, 0.0).action == "step_back"
    loop.append(ended(started=8, step=21, kept=16))
    assert decide(loop, RULES, 0.0).action == "restart"
    loop.append(ended(started=16, step=21, kept=16))
    assert decide(loop, RULES, 0.0).action == "give_up"


def test_failing_to_start_is_no_crash_loop():
    waiting = [ended(started=16, step=16, kept=16)] * 3
    assert decide(waiting, RULES, 0.0).action == "restart"


ENDS = st.tuples(st.sampled_from(["lost_worker", "hung", "preempted", "resized"]), st.integers(0, 3), st.booleans())


@given(st.lists(ENDS, min_size=1, max_size=60), st.floats(0, 1, exclude_max=True), st.integers(0, 5))
def test_no_loop_is_endless(ends, chance, restarts):
    """Whatever happens, failures that are met with restarts are bounded by new checkpoints, and by how often a step may fail alike."""
    rules = Supervise(restarts=restarts, wait_seconds=1.0, longest_wait_seconds=8.0)
    history, failures, kept = [], 0, 0
    for cause, forward, saves in ends:
        started, kept = kept, kept + (8 if saves else 0)
        history.append(ended(cause, 10 if cause in MEANT else 60, started, kept + forward, kept))
        failures = failures if cause in MEANT else (1 if saves else failures + 1)
        decision = decide(history, rules, chance)
        assert 0 <= decision.wait_seconds <= 8.0
        if cause not in MEANT:
            alike = sum((other.step, other.cause) == (history[-1].step, cause) for other in history)
            expected = failures > restarts or ((forward > 0 or saves) and alike >= HOPELESS)
            assert (decision.action == "give_up") == expected
        if decision.action == "give_up":
            break
