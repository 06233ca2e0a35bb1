import gzip
import hashlib
import json
import pickle
from collections import Counter, defaultdict
from pathlib import Path
from typing import ClassVar, Literal

import fsspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from ptm_dist.corpus import SOURCES
from ptm_dist.corpus.labelled import READERS, Labelled
from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.shares import first_items, group_of, split_of_group
from ptm_dist.corpus.split import SPLITS
from ptm_dist.data.item import Answer, ChoiceItem, QuestionItem, TaggedItem, TextItem
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.store import canonical_json
from tests.unit.corpus.labelled.reading import labelled

TABLE = {"kind": "table", "header": False, "first": 0, "second": 1, "label": 2}


def rows(*numbers, label="x"):
    return "".join(f"premise {number // 3}\thypothesis {number}\t{label}\n" for number in numbers)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.tsv").write_text(text)
    return folder


def held_out(folder, **more):
    return labelled(TABLE, **({"train": [f"{folder}/*.tsv"], "validation_share": 0.2, "test_share": 0.1} | more))


def test_it_is_a_source():
    assert SOURCES["labelled"] is Labelled
    assert {kind: found.model_fields["kind"].default for kind, found in READERS.items()} == {kind: kind for kind in READERS}


class TestFiles:
    def test_each_split_has_its_files_plain_or_compressed(self, tmp_path):
        write(tmp_path, train=rows(0, 1))
        (tmp_path / "dev.tsv.gz").write_bytes(gzip.compress(rows(2).encode()))
        (tmp_path / "test.tsv.zst").write_bytes(zstandard.compress(rows(3).encode()))
        source = labelled(TABLE, train=[f"{tmp_path}/train.tsv"], validation=[f"{tmp_path}/dev*"], test=[f"{tmp_path}/test.tsv.zst"])
        assert source.items("train") == (
            [TextItem("train.tsv:1", "premise 0", "hypothesis 0", "x"), TextItem("train.tsv:2", "premise 0", "hypothesis 1", "x")],
            Counter(),
        )
        assert source.items("validation")[0][0].id == "dev.tsv.gz:1"
        assert source.items("test")[0][0].second == "hypothesis 3"
        assert all(source.has(split) for split in SPLITS)

    def test_folders_globs_and_urls(self, tmp_path):
        write(tmp_path / "high", a=rows(0))
        write(tmp_path / "middle", a=rows(1))
        (tmp_path / "high" / ".hidden").write_text("no data")
        assert [item.id for item in labelled(TABLE, train=[str(tmp_path)]).items("train")[0]] == ["high/a.tsv:1", "middle/a.tsv:1"]
        assert [item.id for item in labelled(TABLE, train=[f"{tmp_path}/*/a.tsv"]).items("train")[0]] == ["high/a.tsv:1", "middle/a.tsv:1"]
        assert [item.id for item in labelled(TABLE, train=[f"{tmp_path}/high/a.tsv", f"{tmp_path}/middle/a.tsv"]).items("train")[0]] == [
            "a.tsv:1",
            "a.tsv#2:1",
        ]
        with fsspec.open("memory://labelled/a.tsv", "wb") as file:
            file.write(rows(2).encode())
        assert labelled(TABLE, train=["memory://labelled"]).items("train")[0][0].second == "hypothesis 2"

    def test_a_folder_of_race(self, tmp_path):
        for name in ("high1", "middle1"):
            write(tmp_path / name)
            article = {"id": f"{name}.txt", "article": "A.", "questions": ["Q?"], "options": [["x", "y"]], "answers": ["B"]}
            (tmp_path / name / "1.txt").write_text(json.dumps(article))
        items, _ = labelled({"kind": "race"}, train=[str(tmp_path)]).items("train")
        assert [(item.id, item.label) for item in items] == [("high1.txt-0", 1), ("middle1.txt-0", 1)]

    def test_another_reader_for_a_split(self, tmp_path):
        write(tmp_path, train=rows(0), dev="s1\ts2\tgold\nA\tB\tc\n", test="s1\ts2\nA\tB\n")
        dev = {"kind": "table", "first": "s1", "second": "s2", "label": "gold"}
        files = {split: [f"{tmp_path}/{name}.tsv"] for split, name in (("train", "train"), ("validation", "dev"), ("test", "test"))}
        source = labelled(TABLE, readers={"validation": dev, "test": dev | {"without_label": "keep"}}, **files)
        assert [source.items(split)[0][0].label for split in SPLITS] == ["x", "c", None]

    @pytest.mark.parametrize("name", ["none.tsv", "none*.tsv"])
    def test_a_missing_file_is_unavailable(self, tmp_path, name):
        with pytest.raises(DataUnavailableError, match=r"^validation: '.*' matches no file\. Check the spelling"):
            labelled(TABLE, validation=[f"{tmp_path}/{name}"]).items("validation")

    def test_a_file_that_was_cut_short_is_damaged(self, tmp_path):
        (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(rows(*range(1000)).encode())[:-20])
        with pytest.raises(DataIntegrityError, match=r"a\.tsv\.gz: the compressed file is damaged or cut short"):
            labelled(TABLE, train=[f"{tmp_path}/a.tsv.gz"]).items("train")


