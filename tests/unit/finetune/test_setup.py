"""From a checkpoint and a task's file to a recipe: every shipped task with every preset, and what the papers say."""

from pathlib import Path

import pytest

from ptm_dist.corpus.tokenizer import ByteBPE
from ptm_dist.errors import ConfigError
from ptm_dist.finetune import setup as module
from ptm_dist.finetune.kinds import KINDS
from ptm_dist.finetune.metrics import METRICS
from ptm_dist.finetune.setup import presets, setup
from ptm_dist.models import FAMILIES
from ptm_dist.recipe_io import read_settings
from ptm_dist.train.weights import Source

CONFIGS = Path(__file__).parents[3] / "configs" / "finetune"
TASKS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "laptop")
SMALL = {
    "bert": {"segments": 2}, "ernie": {"segments": 4}, "albert": {"embedding": 8}, "roberta": {}, "gpt": {}, "gpt2": {},
    "xlnet": {"memory_length": 16, "reuse_length": 8}, "elmo": {},
}  # fmt: skip
LONG = {"bert", "ernie", "albert", "roberta", "gpt", "gpt2"}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Return a function that makes a family's checkpoint as far as a recipe needs it."""
    for name, data in ByteBPE(vocab_size=300).train(iter(["The quick brown fox. " * 9])).items():
        (tmp_path / name).write_bytes(data)

    def make(family):
        settings = FAMILIES[family].model_validate(SMALL[family] | ({"positions": 512} if family in LONG else {}), strict=False)
        monkeypatch.setattr(module, "source_of", lambda _: Source(family, settings, tmp_path, dict))
        return f"runs/{family}"

    return make


@pytest.mark.parametrize("task", TASKS)
def test_every_task_goes_with_every_family(checkpoint, task):
    for family in sorted(FAMILIES):
        found = setup(checkpoint(family), [CONFIGS / f"{task}.yaml"])
        (objective, *beside) = next(iter(found.recipe.tasks.values())).objectives
        assert found.recipe.budgets == {("main", task): found.recipe.stages[0].steps[task]}
        if hasattr(objective, "at"):
            assert objective.at == ("last" if family in {"gpt", "gpt2", "xlnet"} else "first")
        assert [one.kind for one in beside] == (["causal_lm"] if family in {"gpt", "gpt2"} else [])
        assert objective.freeze == (family == "elmo")
        assert set(found.score.metrics) <= METRICS.keys()
        assert objective.kind in KINDS


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_explained_and_fits_a_laptop(checkpoint, task):
    assert (CONFIGS / f"{task}.yaml").read_text().startswith("# ")
    found = setup(checkpoint("bert"), [CONFIGS / f"{task}.yaml", CONFIGS / "laptop.yaml"])
    assert (found.recipe.optimizer.kind, found.recipe.optimizer.betas) == ("adamw", (0.9, 0.98))
    assert found.recipe.stages[0].steps[task] == "5 epochs"


PUBLISHED = {
    # preset: (kind of task, epochs, rows, rate, warm-up, decay of weights)
    "bert": ("answer_span", 3, 32, 5e-5, "10 %", 0.01),
    "roberta": ("classify_text", 10, 16, 2e-5, "6 %", 0.1),
    "xlnet": ("answer_span", 3, 48, 3e-5, "10 %", 0.01),
    "gpt": ("classify_text", 3, 32, 6.25e-5, "0.2 %", 0.01),
    "ernie": ("answer_span", 2, 16, 3e-5, 0, 0.01),
    "ernie2": ("classify_text", 3, 32, 3e-5, "10 %", 0.0),
    "bert_wwm": ("answer_span", 2, 64, 3e-5, "10 %", 0.01),
    "albert": ("answer_span", 2, 48, 5e-5, "10 %", 0.01),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_say_what_was_published(checkpoint, preset):
    kind, epochs, rows, rate, warmup, decay = PUBLISHED[preset]
    family = {"ernie2": "ernie", "bert_wwm": "bert"}.get(preset, preset)
    task = "squad1" if kind == "answer_span" else "sst2"
    recipe = setup(checkpoint(family), [CONFIGS / f"{task}.yaml"], preset=preset).recipe
    assert recipe.stages[0].steps[task] == f"{epochs} epochs"
    assert (recipe.batch.rows, recipe.optimizer.learning_rate, recipe.optimizer.weight_decay) == (rows, rate, decay)
    assert recipe.optimizer.schedule.warmup_steps == warmup


def test_every_preset_has_a_source_and_every_family_a_preset():
    assert set(FAMILIES) <= set(presets())
    assert all((module.PRESETS / f"{name}.yaml").read_text().startswith("# ") for name in presets())
    assert all(isinstance(read_settings([module.PRESETS / f"{name}.yaml"]), dict) for name in presets())


def test_what_a_family_needs_is_there(checkpoint):
    task = [CONFIGS / "sst2.yaml"]
    gpt, xlnet, bert = (setup(checkpoint(family), task).recipe for family in ("gpt", "xlnet", "bert"))
    assert gpt.tokenizer.special == ("<start>", "<delimiter>", "<extract>")
    assert (xlnet.model.memory_length, xlnet.model.reuse_length) == (0, 0)
    assert bert.model.pooler
    assert bert.init.endswith("runs/bert")
    assert setup(checkpoint("bert"), task, scratch=True).recipe.init is None


def test_overrides_win_over_the_task_and_the_task_over_the_preset(checkpoint, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"extends: {CONFIGS / 'sst2.yaml'}\nepochs: 7\nbatch: {{rows: 5}}\n")
    found = setup(checkpoint("bert"), [tmp_path / "mine.yaml"], ["batch.rows=6", "score.metrics=[matthews]"])
    assert (found.recipe.stages[0].steps["sst2"], found.recipe.batch.rows) == ("7 epochs", 6)
    assert found.score.metrics == ("matthews",)
    assert found.grid == {"optimizer.learning_rate": [5e-5, 3e-5, 2e-5], "batch.rows": [16, 32], "epochs": [2, 3, 4]}


def test_a_task_of_documents_is_refused(checkpoint, tmp_path):
    (tmp_path / "task.yaml").write_text(
        "sources: {own: {kind: text, paths: [x.txt]}}\n"
        "tasks: {mlm: {format: {kind: full_sentences, length: 64}, objectives: [{kind: masked_lm}]}}\n"
    )
    with pytest.raises(ConfigError, match="the tasks read documents"):
        setup(checkpoint("bert"), [tmp_path / "task.yaml"])
