"""Rows of labelled tasks in the one module: sequences side by side, GPT's language model beside a task, frozen backbones, micro-batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptm_dist.data.batch import Row, collate
from ptm_dist.models.base import stored_shape
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.rng import RowDraws
from ptm_dist.train.module import PretrainingModel, count_of, load_weights, parts_of, to_device
from tests.contract.downstream_ranks import CASES, OBJECTIVES, STEPS, example_of, recipe_of, rows_of
from tests.contract.engine_ranks import VOCABULARY
from tests.tiny import merged

CPU = torch.device("cpu")
STEP_OF = {task: step for step, (task, _) in enumerate(STEPS)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def model_of(recipe, training=False):
    return PretrainingModel(recipe, VOCABULARY).double().train(training)


def batch_of(recipe, task, fillers=0):
    rows = rows_of(recipe, STEP_OF[task])
    return collate(rows, VOCABULARY.pad, len(rows) + fillers)


def losses_of(model, task, batch):
    recipe_objectives = model.objectives[task]
    weights = {objective.kind: objective.weight / max(count_of(objective, batch), 1) for objective in recipe_objectives}
    return model(task, *to_device(batch, CPU), weights)


def with_dropout(recipe, rate=0.5):
    return recipe_from_json(merged(recipe_to_json(recipe), {"model": {"dropout": rate}}))


@pytest.mark.parametrize("task", ["picked", "classes"])
@pytest.mark.parametrize("family", CASES)
@torch.no_grad()
def test_side_by_side_is_as_each_sequence_alone(family, task):
    recipe = recipe_of(family)
    model, rows = model_of(recipe), rows_of(recipe, STEP_OF[task])
    batch = collate(rows, VOCABULARY.pad, len(rows) + 2)
    inputs, lengths, _ = to_device(batch, CPU)
    head, hidden = model.look(task, inputs, lengths)
    for number, row in enumerate(rows):
        sizes = np.atleast_1d(row.lengths)
        for k, size in enumerate(sizes.tolist()):
            own = {name: v[:size] if len(sizes) == 1 else v[:size, k] for name, v in row.inputs.items() if v.ndim and name != "real"}
            alone = {name: torch.from_numpy(values.astype(np.int64))[None] for name, values in own.items()}
            alone["task_types"] = torch.full_like(alone["tokens"], model.numbers[task])
            length = torch.tensor([size])
            wanted = head.encode(model.backbone.read(alone, length), length)[0]
            found = hidden[number].unflatten(0, (-1, len(sizes)))[:size, k]
            assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("task", OBJECTIVES)
@pytest.mark.parametrize("family", CASES)
@torch.no_grad()
def test_losses_add_up_however_rows_are_split(family, task):
    recipe = recipe_of(family)
    model, rows, kinds = model_of(recipe), rows_of(recipe, STEP_OF[task]), [objective.kind for objective in recipe.tasks[task].objectives]
    ones = dict.fromkeys(kinds, 1.0)
    _, whole, _ = model(task, *to_device(collate(rows, VOCABULARY.pad, len(rows)), CPU), ones)
    parts = [collate(rows[:1], VOCABULARY.pad, 3), collate(rows[1:], VOCABULARY.pad, len(rows)), collate([], VOCABULARY.pad, 2)]
    found = [model(task, *to_device(part, CPU), ones)[1] for part in parts]
    for objective in recipe.tasks[task].objectives:
        told = whole[objective.kind]
        assert told.sum.item() == pytest.approx(sum(losses[objective.kind].sum.item() for losses in found), rel=1e-9)
        assert told.targets == sum(losses[objective.kind].targets for losses in found)
        assert told.targets == sum(count_of(objective, part) for part in parts) == count_of(objective, collate(rows, 1, len(rows)))
        assert float(told.correct) == pytest.approx(sum(float(losses[objective.kind].correct) for losses in found))


class TestGptBesideItsLanguageModel:
    """Row 22 of the checks: the loss is CE + 0.5 LM, and similarity knows no order."""

    def test_the_loss_is_that_of_the_task_and_half_that_of_the_language_model(self):
        recipe = recipe_of("gpt")
        model, rows = model_of(recipe), rows_of(recipe, STEP_OF["classes"])
        batch = collate(rows, VOCABULARY.pad, len(rows) + 1)
        total, losses, _ = losses_of(model, "classes", batch)
        logits, language = [], []
        for row in rows:
            states = []
            for k, size in enumerate(row.lengths.tolist()):
                tokens = torch.from_numpy(row.inputs["tokens"][:size, k].astype(np.int64))
                hidden = model.backbone({"tokens": tokens[None]}, torch.tensor([size]))[0][0]
                states.append(hidden[-1])
                language.append(F.cross_entropy((hidden @ model.backbone.words.weight[:100].T)[:-1], tokens[1:]))
            head = model.heads["classes-classify_text"]
            logits.append(F.linear(states[0] + states[1], head.classify.weight, head.classify.bias))
        labels = torch.tensor([int(row.targets["classify_text"].labels[0]) for row in rows])
        task, half = F.cross_entropy(torch.stack(logits), labels), 0.5 * torch.stack(language).mean()
        assert total.item() == pytest.approx((task + half).item(), rel=1e-6)  # the total is fp32
        assert losses["classify_text"].sum.item() / len(rows) == pytest.approx(task.item(), rel=1e-12)
        assert losses["causal_lm"].sum.item() / (2 * len(rows)) == pytest.approx(2 * half.item(), rel=1e-12)
        assert (losses["classify_text"].targets, losses["causal_lm"].targets) == (len(rows), 2 * len(rows))

    @torch.no_grad()
    def test_similarity_is_the_same_for_both_orders(self):
        recipe = recipe_of("gpt")
        model, (objective, _) = model_of(recipe), recipe.tasks["values"].objectives
        example, logits = example_of("values", np.random.default_rng(3), 2), []
        first = (example["part"] == 0).sum()
        swapped = {name: np.concatenate([v[first:], v[:first]]) if v.ndim else v for name, v in example.items()}
        swapped["part"] = np.sort(1 - swapped["part"])
        for made in (example, swapped):
            row = Row(made).without(frozenset({"letters"}))
            batch = collate(objective.corrupt([row], VOCABULARY, RowDraws(0, "x", [(0, 0)])), VOCABULARY.pad, 1)
            inputs, lengths, targets = to_device(batch, CPU)
            logits.append(model.predict("values", inputs, lengths, targets["regress_text"][0]))
        assert logits[0].item() == pytest.approx(logits[1].item(), abs=1e-5)

    def test_rows_of_one_sequence_count_once_too(self):
        plain = recipe_to_json(recipe_of("gpt"))
        (_, language) = plain["tasks"]["answers"]["objectives"]
        recipe = recipe_from_json(plain)
        batch = batch_of(recipe, "answers")
        assert language["per_row"]
        assert count_of(recipe.tasks["answers"].objectives[1], batch) == len(batch.lengths)
        assert batch.sequences_asked("nothing") == 0


class TestFrozen:
    """ELMo's tasks all freeze the backbone; of ERNIE's some do."""

    def test_what_learns(self):
        parts = {task: parts_of(task, recipe_of("ernie").tasks[task].objectives) for task in OBJECTIVES}
        assert parts["classes"] == {"classes-classify_text"}
        assert parts["values"] == {"values-regress_text", "backbone", "pooler"}
        assert parts["answers"] == {"answers-answer_span", "backbone"}
        assert parts["picked"] == {"picked-choose", "backbone", "pooler"}

    @pytest.mark.parametrize("family", ["elmo", "ernie", "bert"])
    def test_its_dropout_is_off_and_that_of_the_head_is_not(self, family):
        recipe = with_dropout(recipe_of(family))
        model = model_of(recipe, training=True)
        inputs, lengths, _ = to_device(batch_of(recipe, "classes"), CPU)
        (_, once), (_, again) = model.look("classes", inputs, lengths), model.look("classes", inputs, lengths)
        assert torch.equal(once, again) == ("classes" in CASES[family])
        assert model.training
        assert model.heads.training
        _, answers = model.look("answers", *to_device(batch_of(recipe, "answers"), CPU)[:2])
        _, others = model.look("answers", *to_device(batch_of(recipe, "answers"), CPU)[:2])
        assert torch.equal(answers, others) == ("answers" in CASES[family]), "the backbone drops again where it learns"

    def test_nothing_is_kept_for_a_backbone_that_no_task_trains(self):
        model = model_of(recipe_of("elmo"), training=True)
        losses_of(model, "classes", batch_of(recipe_of("elmo"), "classes"))[0].backward()
        assert all(parameter.grad is None for parameter in model.backbone.parameters())
        assert model.heads["classes-classify_text"].encoder.mix.weights.grad.any()

    def test_one_that_others_train_has_a_gradient_of_zero(self):
        """Under ZeRO 3 no gradient would be the last one again."""
        model = model_of(recipe_of("ernie"), training=True)
        losses_of(model, "classes", batch_of(recipe_of("ernie"), "classes"))[0].backward()
        told = dict(model.backbone.named_parameters())
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in told.values())
        assert model.heads["classes-classify_text"].classify.weight.grad.any()


def test_weights_go_in_by_name():
    recipe = recipe_of("bert")
    one, other = model_of(recipe), model_of(recipe)
    weights = {name: parameter.detach()[: stored_shape(parameter)[0]] for name, parameter in one.named_parameters()}
    load_weights(other, weights)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(Exception, match=r"backbone.norm.bias is not among the weights"):
        load_weights(other, {name: weight for name, weight in weights.items() if name != "backbone.norm.bias"})
