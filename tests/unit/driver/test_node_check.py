"""Which nodes are left out: those that are wrong, silent, or slower than the others, and not their partners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.driver.node_check import SLOW, Measured, Probe, check_nodes, judge, pairs


def reasons(found):
    return {report.node: report.reason for report in judge(found)}


def test_a_slow_a_wrong_and_a_silent_node_are_told_apart_from_fine_ones():
    fine = Measured("n", 0.010, True, 0.020)
    found = {
        "a": fine,
        "b": Measured("n", 0.012, True, 0.025),
        "c": Measured("n", 0.031, True, 0.02),
        "d": Measured("n", 0.01, False, 0.02),
    }
    found |= {"e": Measured("n", 0.01, True, 0.2), "f": Measured("n", failure="it did not answer within 5 s")}
    told = reasons(found)
    assert (told["a"], told["b"]) == ("", "")
    assert told["c"] == "matrix products take 3.1 times as long as elsewhere"
    assert told["d"] == "a matrix product was wrong"
    assert told["e"].startswith("sums over the network take ")
    assert told["f"] == "it did not answer within 5 s"


def test_one_node_alone_is_never_slow():
    assert reasons({"a": Measured("n", 9.0)}) == {"a": ""}


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=30))
def test_most_nodes_are_always_fine(seconds):
    told = reasons({f"{number:02d}": Measured("n", one) for number, one in enumerate(seconds)})
    assert sum(not reason for reason in told.values()) * 2 >= len(seconds)
    usual = sorted(seconds)[(len(seconds) - 1) // 2]
    assert all(bool(told[f"{number:02d}"]) == (one > SLOW * usual) for number, one in enumerate(seconds))


@given(st.integers(2, 40))
def test_everybody_has_a_partner_in_both_rounds_and_another_in_the_second(count):
    nodes = [str(number) for number in range(count)]
    rounds = [pairs(nodes, number) for number in range(2)]
    for found in rounds:
        assert {node for pair in found for node in pair} == set(nodes)
        assert all(first != second for first, second in found)
    if count > 3:
        partners = [{frozenset(pair) for pair in found} for found in rounds]
        assert not partners[0] & partners[1] or count % 2


def test_a_node_multiplies_right_and_says_how_fast():
    seconds, right = Probe(1).multiply(0.05)
    assert right
    assert 0 < seconds < 60


@pytest.mark.slow
def test_nodes_of_a_real_ray_are_asked(ray_head):
    (report,) = check_nodes(0.4, 1)
    assert report.fine
    assert report.matmul_seconds > 0
    assert report.event()["node"] == report.name
