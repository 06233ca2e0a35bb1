"""What every plug-in promises. The tests run over the tables, so a new line in a table is tested without a new line here."""

import atexit
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from ptm_dist.corpus import SOURCES, TOKENIZERS, UNITS
from ptm_dist.corpus.labelled import READERS
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.data.batch import HeadKind, HeadSpec, Row, Targets, collate
from ptm_dist.data.characters import character_ids
from ptm_dist.data.document import LETTERS, WORD, TokenizedDocument, tokens
from ptm_dist.data.example import ENDS, NO_LABEL, STARTS, pack, row, row_starts
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.formats import FORMATS
from ptm_dist.formats.labelled import LabelledFormat
from ptm_dist.models import FAMILIES
from ptm_dist.models.downstream import DOWNSTREAM
from ptm_dist.objectives import OBJECTIVES
from ptm_dist.objectives.downstream import Downstream
from ptm_dist.optimizers import OPTIMIZERS
from ptm_dist.rates import RATES
from ptm_dist.recipe_io import dump_recipe, load_recipe, recipe_from_json, recipe_to_json
from ptm_dist.rng import Draws, RowDraws
from tests.tiny import tiny_recipe

TABLES = {
    "sources.own": SOURCES,
    "sources.own.reader": READERS,
    "corpus.units": UNITS,
    "tokenizer": TOKENIZERS,
    "tasks.mlm.format": FORMATS,
    "tasks.mlm.objectives.0": OBJECTIVES,
    "model": FAMILIES,
    "optimizer.schedule": RATES,
    "optimizer": OPTIMIZERS,
}
"""Every place of a recipe that holds a plug-in, and what may stand there."""
PLUGINS = [pytest.param(place, kind, found, id=f"{place}-{kind}") for place, table in TABLES.items() for kind, found in table.items()]

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)
LENGTH = 32
SMALL = {"cell": 12, "projection": 8, "filters": [[1, 3], [2, 4]], "negatives": 20}
SMALL |= {
    "layers": 2,
    "hidden": 16,
    "heads": 2,
    "intermediate": 32,
    "positions": LENGTH,
    "length": LENGTH,
    "vocab_size": 400,
    "least_count": 1,
}
OTHERS = Path(tempfile.mkdtemp(prefix="ptm-tokenizer-"))
atexit.register(shutil.rmtree, OTHERS, ignore_errors=True)
"""A folder with a tokenizer, for the plug-in that takes one over."""
for _name, _data in ByteBPE(vocab_size=300).train(iter(["The quick brown fox. " * 9])).items():
    (OTHERS / _name).write_bytes(_data)
SMALL["folder"] = str(OTHERS)
SMALL |= {"choices": 2, "reader": {"kind": "squad"}, "train": ["x"], "first": "text"}
REQUIRED = {"integer": 8, "number": 0.5, "string": "x", "boolean": True, "array": ["x", "y"]}


def small(found):
    """Return a plug-in with small dimensions, and something plain for what it requires."""
    schema = found.model_json_schema()
    asked = {name: schema["properties"][name] for name in schema.get("required", ()) if name not in SMALL}
    required = {name: field["enum"][0] if "enum" in field else REQUIRED[field["type"]] for name, field in asked.items()}
    return found.model_validate(required | {name: value for name, value in SMALL.items() if name in found.model_fields}, strict=False)


def each(table):
    return pytest.mark.parametrize("plugin", [pytest.param(small(found), id=kind) for kind, found in table.items()])