class TestBad:
    def test_is_an_error_that_says_how_many_why_and_where_the_first_is(self, tmp_path):
        write(tmp_path, a=rows(0) + "x\ty\n \ty\tz\n", b="alone\n" + rows(1, 2))
        with pytest.raises(DataIntegrityError) as error:
            held_out(tmp_path).items("validation")
        assert str(error.value) == (
            "train: 3 of 6 items cannot be used (1 empty_text, 2 missing_column); the first: a.tsv:2: missing_column. "
            "Mend them, or write bad: skip to leave them out and count them."
        )

    def test_is_counted_once_when_skipped(self, tmp_path):
        write(tmp_path, a=rows(*range(90)) + "x\ty\n \ty\tz\n")
        source = held_out(tmp_path, bad="skip")
        assert [source.items(split)[1] for split in SPLITS] == [Counter(missing_column=1, empty_text=1), Counter(), Counter()]

    def test_without_any_item_left(self, tmp_path):
        write(tmp_path, a="x\ty\t\n")
        with pytest.raises(DataUnavailableError, match=r"^train: no item is left of .*a\.tsv\."):
            labelled(TABLE, train=[f"{tmp_path}/a.tsv"], bad="skip").items("train")

    def test_a_split_that_there_is_not(self, tmp_path):
        source = labelled(TABLE, train=[str(write(tmp_path, a=rows(0)))])
        assert [source.has(split) for split in (*SPLITS, "dev")] == [True, False, False, False]
        with pytest.raises(ConfigError, match=r"^test: there are no files for it, and no share is held out\."):
            source.items("test")

    def test_it_is_no_text(self, tmp_path):
        source = held_out(tmp_path)
        for read in (source.parts, lambda: source.read([])):
            with pytest.raises(ConfigError, match="has items and no documents to pretrain on"):
                read()


