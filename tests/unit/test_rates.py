"""Learning rates: the published figures, and the schedules of transformers where it has them."""

from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.rates import RATES, Constant, Cosine, InverseSqrt, Linear, Noam, Polynomial, WarmupStableDecay

GOOGLE = {"counted_from": "start", "first_update": "rests"}
BERT = 1e-4, Linear(warmup_steps=10_000, **GOOGLE), 1_000_000
ALBERT = 1.76e-3, Linear(warmup_steps=3125, **GOOGLE), 125_000
ERNIE_1 = 1e-4, Linear(warmup_steps=5000, **GOOGLE), 1_000_000
ROBERTA = 6e-4, Linear(warmup_steps=24_000), 500_000
XLNET = 4e-4, Linear(warmup_steps=40_000, first_update="rests", floor=0.001), 500_000
GPT = 2.5e-4, Cosine(warmup_steps=2000, **GOOGLE), 100_000
ERNIE_2 = 5e-5, Noam(warmup_steps=4000), 10**6
ELMO = 0.2, Constant(), 10**6


@pytest.mark.parametrize(
    ("system", "step", "rate"),
    [
        *[(BERT, 0, 0.0), (BERT, 9999, 9.999e-5), (BERT, 10_000, 9.9e-5), (BERT, 1_000_000, 0.0)],
        *[(ALBERT, 3124, 1.7594e-3), (ALBERT, 3125, 1.716e-3)],
        *[(ERNIE_1, 4999, 9.998e-5), (ERNIE_1, 5000, 9.95e-5)],
        *[(ROBERTA, 12_000, 3e-4), (ROBERTA, 24_000, 6e-4), (ROBERTA, 250_000, 3.1513e-4), (ROBERTA, 500_001, 0.0)],
        *[(ROBERTA, 1, 6e-4 / 24_000), (ROBERTA, 0, 6e-4 / 24_000)],
        *[(XLNET, 0, 0.0), (XLNET, 40_000, 4e-4), (XLNET, 270_000, 2.002e-4), (XLNET, 500_000, 4e-7)],
        *[(GPT, 0, 0.0), (GPT, 1000, 1.25e-4), (GPT, 50_000, 1.25e-4), (GPT, 100_000, 0.0)],
        *[(ERNIE_2, 1999, 2.5e-5), (ERNIE_2, 3999, 5e-5), (ERNIE_2, 7999, 3.5355e-5), (ERNIE_2, 15_999, 2.5e-5)],
        *[(ERNIE_2, 49_999, 1.4142e-5), (ELMO, 0, 0.2), (ELMO, 935_588, 0.2)],
    ],
)
def test_published_rates(system, step, rate):
    peak, schedule, total = system
    assert peak * schedule.factor(step, total) == pytest.approx(rate, rel=5e-5)


def of_transformers(name, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return getattr(transformers, name)(optimizer, **settings).lr_lambdas[0]


@given(warmup=st.integers(1, 40), decay=st.integers(60, 200), step=st.integers(0, 240))
def test_transformers_has_the_same(warmup, decay, step):
    total, rests = warmup + decay, {"warmup_steps": warmup, "first_update": "rests"}
    steps = {"num_warmup_steps": warmup, "num_training_steps": total}
    expected = {
        Linear(**rests): of_transformers("get_linear_schedule_with_warmup", **steps),
        Cosine(**rests): of_transformers("get_cosine_schedule_with_warmup", **steps),
        Polynomial(**rests, power=2.0): of_transformers("get_polynomial_decay_schedule_with_warmup", **steps, power=2.0, lr_end=0.0),
        InverseSqrt(**rests): of_transformers("get_inverse_sqrt_schedule", num_warmup_steps=warmup),
        Constant(**rests): of_transformers("get_constant_schedule_with_warmup", num_warmup_steps=warmup),
        WarmupStableDecay(**rests, decay_steps=50, shape="linear"): of_transformers(
            "get_wsd_schedule", **steps, num_decay_steps=50, decay_type="linear"
        ),
    }
    for ours, theirs in expected.items():
        if step <= total:
            assert ours.factor(step, total) == pytest.approx(theirs(step), abs=1e-12), ours


def test_a_stable_rate_decays_by_the_square_root():
    rate = WarmupStableDecay(warmup_steps=10, decay_steps=100)
    assert [rate.factor(step, 1000) for step in (5, 10, 900, 925, 1000)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_without_warm_up_the_first_update_has_almost_the_peak():
    assert Linear().factor(1, 1000) == pytest.approx(0.999)
    assert Constant().factor(1, 1000) == 1.0


@pytest.mark.parametrize("kind", RATES)
@given(warmup=st.integers(1, 50), total=st.integers(1, 100))
def test_rates_rise_to_the_peak_and_never_rise_again(kind, warmup, total):
    factors = [RATES[kind](warmup_steps=warmup).factor(step, total) for step in range(total + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert all(one <= other for one, other in pairwise(factors[:warmup]))
    assert all(one >= other for one, other in pairwise(factors[warmup:]))


@pytest.mark.parametrize("kind", sorted(RATES.keys() - {"constant"}))
def test_a_warm_up_may_be_a_share_of_all_steps(kind):
    """Rounded down, as Google's code does: 6 % of 250 steps are 15."""
    share, steps = (RATES[kind](warmup_steps=warmup) for warmup in ("6 %", 15))
    assert [share.factor(step, 250) for step in range(250)] == [steps.factor(step, 250) for step in range(250)]


def test_a_warm_up_of_less_than_a_step_is_none():
    assert RATES["linear"](warmup_steps="0.2 %", first_update="rests").factor(0, 100) == 1.0
    assert RATES["noam"](warmup_steps="0.2 %").factor(0, 100) == 1.0


@pytest.mark.parametrize("wrong", ["6", "six %", "-1 %", "100 %"])
def test_a_share_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="warmup_steps"):
        RATES["linear"](warmup_steps=wrong)
