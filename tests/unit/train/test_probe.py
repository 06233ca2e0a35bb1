"""Probes: what is fitted is what scikit-learn fits, what is seen is what one row at a time shows, on any number of ranks."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ptm_dist.corpus.shard import write_dataset
from ptm_dist.data.batch import Row, collate
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.recipe_io import flatten, recipe_from_json, recipe_to_json
from ptm_dist.train.module import PretrainingModel, to_device
from ptm_dist.train.probe import L2, Probes, Seen, features_of, fitted, groups_of, is_due, objective_of, reached, standardised
from tests.contract import downstream_ranks
from tests.contract.engine_ranks import VOCABULARY
from tests.tiny import merged, tiny_recipe

SOURCE = {"kind": "labelled", "reader": {"kind": "table", "first": "text", "label": "mood"}, "train": ["a.tsv"], "validation_share": 0.2}
TAGS = {"kind": "labelled", "reader": {"kind": "conll"}, "train": ["a.txt"], "validation": ["b.txt"]}
MOOD = {"sources": SOURCE, "format": {"kind": "texts", "length": 32}, "labels": ["a", "b", "c"], "rows": 11}
NAMES = {"sources": TAGS, "format": {"kind": "tagged_words", "length": 32}, "labels": ["O", "B-X", "I-X"], "rows": 7}
TASKS = {"mood": "classes", "names": "tags"}
COUNTS = {"train": 17, "validation": 9}


def problem(classes, targets=150, width=12, seed=3):
    """Return features that depend on one another and tell something, and classes."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(targets, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    scores = features @ rng.normal(size=(width, classes)) / 10 + rng.gumbel(size=(targets, classes))
    return Seen(features.astype(np.float32), scores.argmax(1))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_fit_is_that_of_scikit_learn(classes):
    train, held_out = problem(classes), problem(classes, 80, seed=4)
    x, y = (standardised(torch.from_numpy(seen.features), torch.from_numpy(train.features)) for seen in (train, held_out))
    # Of two classes scikit-learn has one weight in place of a pair whose halves are opposite.
    theirs = LogisticRegression(C=(2 if classes == 2 else 1) / L2, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(x.numpy(), train.labels)
    weights = fitted(x, torch.from_numpy(train.labels), classes).T
    found = weights[1:] - weights[:1] if classes == 2 else weights
    np.testing.assert_allclose(found.numpy(), theirs.coef_, atol=1e-4)
    figures, likely = reached(train, held_out, classes), theirs.predict_proba(y.numpy())
    assert figures["accuracy"] == pytest.approx(theirs.score(y.numpy(), held_out.labels))
    assert figures["loss"] == pytest.approx(-np.log(likely[np.arange(80), held_out.labels]).mean(), abs=1e-4)
    assert figures["baseline_accuracy"] == np.bincount(held_out.labels).max() / 80


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 40))
def test_at_the_fit_the_gradient_is_zero(seed, classes, targets):
    train = problem(classes, targets, 5, seed)
    x = standardised(torch.from_numpy(train.features), torch.from_numpy(train.features)).numpy()
    weights = fitted(torch.from_numpy(x), torch.from_numpy(train.labels), classes).numpy()
    scores = np.exp(x @ weights)
    gradient = x.T @ (scores / scores.sum(1, keepdims=True) - np.eye(classes)[train.labels]) + L2 * weights
    assert np.abs(gradient).max() < 1e-4


def test_a_class_that_was_never_seen_costs_a_finite_loss():
    train = problem(3)
    figures = reached(train, train._replace(labels=np.full(150, 3)), 4)
    assert (figures["accuracy"], figures["baseline_accuracy"]) == (0.0, 1.0)
    assert 1.0 < figures["loss"] < 10.0


def test_features_are_standardised_as_those_that_were_fitted_to():
    train = np.float32([[1, 5, 2.0], [3, 5, 2.0000002], [8, 5, 2.0]])
    found = standardised(torch.tensor([[4.0, 5.0, 2.1]]), torch.from_numpy(train)).numpy()
    assert found[0, 0] == pytest.approx((4 - train[:, 0].mean()) / train[:, 0].std())
    assert found[0, 1:].tolist() == [0.0, 0.0, 1.0], "what never varies, or by rounding, is left out; a column of ones is added"


def test_of_states_that_are_not_finite_nothing_is_right():
    train = problem(3)
    figures = reached(Seen(np.full_like(train.features, np.nan), train.labels), train, 3)
    assert np.isnan([figures["accuracy"], figures["loss"]]).all()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(1, 250), st.integers(1, 40))