@pytest.mark.parametrize(("place", "kind", "found"), PLUGINS)
class TestEveryPlugin:
    def test_it_is_strict_and_frozen_and_forbids_what_it_does_not_know(self, place, kind, found):
        expected = {"frozen": True, "strict": True, "extra": "forbid"}
        assert {key: found.model_config.get(key) for key in expected} == expected
        with pytest.raises(ValidationError, match="frozen"):
            small(found).kind = "other"
        with pytest.raises(ValidationError, match="Extra inputs"):
            found.model_validate({"no_such_setting": 1})

    def test_its_kind_is_its_name_in_the_table(self, place, kind, found):
        field = found.model_fields["kind"]
        assert get_origin(field.annotation) is Literal
        assert get_args(field.annotation) == (kind,)
        assert field.default == kind

    def test_it_and_its_methods_are_explained(self, place, kind, found):
        public = {name: part for name, part in vars(found).items() if not name.startswith("_") and name != "model_config"}
        explained = {name: part for name, part in public.items() if callable(part) or isinstance(part, property)}
        assert found.__dict__.get("__doc__")
        assert all(part.__doc__ for part in explained.values()), [name for name, part in explained.items() if not part.__doc__]

    def test_it_comes_back_from_json(self, place, kind, found):
        plugin = small(found)
        again = found.model_validate_json(plugin.model_dump_json())
        assert again == plugin
        assert hash(again) == hash(plugin)

    def test_it_comes_back_from_a_recipe(self, place, kind, found, tmp_path):
        recipe = put(place, small(found).model_dump(mode="json"))
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        again = load_recipe([tmp_path / "recipe.yaml"])
        assert again == recipe
        assert again.digest == recipe.digest
        assert isinstance(at(again, place), found)

    def test_its_kind_misspelt_is_put_right(self, place, kind, found):
        with pytest.raises(ConfigError) as error:
            put(place, {"kind": f"{kind}x"})
        assert str(error.value) == f"{place}.kind: unknown kind '{kind}x'; did you mean '{kind}'?"


ASKING = {found.reads_format: found for found in OBJECTIVES.values() if issubclass(found, Downstream)}
"""An objective for each kind of format of labelled items."""


def labelled_kind(place, kind):
    """Return the format of labelled items that is needed beside a plug-in, if one is."""
    if place.startswith("sources"):
        return "questions" if place.endswith("reader") or kind == "labelled" else None
    return kind if kind in ASKING else getattr(OBJECTIVES.get(kind), "reads_format", None)


def put(place, settings):
    """Return a recipe in which a plug-in fits at a place, with its settings there."""
    plain = recipe_to_json(tiny_recipe(model={"positions": 512}))
    plain["corpus"]["units"] = {"kind": "english"}
    plain["batch"] = {"rows": 8, "lanes": 8}
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if layout := labelled_kind(place, kind):
        fitting = OBJECTIVES[kind] if kind in OBJECTIVES else ASKING[layout]
        plain["sources"]["own"] = small(SOURCES["labelled"]).model_dump(mode="json")
        plain["tasks"]["mlm"]["format"] = small(FORMATS[layout]).model_dump(mode="json")
        plain["tasks"]["mlm"]["objectives"] = [small(fitting).model_dump(mode="json")]
    if place.startswith("tasks") and kind in {"word_streams", "bidirectional_lm"}:  # These two go together only.
        plain["tasks"]["mlm"] |= {"format": {"kind": "word_streams", "length": 8}, "objectives": [{"kind": "bidirectional_lm"}]}
    *parents, last = place.split(".")
    node = plain
    for key in parents:
        node = node[key]
    node[int(last) if last.isdigit() else last] = settings
    return recipe_from_json(plain)


def at(recipe, place):
    node = recipe
    for key in place.split("."):
        node = node[int(key)] if isinstance(node, tuple) else node[key] if isinstance(node, dict) else getattr(node, key)
    return node


