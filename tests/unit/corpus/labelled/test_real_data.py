"""Published sets, where the folder of real text is there: what readers make of them against what a few plain lines count."""

import csv
import gzip
import json
from collections import Counter

import pytest

from ptm_dist.corpus.labelled.shares import group_of
from ptm_dist.corpus.split import SPLITS
from ptm_dist.data.item import NOT_THERE
from tests.real_text import lines, real, records
from tests.unit.corpus.labelled.reading import labelled

PROMPT = "input.1.content"
FINANCE = {"kind": "entity_spans", "words": "spaces", "text": PROMPT}
FINANCE |= {"entities": {"field": "ideal", "pattern": r"(?:\[|, )(.+?) - (PERSON|ORGANIZATION|LOCATION)"}}
PARABLES = {"kind": "choices", "context": {"field": PROMPT, "pattern": r"(?s)^(.*)\nWhich moral"}}
PARABLES |= {"choices": {"field": PROMPT, "pattern": r"(?<=[A-E]\) )(.+?)(?= [B-E]\) |\nThe output)"}}
PARABLES |= {"label": {"field": "ideal.0", "pattern": "answer is: ([A-E])"}}
CMRC = {"kind": "squad", "offsets": "find"}


def source_of(name, reader, **settings):
    return labelled(reader, train=[str(real(f"labelled/{name}"))], **{"bad": "skip"} | settings)


def items_of(name, reader, **settings):
    return source_of(name, reader, **settings).items("train")