class TestShares:
    @given(
        st.lists(st.integers(0, 200), unique=True, min_size=60),
        st.floats(0.05, 0.5),
        st.floats(0.05, 0.4),
        st.sampled_from(["id", "first", "second", "id_prefix"]),
    )
    @settings(deadline=None, max_examples=40)
    def test_splits_are_disjoint_and_complete_and_cut_no_group(self, tmp_path_factory, numbers, validation, test, group):
        folder = write(tmp_path_factory.mktemp("shares"), a=rows(*numbers[::2]), b=rows(*numbers[1::2]))
        source = held_out(folder, validation_share=validation, test_share=test, group=group)
        every = labelled(TABLE, train=[str(folder)]).items("train")[0]
        found = {split: _items_or_none(source, split) for split in SPLITS}
        assert sorted(item.id for items in found.values() for item in items) == sorted(item.id for item in every)
        splits = defaultdict(set)
        for split, items in found.items():
            for item in items:
                splits[group_of(item, group)].add(split)
        assert all(len(inside) == 1 for inside in splits.values())

    @given(st.permutations(["a.tsv", "b.tsv", "c.tsv"]))
    @settings(deadline=None, max_examples=6)
    def test_the_order_and_the_place_of_files_do_not_matter(self, tmp_path_factory, names):
        texts = {"a": rows(*range(40)), "b": rows(*range(40, 80)), "c": rows(*range(80, 99))}
        here, there = (write(tmp_path_factory.mktemp("place"), **texts) for _ in range(2))
        one = held_out(here, train=[f"{here}/{name}" for name in names])
        other = held_out(there)
        assert all(one.items(split) == other.items(split) for split in SPLITS)
        assert canonical_json(one.identity()) == canonical_json(other.identity())

    @given(st.text(), st.floats(0, 0.5), st.floats(0, 0.2), st.floats(0, 0.2))
    def test_a_greater_test_share_moves_no_validation_group(self, group, validation, test, more):
        before, after = split_of_group(group, validation, test), split_of_group(group, validation, test + more)
        assert before == after or (before, after) == ("train", "test")

    def test_shares_are_about_what_they_say(self):
        counts = Counter(split_of_group(str(number), 0.2, 0.1) for number in range(10_000))
        # Four standard deviations of a binomial count are 160 and 120.
        assert abs(counts["validation"] - 2000) < 160
        assert abs(counts["test"] - 1000) < 120

    def test_the_split_of_a_group_is_fixed_for_ever(self):
        for number in range(50):
            identity = f"labelled\0group {number}".encode()
            place = int.from_bytes(hashlib.blake2b(identity, digest_size=8, person=b"split").digest(), "big") / 2**64
            expected = "validation" if place < 0.3 else "test" if place < 0.6 else "train"
            assert split_of_group(f"group {number}", 0.3, 0.3) == expected

    def test_what_keeps_items_together(self):
        pair = TextItem("3.jpg#1r1n", "A", None, "x", "film")
        question = QuestionItem("1147-5-2", "Q", "C", (Answer("C", 0),))
        assert [group_of(pair, field) for field in ("id", "id_prefix", "first", "second", "group")] == [
            pair.id,
            "3.jpg",
            "A",
            pair.id,
            "film",
        ]
        assert [group_of(question, field) for field in ("id", "id_prefix", "context")] == [question.id, "1147-5", "C"]
        assert group_of(ChoiceItem("high1.txt-0", "", "Q", ("x",)), "context") == "high1.txt-0"
        assert group_of(TaggedItem("plain", ("x",)), "id_prefix") == "plain"

    def test_readers_keep_together_what_would_leak(self):
        assert labelled({"kind": "squad"}, train=["x"]).reader.together == "context"
        assert labelled({"kind": "race"}, train=["x"]).reader.together == "context"
        assert labelled({"kind": "choices", "context": "c"}, train=["x"]).reader.together == "context"
        assert labelled(TABLE | {"group": 3}, train=["x"]).reader.together == "group"
        assert labelled(TABLE, train=["x"]).reader.together == "id"

    def test_a_column_of_the_reader_keeps_films_together(self, tmp_path):
        text = "".join(f"text {number}\tx\tfilm {number % 20}\n" for number in range(200))
        reader = {"kind": "table", "header": False, "first": 0, "label": 1, "group": 2}
        source = labelled(reader, train=[str(write(tmp_path, a=text))], validation_share=0.4)
        films = [{item.group for item in source.items(split)[0]} for split in ("train", "validation")]
        assert len(films[0] | films[1]) == 20
        assert not films[0] & films[1]


def _items_or_none(source, split):
    try:
        return source.items(split)[0]
    except DataUnavailableError:
        return []