class Outside(BaseModel):
    """A plug-in of a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stateful: ClassVar = False
    needs_marks: ClassVar = False

    kind: Literal[f"{__name__}:Outside"] = f"{__name__}:Outside"
    length: int = 8
    longest: int = 512
    classes: int = 0
    words: tuple[str, ...] = ("a", "b")


@pytest.mark.parametrize("place", [place for place in TABLES if place != "sources.own.reader"])
class TestPluginsFromOutside:
    def test_they_are_found_by_module_and_class(self, place, tmp_path):
        recipe = put(place, {"kind": f"{__name__}:Outside", "words": ["c"]})
        assert at(recipe, place) == Outside(words=("c",))
        assert recipe.digest != put(place, {"kind": f"{__name__}:Outside"}).digest
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        assert load_recipe([tmp_path / "recipe.yaml"]) == recipe

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("no_such_module:Class", "cannot import no_such_module:Class: No module named 'no_such_module'; add its folder to PYTHONPATH"),
            (f"{__name__}:Missing", f"cannot import {__name__}:Missing: module '{__name__}' has no attribute 'Missing'"),
            ("json:dumps", "json:dumps is not a pydantic model"),
            (3, "unknown kind 3; one of: "),
            ("", "unknown kind ''; one of: "),
        ],
    )
    def test_what_is_none_is_refused(self, place, kind, message):
        with pytest.raises(ConfigError) as error:
            put(place, {"kind": kind})
        assert str(error.value).startswith(f"{place}.kind: {message}")

    def test_a_kind_must_be_given(self, place):
        with pytest.raises(ConfigError, match="'kind' is missing; one of: "):
            put(place, {})
        with pytest.raises(ConfigError, match="expected a mapping with a 'kind'"):
            put(place, "text")

    def test_their_mistakes_are_shown_with_the_whole_path(self, place):
        with pytest.raises(ConfigError) as error:
            put(place, {"kind": f"{__name__}:Outside", "length": "8", "x": 1})
        assert str(error.value).splitlines() == [f'{place}.length: "8" is text; write 8', f"{place}.x: unknown key; remove it"]


CLASSIFIERS = [HeadSpec("sequence", 3), HeadSpec("tokens", 2)]
LABELLED = [HeadSpec("text", 3), HeadSpec("tags", 5), HeadSpec("value"), HeadSpec("choice"), HeadSpec("span")]
LANGUAGE_MODELS = [HeadSpec(kind) for kind in get_args(HeadKind) if kind.endswith("_lm")]


def characters_of(tokens):
    """Return the characters of each token's number as a word, int64 [tokens, 50]."""
    return character_ids([f"w{token}" for token in tokens])


def micro_batch(lengths, seed=0):
    texts = [Draws(seed, "row", number).integers(length, 95) + 4 for number, length in enumerate(lengths)]
    rows = [Row({"tokens": text, "segments": np.zeros(len(text)), "characters": characters_of(text)}) for text in texts]
    batch = collate(rows, VOCABULARY.pad, len(rows))
    return {name: torch.from_numpy(values) for name, values in batch.inputs.items()}, torch.from_numpy(batch.lengths)


def states(backbone, batch):
    return backbone(*batch)[0]


def heads_of(plugin, backbone):
    """Return the classifiers of a family, and the one language model that it can train."""
    found = {}
    for spec in [*CLASSIFIERS, *LANGUAGE_MODELS]:
        with suppress(ConfigError):
            found[spec] = plugin.head(spec, backbone, VOCABULARY)
    assert found.keys() >= set(CLASSIFIERS)
    assert len(found) == len(CLASSIFIERS) + 1
    return found


