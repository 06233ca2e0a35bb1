"""What happens at which step."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptm_dist.schedule import RATES, Constant, ContinualMultiTask, Linear, Schedule, StagePlan, TaskPlan

NAMES = ["mlm", "nsp", "sop", "order", "distance"]


@st.composite
def schedules(draw):
    def stage(number):
        tasks = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
        return StagePlan(f"s{number}", tuple(TaskPlan(t, draw(st.integers(1, 25)), draw(st.integers(1, 9)), draw(datasets)) for t in tasks))

    datasets = st.sampled_from(["short", "long"])
    return Schedule(tuple(stage(number) for number in range(draw(st.integers(1, 4)))))


def moments(schedule):
    return [schedule.at(step) for step in range(schedule.total_steps)]


@given(schedules())
def test_every_stage_gives_every_task_its_steps(schedule):
    found = moments(schedule)
    assert [moment.step for moment in found] == list(range(schedule.total_steps))
    assert [moment.stage for moment in found] == sorted(moment.stage for moment in found)
    for number, stage in enumerate(schedule.stages):
        for plan in stage.tasks:
            mine = [m for m in found if (m.stage, m.task) == (number, plan.task)]
            assert len(mine) == plan.steps
            assert {(m.rows, m.data) for m in mine} == {(plan.rows, plan.data)}


@given(schedules())
def test_positions_go_on_over_stages(schedule):
    consumed = {}
    for moment in moments(schedule):
        cursor = (moment.task, moment.data)
        assert moment.position == consumed.get(cursor, 0)
        consumed[cursor] = moment.position + moment.rows


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9))
@example([96, 46, 44, 44, 31])
def test_tasks_are_spread_evenly(steps):
    stage = StagePlan("s", tuple(TaskPlan(str(i), n, 1, "d") for i, n in enumerate(steps)))
    for index, wanted in enumerate(steps):
        seen = np.concatenate([[0], np.cumsum(stage.sequence == index)])
        expected = np.arange(stage.steps + 1) * wanted / stage.steps
        # A window from a to b deviates by the difference of two of these, so by less than 2.
        assert np.abs(seen - expected).max() < 1
        assert seen[-1] == wanted


def test_a_task_is_its_own_stage():
    stage = StagePlan("s", (TaskPlan("a", 3, 1, "d"), TaskPlan("b", 3, 1, "d"), TaskPlan("c", 6, 1, "d")))
    assert stage.sequence.tolist() == [2, 0, 1, 2] * 3


@pytest.mark.parametrize("step", [-1, 30, 10**9])
def test_no_step_outside_of_the_run(step):
    schedule = Schedule((StagePlan("a", (TaskPlan("mlm", 10, 4, "d"),)), StagePlan("b", (TaskPlan("mlm", 20, 4, "d"),))))
    with pytest.raises(IndexError, match=f"step {step} is not one of the 30 steps"):
        schedule.at(step)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(12_000, 3e-4), (24_000, 6e-4), (250_000, 3.1513e-4), (500_000, 0.0), (500_001, 0.0), (1, 6e-4 / 24_000), (0, 6e-4 / 24_000)],
)
def test_roberta_s_rate(step, rate):
    assert 6e-4 * Linear(warmup_steps=24_000).factor(step, 500_000) == pytest.approx(rate, rel=1e-4)


def test_without_warm_up_the_first_update_has_almost_the_peak():
    assert Linear().factor(1, 1000) == pytest.approx(0.999)
    assert Constant().factor(1, 1000) == 1.0


def test_constant_stays_at_the_peak():
    rate = Constant(warmup_steps=10)
    assert [rate.factor(step, 100) for step in (1, 5, 10, 11, 100)] == [0.1, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", RATES)
@given(warmup=st.integers(0, 50), total=st.integers(1, 100))
def test_rates_rise_to_one_and_never_rise_again(kind, warmup, total):
    factors = [RATES[kind](warmup_steps=warmup).factor(step, total) for step in range(total + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(one <= other for one, other in pairwise(factors[: warmup + 1]))
    assert all(one >= other for one, other in pairwise(factors[max(warmup, 1) :]))


class TestContinualMultiTask:
    def test_the_published_table(self):
        """ERNIE 2.0, table 7: four tasks of 50,000 iterations, in thousands, stage by stage."""
        found = ContinualMultiTask(tasks=("masking", "capitals", "document", "order"), steps_per_task=50_000).stages()
        columns = [[stage.get(task, 0) // 1000 for stage in found] for task in ("masking", "capitals", "document", "order")]
        assert columns == [[20, 10, 10, 10], [0, 30, 10, 10], [0, 0, 40, 10], [0, 0, 0, 50]]
        assert [sum(stage.values()) for stage in found] == [20_000, 40_000, 60_000, 80_000]

    @given(st.integers(1, 9), st.integers(1, 99))
    def test_every_task_gets_its_steps_and_none_comes_early(self, tasks, more):
        names = tuple(f"t{number}" for number in range(tasks))
        found = ContinualMultiTask(tasks=names, steps_per_task=tasks + more).stages()
        assert [set(stage) for stage in found] == [set(names[: number + 1]) for number in range(tasks)]
        assert all(sum(stage.get(name, 0) for stage in found) == tasks + more for name in names)
        assert all(steps > 0 for stage in found for steps in stage.values())

    @pytest.mark.parametrize(("tasks", "steps"), [(("a", "a"), 50), (("a", "b"), 2)])
    def test_what_cannot_be_spread_is_refused(self, tasks, steps):
        with pytest.raises(ValueError, match=r"joins once|need more than"):
            ContinualMultiTask(tasks=tasks, steps_per_task=steps)