class TestMost:
    def test_fewer_are_some_of_more_in_their_order(self, tmp_path):
        folder = write(tmp_path, a=rows(*range(200)))
        found = {most: labelled(TABLE, train=[str(folder)], most=most).items("train")[0] for most in (10, 50, 500)}
        assert [len(items) for items in found.values()] == [10, 50, 200]
        every = [item.id for item in found[500]]
        places = [[every.index(item.id) for item in items] for items in found.values()]
        assert all(inside == sorted(inside) for inside in places)
        assert set(places[0]) < set(places[1])
        assert places[0] != list(range(10))

    def test_one_split_may_be_short_and_another_whole(self, tmp_path):
        folder = write(tmp_path, a=rows(*range(200)))
        every = labelled(TABLE, train=[str(folder)], validation_share=0.3)
        few = labelled(TABLE, train=[str(folder)], validation_share=0.3, most={"train": 10})
        assert len(few.items("train")[0]) == 10
        assert few.items("validation") == every.items("validation")

    def test_items_without_ids_of_their_own_are_no_trouble(self):
        items = [TextItem("same", str(number)) for number in range(9)]
        assert len(first_items(items, 4)) == 4
        assert first_items(items, None) == items


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "no files are named; give train, validation or test"),
            ({"validation": ["x"], "validation_share": 0.1}, "validation_share holds out a part of train; it needs train"),
            ({"train": ["x"], "test": ["y"], "test_share": 0.1}, "test_share .* needs train, and no files for test"),
            ({"train": ["x"], "validation_share": 0.5, "test_share": 0.5}, "must stay below 1"),
            ({"train": ["x"], "group": "movie"}, "group 'movie' is none of id, id_prefix, first, second; a column of the"),
            ({"train": ["x"], "readers": {"test": {"kind": "race"}}}, "readers: 'race' makes another kind of items than 'table'"),
            ({"train": ["x"], "most": 0}, "greater than 0"),
            ({"train": ["x"], "readers": {"dev": {"kind": "race"}}}, "Input should be 'train', 'validation' or 'test'"),
            ({"train": ["x"], "reader": {"kind": f"{__name__}:Stranger"}}, "does not derive from ptm_dist.corpus.labelled.reader.Reader"),
        ],
    )
    def test_what_cannot_be_is_refused(self, given, message):
        with pytest.raises(ValidationError, match=message):
            labelled(**({"reader": TABLE} | given))

    @pytest.mark.parametrize(
        ("kind", "group", "fits"),
        [
            ("conll", "id_prefix", True),
            ("conll", "context", False),
            ("squad", "context", True),
            ("squad", "first", False),
            ("race", "question", True),
        ],
    )
    def test_groups_are_fields_of_the_items(self, kind, group, fits):
        if fits:
            assert labelled({"kind": kind}, train=["x"], group=group).group == group
        else:
            with pytest.raises(ValidationError, match=f"group '{group}' is none of id, id_prefix"):
                labelled({"kind": kind}, train=["x"], group=group)

    @pytest.mark.parametrize("kind", READERS)
    def test_readers_and_sources_come_back_from_json_and_can_be_sent(self, kind):
        required = {
            "table": {"first": "a"},
            "json_lines": {"first": {"field": "a", "pattern": "(x)"}, "labels": {"0": "n"}},
            "entity_spans": {"words": "spaces"},
        }
        source = labelled({"kind": kind} | required.get(kind, {}), train=["x"])
        for again in (Labelled.model_validate_json(source.model_dump_json()), pickle.loads(pickle.dumps(source))):
            assert again == source
            assert hash(again) == hash(source)
        assert type(source.reader) is READERS[kind]
        assert hash(source.reader) != hash(object())
        assert source.reader.__doc__

    def test_the_identity_changes_with_content_and_settings(self, tmp_path):
        folder = write(tmp_path, a=rows(0))
        source = held_out(folder)
        changed = [held_out(folder, **more) for more in ({"bad": "skip"}, {"most": 3}, {"group": "first"}, {"test_share": 0.2})]
        changed.append(
            source.model_copy(update={"reader": READERS["table"].model_validate_json(json.dumps(TABLE | {"labels": {"x": "y"}}))})
        )
        identities = [canonical_json(found.identity()) for found in (source, *changed)]
        write(folder, a=rows(1))
        identities.append(canonical_json(source.identity()))
        assert len(set(identities)) == 7

    def test_a_reader_from_outside(self, tmp_path):
        write(tmp_path, a="one\ntwo\n")
        source = labelled({"kind": f"{__name__}:Lines"}, train=[str(Path(tmp_path) / "a.tsv")])
        assert source.items("train")[0] == [TextItem("a.tsv:0", "one"), TextItem("a.tsv:1", "two")]


class Lines(Reader):
    """A reader of a user."""

    makes: ClassVar[type] = TextItem

    kind: Literal[f"{__name__}:Lines"] = f"{__name__}:Lines"

    def read(self, name, data):
        return (TextItem(f"{name}:{number}", line) for number, line in enumerate(data.decode().split()))


class Stranger(BaseModel):
    """What is no reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