@each(FAMILIES)
class TestFamilies:
    def test_they_are_built_without_memory(self, plugin):
        with torch.device("meta"):
            backbone = plugin.backbone(VOCABULARY)
            heads = heads_of(plugin, backbone)
        assert all(parameter.is_meta for part in (backbone, *heads.values()) for parameter in part.parameters())

    def test_heads_give_finite_logits_at_targets(self, plugin):
        backbone = plugin.backbone(VOCABULARY)
        hidden = states(backbone, micro_batch([5, 9, 16]))
        for spec, head in heads_of(plugin, backbone).items():
            classes = spec.classes or VOCABULARY.size
            logits = head(hidden, torch.tensor([0, 17, 40, 32]))
            assert logits.shape == (4, classes)
            assert torch.isfinite(logits).all()
            assert head(hidden, torch.zeros(0, dtype=torch.int64)).shape == (0, classes)

    def test_losses_are_sums_that_add_up(self, plugin):
        backbone = plugin.backbone(VOCABULARY).eval()
        hidden = states(backbone, micro_batch([5, 9, 16])).detach().requires_grad_()
        positions = torch.tensor([0, 17, 40, 32, 3, 18, 33])
        for spec, head in heads_of(plugin, backbone).items():
            labels = torch.arange(7) % (spec.classes or VOCABULARY.size)
            whole, first, rest = (head.eval().loss(hidden, positions[cut], labels[cut]) for cut in (slice(7), slice(3), slice(3, 7)))
            assert (whole.targets, first.targets, rest.targets) == (7, 3, 4)
            assert torch.allclose(whole.sum, first.sum + rest.sum, rtol=1e-5)
            assert whole.correct == first.correct + rest.correct
            (gradient,) = torch.autograd.grad(whole.sum, hidden)
            assert torch.isfinite(gradient).all()
            nothing = head.loss(hidden, positions[:0], labels[:0])
            assert (nothing.sum.item(), nothing.targets, int(nothing.correct)) == (0.0, 0, 0)
            assert nothing.sum.requires_grad

    def test_padding_changes_no_valid_output(self, plugin):
        backbone = plugin.backbone(VOCABULARY).eval()
        inputs, lengths = micro_batch([3, 16, 8, 11])
        together = states(backbone, (inputs, lengths))
        for number, length in enumerate(lengths.tolist()):
            cut = {name: values[number : number + 1, :length] for name, values in inputs.items()}
            alone = states(backbone, (cut, lengths[number : number + 1]))
            assert torch.allclose(together[number, :length], alone[0], atol=1e-5)

    def test_what_stands_in_the_padding_does_not_matter(self, plugin):
        backbone = plugin.backbone(VOCABULARY).eval()
        inputs, lengths = micro_batch([3, 16, 8])
        valid = torch.arange(inputs["tokens"].shape[1]) < lengths[:, None]
        other = inputs | {"tokens": torch.where(valid, inputs["tokens"], 42)}
        assert torch.allclose(states(backbone, (inputs, lengths))[valid], states(backbone, (other, lengths))[valid], atol=1e-5)

    def test_every_parameter_of_the_backbone_is_trained(self, plugin):
        backbone = plugin.backbone(VOCABULARY)
        states(backbone, micro_batch([5, 16])).square().sum().backward()
        assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None and "pooler." not in name] == []

    def test_a_row_may_be_as_long_as_they_say_and_no_longer(self, plugin):
        if plugin.longest > 10_000:
            pytest.skip("no table bounds the rows of this family")
        backbone = plugin.backbone(VOCABULARY)
        inputs, lengths = micro_batch([plugin.longest])
        assert states(backbone, (inputs, lengths)).shape[:2] == inputs["tokens"].shape
        with pytest.raises(ValueError, match=str(plugin.longest)):
            backbone(*micro_batch([plugin.longest + 1]))


