"""What a recipe of labelled tasks may combine."""

import pytest

from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from tests.contract.downstream_ranks import recipe_of
from tests.tiny import merged, tiny_recipe

LM = {"kind": "causal_lm", "weight": 0.5}


def changed(family, task, **section):
    plain = recipe_to_json(recipe_of(family))
    own = plain["tasks"][task]
    plain["tasks"] = {task: own | section if "kind" in section.get("format", {}) else merged(own, section)}
    return recipe_from_json(plain | {"stages": [{"name": "only", "steps": {task: 2}}]})


@pytest.mark.parametrize(
    ("task", "section", "message"),
    [
        (
            "classes",
            {"format": {"kind": "questions", "length": 32}},
            r"objectives.0: classify_text does not go with questions; write format: {kind: texts, ..}",
        ),
        (
            "answers",
            {"format": {"kind": "texts", "length": 32}},
            r"objectives.0: answer_span does not go with texts; write format: {kind: questions, ..}",
        ),
        ("tags", {"objectives": [{"kind": "masked_lm"}]}, "objectives: nobody asks for the labels that tagged_words gives; add tag_words"),
        ("values", {"objectives": [{"kind": "masked_lm"}]}, "the labels that texts gives; add classify_text or regress_text"),
        ("values", {"format": {"both_orders": True}}, "objectives.0.views is 1, but the format lays each row 2 times; write views: 2"),
        (
            "values",
            {"objectives": [{"kind": "regress_text", "views": 2}]},
            "views is 2, but the format lays each row 1 times; write views: 1",
        ),
        (
            "picked",
            {"objectives": [{"kind": "masked_lm"}, {"kind": "choose", "choices": 3, "freeze": True}]},
            "objectives: choose freezes the backbone that masked_lm trains; write freeze: false, or leave one out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(task, section, message):
    with pytest.raises(ConfigError) as error:
        changed("bert", task, **section)
    assert f"tasks.{task}.objectives" in str(error.value)
    assert message in str(error.value)


def test_documents_have_no_labels_to_ask_for():
    with pytest.raises(ConfigError, match=r"tasks.mlm.objectives.0: tag_words does not go with full_sentences"):
        recipe_from_json(
            merged(recipe_to_json(tiny_recipe()), {"tasks": {"mlm": {"objectives": [{"kind": "tag_words", "tags": ["O", "B-X"]}]}}})
        )


def test_heads_are_shared_by_tasks_of_equal_heads_only():
    plain = recipe_to_json(recipe_of("bert"))
    other = merged(plain["tasks"]["classes"], {"heads_of": "classes"})
    assert recipe_from_json(plain | {"tasks": plain["tasks"] | {"other": other}}).owner("other") == "classes"
    other |= {"objectives": [other["objectives"][0] | {"dropout": 0.3}]}
    with pytest.raises(ConfigError, match="classes has no classify_text with as many classes and the same settings of the head"):
        recipe_from_json(plain | {"tasks": plain["tasks"] | {"other": other}})


def test_a_language_model_may_learn_beside_a_task():
    recipe = changed("gpt", "tags", objectives=[{"kind": "tag_words", "tags": ["O", "B-X"]}, LM | {"per_row": True}])
    assert [objective.averages_rows for objective in recipe.tasks["tags"].objectives] == [False, True]
