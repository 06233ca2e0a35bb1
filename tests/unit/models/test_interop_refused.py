"""Models and folders that transformers or ptm_dist cannot compute: refused with a reason, and nothing taken for what it is not."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file

from ptm_dist.errors import ConfigError
from ptm_dist.finetune.export import hugging_face, one_task
from ptm_dist.models.interop import read_labels, read_model
from ptm_dist.models.interop.folder import read_folder
from ptm_dist.train.module import PretrainingModel
from tests.contract.engine_ranks import VOCABULARY
from tests.unit.models.kit import stored
from tests.unit.models.test_interop_downstream import OBJECTIVES, in_their_place, model_of, recipe_of, written

__all__ = ["written"]


class TestRefused:
    """What no class of transformers computes is not written as if one did."""

    def refused(self, recipe, kind, vocabulary=VOCABULARY):
        with pytest.raises(ConfigError) as caught:
            hugging_face(recipe, stored(PretrainingModel(recipe, vocabulary)), vocabulary, kind)
        assert "ptm model predict" in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("kind", OBJECTIVES)
    def test_elmo(self, kind):
        assert f"no class for a head of kind {kind} over elmo; it has none for this family" in self.refused(recipe_of("elmo"), kind)

    @pytest.mark.parametrize("kind", ["tags", "span"])
    def test_what_gpt_has_not(self, kind):
        told = self.refused(recipe_of("gpt"), kind)
        assert f"no class for a head of kind {kind} over openai-gpt; it has OpenAIGPTDoubleHeadsModel, OpenAIGPTFor" in told

    @pytest.mark.parametrize("kind", ["text", "value"])
    def test_both_orders_of_a_pair(self, kind):
        assert "reads a text in 2 orders" in self.refused(recipe_of("gpt", [kind], views=2), kind)

    @pytest.mark.parametrize(("family", "at", "read"), [("bert", "last", "first"), ("xlnet", "first", "last"), ("gpt2", "first", "last")])
    def test_another_token_stands_for_the_row(self, family, at, read):
        told = self.refused(recipe_of(family, ["text"], at=at), "text")
        assert f"the head reads the {at} token of a text, that of transformers the {read}" in told

    @pytest.mark.parametrize("family", ["gpt", "gpt2"])
    def test_a_bias_that_goes_nowhere(self, family):
        recipe = recipe_of(family, ["text"])
        weights = stored(model_of(recipe, torch.float32))
        weights["heads.text-classify_text.classify.weight"][1] = weights["heads.text-classify_text.classify.weight"][0]
        with pytest.raises(ConfigError, match="the rows of its 3 classes depend on each other"):
            hugging_face(recipe, weights, VOCABULARY, "text")

    def test_tasks_are_named_where_there_are_several(self):
        recipe = recipe_of("bert", ["text", "tags"])
        assert one_task(recipe, "tags") == "tags"
        assert one_task(recipe_of("bert", ["text"])) == "text"
        with pytest.raises(ConfigError, match="the run has text, tags; a model of transformers has the head of one task"):
            one_task(recipe)
        with pytest.raises(ConfigError, match="--task ner: the run has text, tags"):
            one_task(recipe, "ner")


@pytest.mark.parametrize("family", ["gpt", "gpt2"])
def test_without_a_bias_no_state_changes(family, written):
    recipe = recipe_of(family, ["text"])
    weights = stored(model_of(recipe, torch.float32))
    weights["heads.text-classify_text.classify.bias"].zero_()
    weights["backbone.layers.1.feed_forward_norm.bias"][3] = -0.0
    _, back = read_model(written(recipe, weights, "text"))
    wanted = in_their_place(recipe, weights, "text")
    assert all(back[name].numpy().tobytes() == wanted[name].numpy().tobytes() for name in wanted)


class TestOtherFolders:
    def changed(self, folder, tensors, **config):
        told, found = read_folder(folder)
        save_file(found | tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(told | config))
        return folder

    @pytest.fixture
    def folder(self, written):
        recipe = recipe_of("bert", ["text"])
        return written(recipe, stored(model_of(recipe, torch.float32)), "text")

    def test_what_is_unknown_is_an_error(self, folder):
        with pytest.raises(ConfigError, match=r"classifier\.more is unknown"):
            read_model(self.changed(folder, {"classifier.more": torch.ones(2)}))

    def test_a_head_without_the_name_of_its_class_is_an_error(self, folder):
        with pytest.raises(ConfigError, match=r"classifier\.weight is unknown"):
            read_model(self.changed(folder, {}, architectures=None))

    def test_half_a_head_is_an_error(self, folder):
        _, found = read_folder(folder)
        del found["classifier.bias"]
        save_file(found, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ConfigError, match=r"classifier\.bias is missing"):
            read_model(folder)

    def test_a_class_without_its_head_is_a_backbone(self, folder):
        _, found = read_folder(folder)
        save_file({name: tensor for name, tensor in found.items() if not name.startswith("classifier")}, folder / "model.safetensors")
        assert not any(name.startswith("heads.") for name in read_model(folder)[1])

    def test_xlnets_simple_answers_leave_the_backbone(self, tmp_path):
        config = transformers.XLNetConfig(vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=20)
        model = transformers.XLNetForQuestionAnsweringSimple(config)
        model.save_pretrained(tmp_path)
        settings, found = read_model(tmp_path)
        assert settings.kind == "xlnet"
        assert not any(name.startswith("heads.") for name in found)
        assert torch.equal(found["backbone.words.weight"], model.transformer.word_embedding.weight)

    def test_labels_that_are_only_numbers_are_no_names(self, folder):
        assert read_labels(self.changed(folder, {}, id2label={"0": "LABEL_0", "1": "LABEL_1"})) == ()
        assert read_labels(self.changed(folder, {}, id2label={"1": "b", "0": "a"})) == ("a", "b")
        assert read_labels(self.changed(folder, {}, id2label=None)) == ()
