"""Every system, made small: prepared, trained on two ranks, killed, resumed, measured, exported, and loaded by others.

The losses are golden: they guard refactors. `make systems` does the same at laptop scale, and asks what was learned.
"""

import math

import pytest
import torch
import transformers

from ptm_dist.events import read_events, steps_of
from ptm_dist.models.interop import read_model
from ptm_dist.report import load_run
from tests.systems.ride import GOLDEN, SMALL, SYSTEMS, kill_and_resume
from tests.tiny import ptm

pytestmark = pytest.mark.slow

ENGLISH = [name for name, system in SYSTEMS.items() if system.language == "en"]
CHINESE = [name for name, system in SYSTEMS.items() if system.language == "zh"]
ASKED = {"bert": ("fill-mask", "the old [MASK]"), "gpt": ("generate", "the old baker")}
"""What a run and its export must answer alike."""


@pytest.fixture
def ride(request, texts, cache, ray_head, tmp_path):
    """Return a finished run of a system, once killed on the way."""
    system = SYSTEMS[request.param]
    return request.param, *kill_and_resume(system.load(SMALL, texts[system.language]), tmp_path, cache, rank=1)


def require_what_a_user_expects(ride):
    """Steps are those of the golden file, each task was measured, and the export loads elsewhere."""
    name, run, printed = ride
    recipe, steps = run.recipe(), steps_of(run.events_path)
    assert "resuming at step 16 of" in printed
    assert sorted(steps) == list(range(recipe.total_steps)), "none is missing"
    found = [[step, event["task"], round(event["loss"], 5)] for step, event in sorted(steps.items())]
    known = GOLDEN.losses(name, found)
    assert [step[:2] for step in found] == [step[:2] for step in known]
    assert [loss for *_, loss in found] == pytest.approx([loss for *_, loss in known], rel=1e-3)
    measured = {(event["task"], event["objective"]): event for event in read_events(run.events_path, "evaluated")}
    wanted = {(task, objective.kind) for task, settings in recipe.tasks.items() for objective in settings.objectives}
    assert measured.keys() == wanted
    assert all(math.isfinite(event["loss"]) and event["targets"] for event in measured.values())
    require_loads(run)
    if name in ASKED:
        verb, text = ASKED[name]
        used = ptm("model", verb, run.path, text)
        assert used.returncode == 0, used.stderr
        assert used.stdout == ptm("model", verb, run.path / "export", text).stdout


def require_loads(run):
    """Transformers opens the export and lacks no weight; ELMo, which it does not have, is opened by the project."""
    exported = run.path / "export"
    settings, weights = read_model(exported)
    assert settings == run.recipe().model
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    if settings.kind == "elmo":
        return
    config = transformers.AutoConfig.from_pretrained(exported)
    model, told = getattr(transformers, config.architectures[0]).from_pretrained(exported, output_loading_info=True)
    assert not told["missing_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    ids = tokenizer("the old baker 李明", add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert load_run(run.path).tokenizer().encode(["the old baker 李明"])[0].tolist() == ids[0].tolist()
    assert torch.isfinite(model(input_ids=ids)[0]).all()
    if settings.joining.has_segments:
        texts = ["the old baker", "a door"]
        laid = settings.joining.lay(load_run(run.path).tokenizer().encode(texts), run.data().vocabulary)
        read = tokenizer(*texts)
        assert (read["input_ids"], read["token_type_ids"]) == (laid.tokens.tolist(), laid.segments.tolist())


class TestEnglish:
    @pytest.mark.parametrize("ride", ENGLISH, indirect=True)
    def test_from_text_to_a_model(self, ride):
        require_what_a_user_expects(ride)


class TestChinese:
    @pytest.mark.parametrize("ride", CHINESE, indirect=True)
    def test_from_text_to_a_model(self, ride):
        require_what_a_user_expects(ride)
