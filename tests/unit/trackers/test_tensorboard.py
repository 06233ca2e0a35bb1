"""TensorBoard's own reader sees each step once, with the loss of the event log, although the run was killed and went on."""

import pytest

from ptm_dist.trackers.tensorboard import TensorBoard
from tests.unit.trackers.story import TOTAL, ledger, live_through, make_run

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard reads the files"
)


@pytest.mark.parametrize("every", [1, 10])
def test_the_files_hold_each_step_once(tmp_path, every):
    run = make_run(tmp_path)
    live_through(TensorBoard(every_steps=every), run)
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*.attempt-*"))) == 2
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    told = {event.step: event.value for event in found.Scalars("loss/mlm")}
    assert len(told) == len(found.Scalars("loss/mlm")), "no step twice"
    assert told == {step: value for step, value in ledger(run).items() if step in told}
    assert sorted(told) == (list(range(1, TOTAL + 1)) if every == 1 else [1, 10, 17, 20, 30, 40])
    assert [event.step for event in found.Scalars("held_out/mlm/masked_lm/loss")] == [0, 20, 40]
    assert [event.step for event in found.Scalars("checkpoint/bytes")] == [8, 16, 24, 32, 40]
