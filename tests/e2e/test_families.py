"""Families that have a format by now, from text to an export that transformers opens, and on from there."""

import json

import pytest
import torch
import transformers

from ptm_dist.recipe_io import dump_recipe
from ptm_dist.report import load_run
from tests.tiny import STEPS, ledger, ptm, tiny_recipe

pytestmark = pytest.mark.slow

SMALL = {"layers": 2, "hidden": 32, "heads": 2, "positions": 32}
MODELS = {
    "bert": SMALL | {"intermediate": 64},
    "ernie": SMALL | {"intermediate": 64},
    "albert": SMALL | {"intermediate": 64, "embedding": 16},
    "gpt": SMALL,
    "gpt2": SMALL,
}


PAIRS = {"bert": "nsp", "albert": "sop"}
"""Systems that learn how two segments belong together."""


def recipe_of(kind):
    """Return the tiny recipe with another model, whose kind replaces all settings of the first."""
    objective = "causal_lm" if kind.startswith("gpt") else "masked_lm"
    tasks = {"lm": {"format": {"kind": "full_sentences", "length": 32}, "objectives": [{"kind": objective}]}}
    plain = tiny_recipe().model_dump(mode="json") | {"name": kind, "model": {"kind": kind} | MODELS[kind], "tasks": tasks}
    if kind in PAIRS:
        plain["tokenizer"] = {"kind": "wordpiece", "vocab_size": 500}
        tasks["lm"]["format"] = {"kind": "segment_pair", "length": 32, "pair": PAIRS[kind]}
        tasks["lm"]["objectives"] = [{"kind": "masked_lm", "predict_special": False}, {"kind": "classify_sequence"}]
    return tiny_recipe().model_validate_json(json.dumps(plain | {"stages": [{"name": "main", "steps": {"lm": STEPS}}]}))


@pytest.mark.parametrize("kind", MODELS)
def test_from_text_to_an_export_and_on(kind, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(recipe_of(kind)))
    result = ptm("run", recipe, "--run", tmp_path / "run", "--cache", tmp_path / "cache", "--launcher", "local")
    assert result.returncode == 0, result.stderr
    assert ("and how the model goes on" if kind.startswith("gpt") else "hidden in held-out text") in result.stdout
    assert kind.startswith("gpt") or "\n  ..." in result.stdout, "words are found whatever the tokenizer marks"
    losses = [loss for _, loss in ledger(tmp_path / "run")]
    assert losses[-1] < losses[0] - 0.3
    exported = tmp_path / "run" / "export"
    config = transformers.AutoConfig.from_pretrained(exported)
    model, told = getattr(transformers, config.architectures[0]).from_pretrained(exported, output_loading_info=True)
    assert not told["missing_keys"]
    assert all(".pooler." in key for key in told["unexpected_keys"]), "no task has trained it, and ..ForMaskedLM has none"
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    ids = tokenizer("The language", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert torch.isfinite(model(input_ids=ids)[0]).all()
    assert ("ForPreTraining" in config.architectures[0]) == (kind in PAIRS)
    assert load_run(tmp_path / "run").tokenizer().encode(["The language"])[0].tolist() == ids[0].tolist()
    verb, text = ("generate", "The language") if kind.startswith("gpt") else ("fill-mask", "The [MASK] of it")
    used = ptm("model", verb, tmp_path / "run", text)
    assert used.returncode == 0, used.stderr
    assert used.stdout == ptm("model", verb, exported, text).stdout