def questions(name):
    """Yield (context, question) of a file in SQuAD's layout."""
    with gzip.open(real(f"labelled/{name}"), "rt", encoding="utf8") as file:
        for article in json.load(file)["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield paragraph["context"], question


class TestQuestions:
    @pytest.mark.parametrize(
        ("name", "count", "wrong"),
        [
            ("squad_v1.1.dev", 10_565, 15),
            ("squadshift_new_wiki", 7_936, 8),
            ("squadshift_reddit", 9_767, 15),
            ("cmrc2018_dev", 3_219, 176),
            ("DRCD_dev", 3_524, 0),
            ("xquad.en", 1_190, 0),
            ("xquad.zh", 1_190, 0),
        ],
    )
    def test_all_are_found_and_wrong_offsets_are_told(self, name, count, wrong):
        checked, bad = items_of(f"{name}.json.gz", {"kind": "squad"})
        assert (len(checked), bad["answer_not_in_context"], bad.total()) == (count - wrong, wrong, wrong)
        found, bad = items_of(f"{name}.json.gz", CMRC)
        assert (len(found), bad) == (count, Counter())
        for item in found:
            assert all(item.context[answer.start : answer.end] == answer.text for answer in item.answers if answer.start != NOT_THERE)
            assert item.answers[0].start != NOT_THERE

    def test_200_of_the_9657_offsets_of_cmrc_are_wrong_and_193_answers_are_nowhere(self):
        given = {question["id"]: question["answers"] for _, question in questions("cmrc2018_dev.json.gz")}
        found, _ = items_of("cmrc2018_dev.json.gz", CMRC)
        moved = lost = 0
        for item in found:
            before = Counter((answer["text"], answer["answer_start"]) for answer in given[item.id])
            moved += (before - Counter((answer.text, answer.start) for answer in item.answers)).total()
            lost += sum(answer.start == NOT_THERE for answer in item.answers)
            assert Counter(answer.text for answer in item.answers) == Counter(answer["text"] for answer in given[item.id])
        assert sum(map(len, given.values())) == 9_657
        # An offset of -1 for what is nowhere is what it becomes, so it does not move.
        assert (moved, lost) == (7, 193)
        assert (
            sum(
                not context.startswith(a["text"], a["answer_start"])
                for context, q in questions("cmrc2018_dev.json.gz")
                for a in q["answers"]
            )
            == 200
        )

    def test_two_questions_of_the_cmrc_trial_are_empty(self):
        found, bad = items_of("cmrc2018_trial.json.gz", CMRC)
        assert (len(found), bad) == (1_000, Counter(empty_text=2))

    def test_no_context_stands_in_two_splits(self):
        source = source_of("DRCD_dev.json.gz", {"kind": "squad"}, validation_share=0.2, test_share=0.1)
        contexts = [{item.context for item in source.items(split)[0]} for split in SPLITS]
        assert sum(map(len, contexts)) == len(set.union(*contexts)) == 1_000


class TestTexts:
    def test_snippets_of_critics_without_plots(self):
        with gzip.open(real("labelled/rotten_tomatoes.csv.gz"), "rt", encoding="utf8", newline="") as file:
            expected = [(row["text"], row["category"], row["movie_name"]) for row in csv.DictReader(file) if row["category"] != "plot"]
        reader = {"kind": "table", "separator": ",", "first": "text", "label": "category", "group": "movie_name"}
        source = source_of(
            "rotten_tomatoes.csv.gz", reader | {"only": {"category": ["fresh", "rotten"]}}, validation_share=0.1, test_share=0.1
        )
        splits = [source.items(split)[0] for split in SPLITS]
        assert Counter((item.first, item.label, item.group) for items in splits for item in items) == Counter(expected)
        assert len(expected) == 12_808
        films = [{item.group for item in items} for items in splits]
        assert sum(map(len, films)) == len(set.union(*films))

    @pytest.mark.parametrize(("language", "empty"), [("en", 8), ("zh", 479)])
    def test_opinions_in_four_classes(self, language, empty):
        name = f"multiemo_{language}.jsonl.gz"
        items, bad = items_of(name, {"kind": "json_lines", "first": "text", "label": "label"})
        given = Counter(record["label"] for record in records(f"labelled/{name}") if record["text"].strip())
        assert (len(items), bad) == (57_466 - empty, Counter(empty_text=empty))
        assert Counter(item.label for item in items) == given

    def test_chinese_reviews(self):
        items, bad = items_of("reviews_zh.tsv.gz", {"kind": "table", "header": False, "first": 1, "label": 0})
        assert [f"{item.label}\t{item.first}" for item in items] == list(lines("labelled/reviews_zh.tsv.gz"))
        assert (len(items), bad.total()) == (17_363, 0)

    def test_claims_stay_together(self):
        reader = {"kind": "json_lines", "first": "premise", "second": "hypothesis", "label": "label"}
        source = source_of("vitaminc_nli.jsonl.gz", reader, validation_share=0.1, test_share=0.1, group="second")
        splits = [source.items(split)[0] for split in SPLITS]
        groups = [{group_of(item, "second") for item in items} for items in splits]
        assert sum(map(len, splits)) == 54_668
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert Counter(item.label for items in splits for item in items) == Counter({"True": 27_242, "False": 20_169, "Neither": 7_257})

    def test_15_pairs_of_ocnli_have_no_label(self):
        reader = {"kind": "json_lines", "first": "sentence1", "second": "sentence2", "label": "label", "id": "id"}
        items, bad = items_of("ocnli_train_10k.json.gz", reader)
        assert (len(items), bad) == (9_985, Counter(no_label=15))
        assert Counter(item.label for item in items) == Counter(neutral=3_434, entailment=3_309, contradiction=3_242)
        kept, bad = items_of("ocnli_train_10k.json.gz", reader | {"without_label": "keep"})
        assert (len(kept), sum(item.label is None for item in kept), bad.total()) == (10_000, 15, 0)

    def test_values(self):
        reader = {"kind": "table", "first": "text", "label": "sentiment", "id": "id", "value": True}
        items, _ = items_of("sentiment_regression_en.tsv.gz", reader)
        given = [line.split("\t") for line in lines("labelled/sentiment_regression_en.tsv.gz")][1:]
        assert [(item.id, item.label, item.first) for item in items] == [(name, float(value), text) for name, value, text in given]
        assert len(items) == 10_605
        columns = {"kind": "json_lines", "first": "text", "label": "label", "value": True}
        counts = [len(items_of("sentiment_regression_zh.json.gz", columns | {"at": place})[0]) for place in ("train", "valid")]
        assert counts == [2_210, 945]


class TestWords:
    def test_tweets(self):
        items, bad = items_of("wnut16_ner.conll.txt.gz", {"kind": "conll"})
        given = [line.split("\t") for line in lines("labelled/wnut16_ner.conll.txt.gz") if line.strip()]
        assert [list(pair) for item in items for pair in zip(item.words, item.tags, strict=True)] == given
        assert (len(items), bad.total()) == (2_394, 0)

    def test_one_text_of_cluener_has_entities_that_overlap(self):
        items, bad = items_of("cluener_9000.jsonl.gz", {"kind": "entity_spans", "words": "characters", "ends": "inclusive"})
        assert (len(items), bad) == (8_999, Counter(overlapping_entities=1))
        given = Counter(
            kind
            for record in records("labelled/cluener_9000.jsonl.gz")
            for kind, names in record["label"].items()
            for places in names.values()
            for _ in places
        )
        found = Counter(tag[2:] for item in items for tag in item.tags if tag.startswith("B-"))
        assert sum(given.values()) == 20_112
        assert (given - found).total() == 3
        assert not found - given

    def test_every_entity_of_contracts_is_found_in_its_sentence(self):
        items, bad = items_of("ner_finance.jsonl.gz", FINANCE)
        given = list(records("labelled/ner_finance.jsonl.gz"))
        assert (len(items), bad.total()) == (1_164, 0)
        for item, record in zip(items, given, strict=True):
            told = sum(record["ideal"].count(f" - {kind}") for kind in ("PERSON", "ORGANIZATION", "LOCATION"))
            assert sum(tag.startswith("B-") for tag in item.tags) == told
        assert sum(set(item.tags) == {"O"} for item in items) == 651


class TestChoices:
    def test_parables_inside_prompts(self):
        items, bad = items_of("parable_choice_zh.jsonl.gz", PARABLES)
        assert (len(items), bad.total()) == (1_930, 0)
        assert Counter(item.label for item in items) == Counter({2: 414, 3: 401, 4: 382, 0: 371, 1: 362})
        for item, record in zip(items, records("labelled/parable_choice_zh.jsonl.gz"), strict=True):
            told = " ".join(f"{letter}) {text}" for letter, text in zip("ABCDE", item.choices, strict=True))
            assert record["input"][1]["content"].startswith(f"{item.context}\nWhich moral is this story attempting to convey?")
            assert f"\n{told}\nThe output" in record["input"][1]["content"]

    def test_857_pairs_with_connectives(self):
        items, bad = items_of(
            "discourse_markers.json.gz", {"kind": "choices", "at": "examples", "context": "input", "choices": "target_scores"}
        )
        with gzip.open(real("labelled/discourse_markers.json.gz"), "rt", encoding="utf8") as file:
            given = json.load(file)["examples"]
        assert (len(items), bad.total()) == (857, 0)
        for item, example in zip(items, given, strict=True):
            assert [example["target_scores"][choice] for choice in item.choices].index(1) == item.label