@pytest.mark.parametrize("spec", LABELLED, ids=lambda spec: spec.kind)
@each(FAMILIES)
class TestFamiliesOnLabelledTasks:
    """Three rows; classes of a row are asked at its first token, the others at several."""

    LENGTHS = (5, 9, 16)

    def built(self, plugin, spec):
        torch.manual_seed(0)
        backbone = plugin.backbone(VOCABULARY).eval()
        return backbone, plugin.head(spec, backbone, VOCABULARY).eval()

    def asked(self, spec, row):
        """Return positions and labels of a row of a batch."""
        places = [0] if spec.kind in {"text", "value"} else [0, 1, 3, 4]
        labels = {"text": [row], "value": [0.5 * row], "tags": [4, 0, row, 1], "choice": [0, 1, 0, 0], "span": [0, STARTS, 0, ENDS]}
        return torch.tensor(places), torch.tensor(labels[spec.kind])

    def test_logits_are_finite_and_losses_of_rows_add_up(self, plugin, spec):
        backbone, head = self.built(plugin, spec)
        inputs, lengths = micro_batch(self.LENGTHS)
        hidden = head.encode(backbone.read(inputs, lengths), lengths)
        found = [self.asked(spec, row) for row in range(3)]
        positions = torch.cat([row * hidden.shape[1] + places for row, (places, _) in enumerate(found)])
        labels = torch.cat([labels for _, labels in found])
        logits = head(hidden, positions)
        assert logits.shape[0] == len(positions)
        assert logits.shape[1:] == {"text": (3,), "tags": (5,), "span": (2,)}.get(spec.kind, ())
        assert torch.isfinite(logits).all()
        whole, alone = head.loss(hidden, positions, labels), []
        for number, length in enumerate(self.LENGTHS):
            cut = {name: values[number : number + 1, :length] for name, values in inputs.items()}
            own = head.encode(backbone.read(cut, lengths[number : number + 1]), lengths[number : number + 1])
            alone.append(head.loss(own, *found[number]))
        assert whole.sum.item() == pytest.approx(sum(loss.sum.item() for loss in alone), rel=1e-5)
        assert whole.targets == sum(loss.targets for loss in alone) == (12 if spec.kind == "tags" else 3)
        assert whole.correct == sum(loss.correct for loss in alone)

    def test_what_is_not_asked_costs_nothing(self, plugin, spec):
        backbone, head = self.built(plugin, spec)
        inputs, lengths = micro_batch(self.LENGTHS)
        hidden, nothing = head.encode(backbone.read(inputs, lengths), lengths), torch.zeros(0, dtype=torch.int64)
        loss = head.loss(hidden, nothing, nothing)
        assert (loss.sum.item(), loss.targets, int(loss.correct)) == (0.0, 0, 0)
        assert loss.sum.requires_grad
        assert len(head(hidden, nothing)) == 0

    def test_every_parameter_is_trained(self, plugin, spec):
        backbone, head = self.built(plugin, spec)
        inputs, lengths = micro_batch(self.LENGTHS)
        hidden = head.encode(backbone.read(inputs, lengths), lengths)
        found = [self.asked(spec, row) for row in range(3)]
        positions = torch.cat([row * hidden.shape[1] + places for row, (places, _) in enumerate(found)])
        head.loss(hidden, positions, torch.cat([labels for _, labels in found])).sum.backward()
        # A softmax does not feel what is added to all scores alike.
        assert [name for name, parameter in head.named_parameters() if parameter.grad is None] == []
        quiet = {"pooler.dense.weight", "pooler.dense.bias", "mask_vector"}
        assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None and name not in quiet] == []


@each(FAMILIES)
def test_families_say_how_they_lay_texts(plugin):
    assert plugin.joining.place(7) == (6 if plugin.joining.summary == "last" else 0)
    assert {spec.kind for spec in LABELLED} == DOWNSTREAM


