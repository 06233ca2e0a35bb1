"""What ptm show says of the size of a model."""

import torch

from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.train.module import PretrainingModel, parameter_counts
from tests.contract import engine_ranks
from tests.tiny import tiny_recipe


def recipe_of(**changes):
    return recipe_from_json(recipe_to_json(tiny_recipe()) | changes)


def test_counts_are_those_of_the_published_model():
    counts = parameter_counts(recipe_of(model={"kind": "roberta"}, tokenizer={"kind": "byte_bpe", "vocab_size": 50265}))
    assert sum(counts.values()) == 124_696_665
    assert counts == {"backbone": 124_696_665 - (768 * 768 + 3 * 768 + 50265), "heads.masked_lm": 768 * 768 + 3 * 768 + 50265}


def test_nothing_is_said_before_the_tokenizer_is_known(tmp_path):
    assert parameter_counts(recipe_of(tokenizer={"kind": "existing", "folder": str(tmp_path / "nowhere")})) == {}


def test_heads_that_take_no_part_are_called_in_an_order_that_is_the_same_in_every_process():
    """Under ZeRO 3 ranks gather what a head has when it is called, and the order of a set of names differs between processes."""
    tasks = tuple(f"task-{number}" for number in range(7))
    model = PretrainingModel(engine_ranks.recipe_of("roberta", "adamw", tasks=tasks), engine_ranks.VOCABULARY)
    idle, called = [name for name in model.heads if name != "masked_lm"], []
    for name in idle:
        model.heads[name].register_forward_hook(lambda *_, name=name: called.append(name))
    model("lm", {"tokens": torch.full((1, 8), 5)}, torch.tensor([8]), {}, {"masked_lm": 1.0})
    assert called == idle
    assert len(called) == len(tasks)
