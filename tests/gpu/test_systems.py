"""Every system in small on one GPU: prepared, trained, killed, resumed, measured, exported, loaded; near the losses of two CPU ranks."""

from __future__ import annotations

import pytest

from ptm_dist.events import read_events, steps_of
from tests.systems.ride import GOLDEN, SMALL, SYSTEMS, kill_and_resume
from tests.systems.test_systems import require_loads

NEAR = {"fp32": 2e-3, "bf16": 3e-2}
DRAWS_ON_THE_DEVICE = 0.2
"""ELMo's negatives are drawn where it runs, by another generator on a GPU."""


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("name", SYSTEMS)
def test_from_text_to_a_model(name, precision, texts, cache, ray_head, tmp_path):
    here = tmp_path / "here.yaml"
    here.write_text(f"engine: {{workers: 1, precision: {precision}}}\n")
    recipe = SYSTEMS[name].load(SMALL, texts[SYSTEMS[name].language], here)
    run, _ = kill_and_resume(recipe, tmp_path, cache, rank=0)
    found = [[step, event["task"], event["loss"]] for step, event in sorted(steps_of(run.events_path).items())]
    known = GOLDEN.losses(name, found)
    assert [step[:2] for step in found] == [step[:2] for step in known]
    near = DRAWS_ON_THE_DEVICE if name == "elmo" else NEAR[precision]
    assert [loss for *_, loss in found] == pytest.approx([loss for *_, loss in known], rel=near)
    assert list(read_events(run.events_path, "evaluated"))
    require_loads(run)