def example(length, seed):
    """Return a row with everything that an objective reads."""
    draws = Draws(seed, "example")
    tokens, targets = (draws.integers(length, 94) + 4 for _ in range(2))
    tokens[0], tokens[-1] = VOCABULARY.begin, VOCABULARY.end
    inside = np.isin(tokens, VOCABULARY.special_ids, invert=True)
    fields = {
        "segments": np.zeros(length, np.uint8),
        "marks": (draws.integers(length, 16) * inside).astype(np.uint8),
        "labels": np.where(inside, draws.integers(length, 2), NO_LABEL).astype(np.uint8),
        "letters": np.array([f"w{token}".encode() for token in tokens], f"S{LETTERS}"),
        "targets": targets.astype(np.uint16),
        "label": np.array(1),
        "value": np.array(0.25 * length, np.float32),
        "pick": picks(length, draws),
        "reuse": np.array(length // 3),
    }
    return Row({"tokens": tokens.astype(np.uint16)} | fields, {"earlier": EARLIER})


def picks(length, draws):
    """Return where an answer may be picked, starts and ends."""
    pick = (draws.integers(length, 2) * NO_LABEL).astype(np.uint8)
    first, last = sorted(draws.integers(2, length))
    pick[[first, last]] = 0
    pick[first] |= STARTS
    pick[last] |= ENDS
    return pick


def example_for(plugin, length, seed):
    """Return a row that an objective may see: two sequences laid end to end where it chooses between them."""
    found = example(length, seed)
    return (
        Row(found.inputs | {"part": np.arange(length, dtype=np.uint8) * 2 // length}, found.targets) if plugin.kind == "choose" else found
    )


EARLIER = Targets(np.array([0]), np.array([1]))


def equal(one, other):
    same_inputs = one.inputs.keys() == other.inputs.keys() and all(np.array_equal(one.inputs[n], other.inputs[n]) for n in one.inputs)
    return (
        same_inputs
        and one.targets.keys() == other.targets.keys()
        and all(np.array_equal(a, b) for name in one.targets for a, b in zip(one.targets[name], other.targets[name], strict=True))
    )


some_rows = st.lists(st.tuples(st.integers(2, 60), st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 10**9)), min_size=1, max_size=5)


@each(OBJECTIVES)
class TestObjectives:
    @given(rows=some_rows, seed=st.integers(0, 2**32), step=st.none() | st.integers(0, 10**6), random=st.randoms())
    @settings(deadline=None, max_examples=50)
    def test_a_row_is_changed_the_same_way_in_whatever_company(self, plugin, rows, seed, step, random):
        def changed(numbers):
            draws = RowDraws(seed, "train", [rows[number][2:] for number in numbers])
            return plugin.corrupt([example_for(plugin, *rows[number][:2]) for number in numbers], VOCABULARY, draws, step)

        together = changed(range(len(rows)))
        order = random.sample(range(len(rows)), len(rows))
        assert all(equal(found, together[number]) for found, number in zip(changed(order), order, strict=True))
        assert all(equal(changed([number])[0], found) for number, found in enumerate(together))
        assert plugin.corrupt([], VOCABULARY, RowDraws(seed, "train", []), step) == []

    @given(length=st.integers(2, 60), seed=st.integers(0, 2**32))
    @settings(deadline=None, max_examples=50)
    def test_rows_keep_their_length_and_get_targets_in_it(self, plugin, length, seed):
        before = example_for(plugin, length, seed)
        (found,) = plugin.corrupt([before], VOCABULARY, RowDraws(seed, "train", [(0, 0)]))
        assert equal(before, example_for(plugin, length, seed))
        laid = before.beside(VOCABULARY.pad)
        assert all(found.inputs[name].shape == values.shape for name, values in laid.inputs.items())
        assert {len(values) for values in found.inputs.values() if values.ndim} == {-(-length // 2) if plugin.kind == "choose" else length}
        assert found.targets["earlier"] is EARLIER
        assert found.targets.keys() == {"earlier", plugin.kind}
        positions, labels = found.targets[plugin.kind]
        assert positions.shape == labels.shape
        assert ((positions >= 0) & (positions < laid.inputs["tokens"].size)).all()
        assert ((labels >= 0) & (labels < (plugin.head.classes or VOCABULARY.size))).all()
        assert not plugin.head.over_vocabulary or plugin.predictable(VOCABULARY)[labels].all()
        assert 0 <= plugin.count(labels) <= len(labels)
        assert len(plugin.names) in {0, 2}
        assert ((found.inputs["tokens"] >= 0) & (found.inputs["tokens"] < VOCABULARY.size)).all()

    def test_it_reads_what_it_says_and_no_more(self, plugin):
        before = example_for(plugin, 40, 0)
        assert plugin.reads <= before.inputs.keys() | {"part"}
        needed = plugin.reads | {"tokens", "label", "value"}
        draws = RowDraws(0, "train", [(0, 0)])
        (all_of_it,) = plugin.corrupt([before], VOCABULARY, draws)
        (part,) = plugin.corrupt([before.without(frozenset(before.inputs) - needed)], VOCABULARY, draws)
        assert all(np.array_equal(*pair) for pair in zip(all_of_it.targets[plugin.kind], part.targets[plugin.kind], strict=True))
        assert plugin.needs_marks <= ("marks" in plugin.reads)


def piece(found):
    """Return a piece of these (id, marks), with letters, as the tokenizer of whole words gives them."""
    made = tokens([id_ for id_, _ in found], [marks for _, marks in found], WORD)
    made["letters"] = [b"w%d" % id_ for id_, _ in found]
    return made


labelled_pieces = st.tuples(st.lists(st.tuples(st.integers(4, 98), st.integers(0, 15)), max_size=40).map(piece), st.integers(0, 2))
documents = st.lists(st.lists(labelled_pieces, max_size=6), max_size=6).map(
    lambda found: [
        TokenizedDocument(str(number), [text for text, _ in pieces], [label for _, label in pieces]) for number, pieces in enumerate(found)
    ]
)


@each({kind: found for kind, found in FORMATS.items() if not issubclass(found, LabelledFormat)})
class TestFormats:
    @given(documents=documents)
    @settings(deadline=None, max_examples=50)
    def test_examples_have_tokens_and_fit_into_a_chunk(self, plugin, documents):
        examples = list(plugin.examples(iter(documents), VOCABULARY, Counter()))
        again = list(plugin.examples(documents, VOCABULARY, Counter()))
        assert len(again) == len(examples)
        for example, same in zip(examples, again, strict=True):
            assert 1 <= len(example["tokens"]) <= plugin.length
            assert example["tokens"].max() < VOCABULARY.size
            assert example["marks"].dtype == np.uint8
            assert {len(values) for values in example.values() if values.ndim} == {len(example["tokens"])}
            assert example.keys() == examples[0].keys()
            assert all(np.array_equal(values, same[name]) for name, values in example.items())
            if plugin.classes:
                assert 0 <= int(example["label"]) < plugin.classes
                assert plugin.meaning(int(example["label"]))
        if examples:
            chunk = pack(examples)
            starts = row_starts(chunk)
            for number, example in enumerate(examples):
                assert all(np.array_equal(values, example[name]) for name, values in row(chunk, number, starts).items())

    @given(documents=documents)
    @settings(deadline=None, max_examples=20)
    def test_documents_that_give_no_example_are_counted(self, plugin, documents):
        for document in documents:
            skipped = Counter()
            examples = list(plugin.examples([document], VOCABULARY, skipped))
            assert +skipped == skipped
            assert skipped.total() == (not examples)

    def test_no_text_gives_no_example(self, plugin):
        skipped = Counter()
        nothing = [TokenizedDocument("a", []), TokenizedDocument("b", [piece([])], [0])]
        assert list(plugin.examples([], VOCABULARY, skipped)) == []
        assert skipped.total() == 0
        assert list(plugin.examples(nothing, VOCABULARY, skipped)) == []
        assert +skipped == {"empty": 2}


@each({kind: found for kind, found in FORMATS.items() if issubclass(found, LabelledFormat)})
def test_formats_of_labelled_items_refuse_documents_and_somebody_asks_for_what_they_give(plugin):
    with pytest.raises(ConfigError, match="reads labelled items, not documents"):
        plugin.examples([], VOCABULARY, Counter())
    assert plugin.kind in ASKING


@each(TOKENIZERS)
class TestTokenizers:
    TEXTS = ("The quick brown fox jumps over the lazy dog. " * 3, "快速的棕色狐狸", "naïve café 🙂\n\ttabs", "<mask> is text here")

    @pytest.fixture
    def folder(self, plugin, tmp_path):
        for name, data in plugin.train(iter(self.TEXTS)).items():
            (tmp_path / name).write_bytes(data)
        return tmp_path

    def test_equal_texts_give_equal_files(self, plugin):
        assert plugin.train(iter(self.TEXTS)) == plugin.train(iter(self.TEXTS))

    def test_text_becomes_ids_that_are_no_special_ones(self, plugin, folder):
        tokenizer = load_tokenizer(folder)
        encoded = tokenizer.encode([*self.TEXTS, ""])
        assert [ids.ndim for ids in encoded] == [1] * 5
        assert len(encoded[-1]) == 0
        assert all(ids.min() >= 0 and ids.max() < tokenizer.vocabulary.size for ids in encoded[:-1])
        assert not np.isin(np.concatenate(encoded), tokenizer.vocabulary.special_ids).any()
        assert tokenizer.vocabulary.size <= plugin.vocab_size

    def test_ids_become_a_text_of_the_same_ids(self, plugin, folder):
        tokenizer = load_tokenizer(folder)
        encoded = tokenizer.encode(list(self.TEXTS))
        decoded = [tokenizer.decode(ids.tolist()) for ids in encoded]
        assert all(np.array_equal(one, other) for one, other in zip(tokenizer.encode(decoded), encoded, strict=True))


@each(RATES)
@given(step=st.integers(0, 10**6), total=st.integers(1, 10**6))
def test_rates_are_shares_of_the_peak(plugin, step, total):
    assert 0 <= plugin.factor(step, total) <= 1
