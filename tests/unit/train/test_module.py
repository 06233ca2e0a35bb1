"""What ptm show says of the size of a model."""

from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.train.module import parameter_counts
from tests.tiny import tiny_recipe


def recipe_of(**changes):
    return recipe_from_json(recipe_to_json(tiny_recipe()) | changes)


def test_counts_are_those_of_the_published_model():
    counts = parameter_counts(recipe_of(model={"kind": "roberta"}, tokenizer={"kind": "byte_bpe", "vocab_size": 50265}))
    assert sum(counts.values()) == 124_696_665
    assert counts == {"backbone": 124_696_665 - (768 * 768 + 3 * 768 + 50265), "heads.masked_lm": 768 * 768 + 3 * 768 + 50265}


def test_nothing_is_said_before_the_tokenizer_is_known(tmp_path):
    assert parameter_counts(recipe_of(tokenizer={"kind": "existing", "folder": str(tmp_path / "nowhere")})) == {}
