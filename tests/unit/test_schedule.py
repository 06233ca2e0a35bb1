"""What happens at which step."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptm_dist.schedule import SCHEDULES, ContinualMultiTask, Growth, Schedule, StagePlan, TaskPlan

NAMES = ["mlm", "nsp", "sop", "order", "distance"]


@st.composite
def schedules(draw):
    def stage(number):
        tasks = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
        return StagePlan(f"s{number}", tuple(TaskPlan(t, draw(st.integers(1, 25)), draw(st.integers(1, 9)), draw(datasets)) for t in tasks))

    datasets = st.sampled_from(["short", "long"])
    growth = st.builds(Growth, st.floats(0.05, 1.0), st.integers(1, 120))
    return Schedule(tuple(stage(number) for number in range(draw(st.integers(1, 4)))), draw(st.none() | growth))


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
            assert {m.data for m in mine} == {plan.data}
            assert {m.rows for m in mine if not schedule.growth or m.step >= schedule.growth.steps} <= {plan.rows}


@given(schedules())
def test_positions_go_on_over_stages(schedule):
    consumed = {}
    for moment in moments(schedule):
        cursor = (moment.task, moment.data)
        assert moment.position == consumed.get(cursor, 0)
        consumed[cursor] = moment.position + moment.rows


def test_batches_grow_in_a_straight_line():
    schedule = Schedule((StagePlan("s", (TaskPlan("mlm", 20, 64, "d"),)),), Growth(0.25, 12))
    assert [moment.rows for moment in moments(schedule)] == [16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60] + [64] * 8


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


FOUR = ("masking", "capitals", "document", "order")


class TestTheThreeMethods:
    """ERNIE 2.0, table 7, in thousands of iterations."""

    def test_one_task_after_the_other(self):
        found = SCHEDULES["continual"](tasks=FOUR, steps_per_task=50_000).stages()
        assert found == [{task: 50_000} for task in FOUR]

    def test_all_from_the_start(self):
        assert SCHEDULES["multi_task"](tasks=FOUR, steps_per_task=50_000).stages() == [dict.fromkeys(FOUR, 50_000)]

    @pytest.mark.parametrize("kind", SCHEDULES)
    def test_every_method_gives_each_task_the_same(self, kind):
        found = SCHEDULES[kind](tasks=FOUR, steps_per_task=200).stages()
        assert {task: sum(stage.get(task, 0) for stage in found) for task in FOUR} == dict.fromkeys(FOUR, 200)
        assert SCHEDULES[kind].model_fields["kind"].default == kind
        with pytest.raises(ValueError, match="joins once"):
            SCHEDULES[kind](tasks=("a", "a"), steps_per_task=50)

    def test_two_hundred_steps_a_task(self):
        found = SCHEDULES["continual_multi_task"](tasks=FOUR, steps_per_task=200).stages()
        assert [list(stage.values()) for stage in found] == [[80], [40, 120], [40, 40, 160], [40, 40, 40, 200]]


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
