"""The paired bootstrap against all resamples of few items and SciPy's; means over seeds."""

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.finetune.bootstrap import compare, spread


def by_id(scores):
    return {f"q{number:04d}": float(value) for number, value in enumerate(scores)}


def test_it_is_what_all_resamples_of_few_items_give():
    first, second = [1, 1, 0, 1, 0.5], [0, 1, 0, 0, 0.75]
    gaps = np.subtract(first, second)
    every = np.array([gaps[list(chosen)].mean() for chosen in itertools.product(range(5), repeat=5)])
    found = compare(by_id(first), by_id(second), draws=20_000)
    assert found.difference == pytest.approx(gaps.mean(), abs=1e-12)
    assert found.items == 5
    p = np.mean(np.abs(every - gaps.mean()) >= abs(gaps.mean()) - 1e-12)
    assert found.p == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000) + 1e-4)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.05)


def test_differences_that_are_equal_but_for_rounding_count_as_equal():
    tenths = [-1, -1, -1, 1]  # in floats, three in ten means of four of them miss the bound by a bit or two
    sums = [sum(chosen) for chosen in itertools.product(tenths, repeat=4)]
    p = np.mean([abs(total - sum(tenths)) >= abs(sum(tenths)) for total in sums])
    found = compare(by_id(np.array(tenths) / 10), by_id([0] * 4), draws=2000)
    assert found.p == pytest.approx(p, abs=0.05)


def test_the_interval_is_scipy_s():
    numbers = np.random.default_rng(3)
    first, second = numbers.random(300), numbers.random(300)
    found = compare(by_id(first), by_id(second), seed=5)
    theirs = stats.bootstrap((first - second,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_p_is_near_that_of_a_t_test_on_many_items():
    numbers = np.random.default_rng(8)
    first = numbers.normal(0.08, 1, 800)
    found = compare(by_id(first), by_id(np.zeros(800)))
    assert found.p == pytest.approx(stats.ttest_1samp(first, 0).pvalue, abs=0.02)


def test_equal_systems_do_not_differ():
    found = compare(by_id([1, 0, 1]), by_id([1, 0, 1]), draws=50)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_p_is_never_nought():
    found = compare(by_id([1] * 50), by_id([0] * 50), draws=99)
    assert (found.difference, found.low, found.high) == (1, 1, 1)
    assert found.p == 1 / 100


scores = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=1, max_size=20)


@given(scores, st.integers(0, 9))
def test_the_other_way_round_it_is_the_other_way_round(pairs, seed):
    first, second = (by_id(side) for side in zip(*pairs, strict=True))
    there, back = compare(first, second, seed, draws=40), compare(second, first, seed, draws=40)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == back.p
    assert compare(dict(reversed(first.items())), second, seed, draws=40) == there


def test_another_seed_draws_other_items():
    first, second = by_id(range(30)), by_id([7] * 30)
    assert compare(first, second, 1, draws=99).low != compare(first, second, 2, draws=99).low


def test_systems_are_compared_on_the_same_items():
    with pytest.raises(ConfigError, match="1 items were scored only for the first, 2 only for the second"):
        compare({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 0.0, "d": 0.0})
    with pytest.raises(DataUnavailableError, match="no item"):
        compare({}, {})


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
def test_mean_and_deviation_are_those_of_a_sample(figures):
    found = spread(figures)
    assert found.mean == pytest.approx(statistics.mean(figures), abs=1e-9)
    assert found.deviation == pytest.approx(statistics.stdev(figures), abs=1e-9)
    assert found.count == len(figures)


def test_one_run_has_no_deviation():
    assert str(spread([81.256])) == "81.26"
    assert str(spread([80.0, 82.0])) == "81.00 ± 1.41"
    with pytest.raises(DataUnavailableError, match="no run"):
        spread([])