def test_rows_are_spread_evenly_and_grouped_by_length(lengths, most, size):
    groups = groups_of(np.array(lengths, dtype=np.uint32), most, size)
    count = min(most, len(lengths))
    places = np.concatenate(groups)
    assert sorted(places) == [number * len(lengths) // count for number in range(count)]
    assert [lengths[place] for place in places] == sorted(lengths[place] for place in places)
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert 1 <= len(groups[-1]) <= size


def test_a_text_is_seen_as_the_mean_of_its_tokens_and_the_one_that_stands_for_it():
    states = torch.arange(24.0).view(2, 4, 3)
    states[1, 2:] = torch.nan
    found = features_of(states, np.array([4, 2]), np.array([3, 4]), "classify_text")
    assert found.tolist() == [[4.5, 5.5, 6.5, 9, 10, 11], [13.5, 14.5, 15.5, 12, 13, 14]]
    assert features_of(states, np.array([4, 2]), np.array([5, 1]), "tag_words").tolist() == [[15, 16, 17], [3, 4, 5]]


def recipe_of(family, **probes):
    plain = recipe_to_json(downstream_ranks.recipe_of(family))
    return recipe_from_json(merged(plain, {"batch": {"micro": 3}, "evaluate": {"downstream": probes}}))


def write_rows(recipe, folder):
    """Write the data of both probes, and return them as a run has them."""
    datasets = {}
    for number, (name, called) in enumerate(recipe.probe_data.items()):
        rng = np.random.default_rng(number)
        for split, count in COUNTS.items():
            examples = [downstream_ranks.example_of(TASKS[name], rng, 1) for _ in range(count)]
            narrow = {"tokens": np.uint16, "segments": np.uint8, "label": np.uint16}
            rows = [{field: values.astype(narrow.get(field, values.dtype)) for field, values in row.items()} for row in examples]
            write_dataset(iter(rows), folder / called / split, VOCABULARY, {})
        datasets[called] = {split: folder / called / split for split in COUNTS}
    return SimpleNamespace(datasets=datasets, vocabulary=VOCABULARY)


class Gathering:
    """The contexts of some ranks that are threads."""

    def __init__(self, world):
        self.world, self._given, self._barrier = world, {}, Barrier(world)

    def of(self, rank):
        def gather(value):
            self._given[rank] = value
            self._barrier.wait(20)
            found = [self._given[other] for other in range(self.world)]
            self._barrier.wait(20)
            return found

        return SimpleNamespace(rank=rank, world=self.world, gather=gather)


def model_of(recipe):
    torch.manual_seed(0)
    return PretrainingModel(recipe, VOCABULARY).eval()


def measured(recipe, data, world):
    """Return the figures that each rank is told of each probe, and how often each forwarded."""
    torch.set_num_threads(1)
    together, forwarded, model = Gathering(world), [0] * world, model_of(recipe)

    def measure(rank):
        def read(batch):
            forwarded[rank] += 1
            with torch.no_grad():
                return model(None, *to_device(batch, torch.device("cpu")), {})[0]

        probes = Probes(recipe, together.of(rank), SimpleNamespace(read=read), data)
        return [probes.measure(name) for name in recipe.evaluate.downstream]

    with ThreadPoolExecutor(world) as ranks:
        return list(ranks.map(measure, range(world))), forwarded


def seen_by_row(recipe, data, name, split, model):
    """Return what a probe sees, a row after the other, none of them padded."""
    probe = recipe.evaluate.downstream[name]
    dataset = Dataset.open(data.datasets[probe.data_of(name)][split])
    asking, found = objective_of(probe, recipe.model.joining.summary), []
    for number in range(min(probe.rows, dataset.rows)):
        example = RowReader(dataset, 1).row(number * dataset.rows // min(probe.rows, dataset.rows))
        (row,) = asking.corrupt([Row(example)], VOCABULARY, None)
        inputs, lengths, _ = to_device(collate([row.without(asking.reads)], VOCABULARY.pad, 1), torch.device("cpu"))
        with torch.no_grad():
            states = model.backbone.read(inputs | {"task_types": torch.zeros_like(inputs["tokens"])}, lengths)[0, : int(lengths)].numpy()
        positions, labels = row.targets[asking.kind]
        mean = np.broadcast_to(states.mean(0), states.shape)
        found.append((np.concatenate([mean, states], 1)[positions] if name == "mood" else states[positions], labels))
    return Seen(*(np.concatenate(column) for column in zip(*found, strict=True)))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlnet", "gpt", "elmo", "ernie"])
def test_any_number_of_ranks_reaches_what_one_row_after_the_other_does(family, tmp_path):
    recipe = recipe_of(family, mood=MOOD, names=NAMES)
    data = write_rows(recipe, tmp_path)
    (alone,), _ = measured(recipe, data, 1)
    for number, name in enumerate(recipe.evaluate.downstream):
        train, held_out = (seen_by_row(recipe, data, name, split, model_of(recipe)) for split in COUNTS)
        wanted = reached(train, held_out, 3)
        assert alone[number] == {key: pytest.approx(value, rel=1e-4) for key, value in wanted.items()} | {"rows": [9, 7][number]}
    for world in (2, 3):
        told, forwarded = measured(recipe, data, world)
        near = [{key: pytest.approx(value, rel=1e-6) for key, value in figures.items()} for figures in alone]
        assert told == [near] * world
        assert forwarded == [sum(math.ceil(math.ceil(rows / 3) / world) for rows in (11, 9, 7, 7))] * world


def test_a_probe_is_due_at_the_beginning_at_the_end_and_every_so_many_steps():
    assert [done for done in range(11) if is_due(done, 4, 10)] == [0, 4, 8, 10]
    recipe = recipe_of("bert", mood=MOOD, names=NAMES | {"every_steps": 5})
    probes = Probes(recipe, None, None, SimpleNamespace(datasets=recipe.probe_data.values()))
    assert {done: due for done in range(24) if (due := probes.due(done, 23))} == {
        **{done: ["names"] for done in (5, 10, 15)},
        **{done: ["mood", "names"] for done in (0, 20, 23)},
    }


def test_data_that_are_not_prepared_are_a_named_error():
    recipe = recipe_of("bert", mood=MOOD)
    with pytest.raises(DataUnavailableError, match=r"evaluate\.downstream\.mood: its data are not prepared\. Run: ptm data prepare"):
        Probes(recipe, None, None, SimpleNamespace(datasets={"classes": {}}))


def with_probe(**changes):
    return tiny_recipe(evaluate={"downstream": {"mood": merged(MOOD, changes)}})


def test_a_probe_makes_no_other_run_and_may_come_and_go():
    recipe = with_probe()
    assert recipe.digest == tiny_recipe().digest
    assert "evaluate.downstream.mood.rows" in flatten(recipe)
    assert {recipe.change_of(key) for key in flatten(recipe) if key.startswith("evaluate.downstream")} == {"allowed"}
    assert recipe_from_json(recipe_to_json(recipe)) == recipe


def test_other_rows_have_other_data():
    (name,) = with_probe().probe_data.values()
    assert name.startswith("probe:mood:"), "no task can be called so"
    for same in ({"rows": 5}, {"every_steps": 3}):
        assert list(with_probe(**same).probe_data.values()) == [name]
    for other in ({"labels": ["b", "a", "c"]}, {"format": {"length": 31}}, {"sources": {"train": ["b.tsv"]}}):
        assert list(with_probe(**other).probe_data.values()) != [name]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sources": {"validation_share": 0.0}}, "sources: there is nothing for validation; name files for train, and files or a share"),
        ({"sources": {"kind": "text"}}, "unknown kind 'text'; one of: labelled"),
        ({"sources": {"reader": {"kind": "squad"}}}, "format: texts does not read what the reader squad makes"),
        ({"format": {"kind": "questions"}}, "unknown kind 'questions'; one of: tagged_words, texts"),
        (
            {"format": {"kind": "tests.dummies:Looped", "hidden": 5}},
            "a probe needs a source of kind labelled, and the format texts or tagged",
        ),
        ({"format": {"both_orders": True}}, "format.both_orders: a probe reads each pair once; leave it out"),
        ({"format": {"length": 64}}, "evaluate.downstream.mood.format.length 64 exceeds the model's positions 32"),
        ({"labels": ["a"]}, "at least 2"),
        ({"labels": ["a", "a"]}, "a stands twice"),
    ],
)
def test_what_cannot_be_probed_is_a_named_error(changes, told):
    plain = recipe_to_json(tiny_recipe())
    probe = MOOD | {key: MOOD[key] | value if isinstance(value, dict) and "kind" not in value else value for key, value in changes.items()}
    with pytest.raises(ConfigError) as error:
        recipe_from_json(merged(plain, {"evaluate": {"downstream": {"mood": probe}}}))
    assert told in str(error.value)
    assert "evaluate.downstream.mood" in str(error.value)


def test_more_tags_than_a_row_can_tell_apart_are_a_named_error():
    with pytest.raises(ConfigError, match="labels: there are 256, and at most 255 tags"):
        recipe_of("bert", names=NAMES | {"labels": [f"B-{number}" for number in range(256)]})
