"""The rule of the loss scale."""

from ptm_dist.train.loss_scale import GROW_AFTER, LARGEST, LossScale


def test_it_halves_at_an_overflow_and_doubles_after_many_good_steps():
    scale = LossScale(value=1024.0)
    scale.update(overflow=True)
    assert (scale.value, scale.good_steps) == (512.0, 0)
    for _ in range(GROW_AFTER - 1):
        scale.update(overflow=False)
    assert (scale.value, scale.good_steps) == (512.0, GROW_AFTER - 1)
    scale.update(overflow=False)
    assert (scale.value, scale.good_steps) == (1024.0, 0)


def test_it_stays_within_bounds():
    low, high = LossScale(value=1.0), LossScale(value=LARGEST, good_steps=GROW_AFTER - 1)
    low.update(overflow=True)
    high.update(overflow=False)
    assert (low.value, high.value) == (1.0, LARGEST)
