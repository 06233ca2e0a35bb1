"""Results on disk, tables, and a mean over seeds."""

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError, NumericError, StorageError
from ptm_dist.finetune.bootstrap import Spread
from ptm_dist.finetune.results import HEADING, Prediction, Results, merge, read_predictions, read_results, table, write_predictions

RESULTS = Results(
    task="xnli",
    kind="texts",
    split="test",
    metrics={"accuracy": 77.5, "matthews": 61.0},
    items=5010,
    skipped={"empty_text": 2},
    confusion={"neutral": {"neutral": 3, "entailment": 1}, "entailment": {"neutral": 0, "entailment": 4}},
    predictions="xnli.test.jsonl",
    checkpoint="runs/xnli@300",
    seed=3,
    recipe_digest="ab12",
    scored_at=1_700_000_000.5,
)


def test_results_come_back_as_they_were(tmp_path):
    RESULTS.write(tmp_path / "new" / "xnli.json")
    assert read_results(tmp_path / "new" / "xnli.json") == RESULTS
    told = json.loads((tmp_path / "new" / "xnli.json").read_text())
    assert told["metrics"] == {"accuracy": 77.5, "matthews": 61.0}
    assert told["skipped"] == {"empty_text": 2}


def test_a_figure_that_is_not_finite_is_refused():
    with pytest.raises(NumericError, match="xnli, test: accuracy is not a finite number"):
        replace(RESULTS, metrics={"accuracy": math.nan, "f1": 1.0})


def test_files_that_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "xnli.json"
    with pytest.raises(DataUnavailableError, match=r"xnli\.json"):
        read_results(path)
    path.write_text('{"task": "xnli"}')
    with pytest.raises(DataIntegrityError, match=r"xnli\.json: not results of a fine-tuning \(kind: Field required\)"):
        read_results(path)
    path.write_text("[1]")
    with pytest.raises(DataIntegrityError, match="the whole"):
        read_results(path)


def test_seeds_are_merged_into_mean_and_deviation():
    runs = [
        replace(RESULTS, seed=seed, metrics={"accuracy": figure, f"only{seed}": 1.0}) for seed, figure in ((5, 80.0), (1, 82.0), (3, 84.0))
    ]
    merged = merge(runs)
    assert (merged.task, merged.split, merged.items, merged.seeds) == ("xnli", "test", 5010, (1, 3, 5))
    assert merged.metrics == {"accuracy": Spread(82.0, 2.0, 3)}


@pytest.mark.parametrize("other", [{"task": "lcqmc"}, {"split": "validation"}, {"items": 7}])
def test_results_of_different_things_have_no_mean(other):
    with pytest.raises(ConfigError, match="results of different things"):
        merge([RESULTS, replace(RESULTS, seed=4, **other)])


def test_a_seed_counts_once():
    with pytest.raises(ConfigError, match="seed 3 is there twice"):
        merge([RESULTS, RESULTS])
    with pytest.raises(DataUnavailableError, match="no results"):
        merge([])


def test_a_table_has_a_line_for_each_figure():
    merged = merge([replace(RESULTS, seed=seed, metrics={"accuracy": figure}) for seed, figure in ((1, 80.0), (2, 82.0))])
    lines = table([RESULTS, merged])
    assert [dict(zip(HEADING, line, strict=True)) for line in lines] == [
        {"task": "xnli", "split": "test", "metric": "accuracy", "value": "77.50", "items": "5,010", "seeds": "1"},
        {"task": "xnli", "split": "test", "metric": "matthews", "value": "61.00", "items": "5,010", "seeds": "1"},
        {"task": "xnli", "split": "test", "metric": "accuracy", "value": "81.00 ± 1.41", "items": "5,010", "seeds": "2"},
    ]


def test_predictions_come_back_as_they_were(tmp_path):
    told = [
        Prediction(id="1", gold="neutral", predicted="entailment", score=0.0, probabilities={"neutral": 0.25, "entailment": 0.75}),
        Prediction(id="二", gold=["北京\u2028", "a\nb"], predicted="", score=1.0, null_odds=-2.5),
        Prediction(id="3", gold=None, predicted=["O", "B-PER"]),
    ]
    write_predictions(tmp_path / "x.jsonl", told)
    assert read_predictions(tmp_path / "x.jsonl") == told
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[2]) == {"id": "3", "gold": None, "predicted": ["O", "B-PER"]}
    assert len(lines) == 4


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    write_predictions(tmp_path / "x.jsonl", [Prediction(id="1", gold=np.int64(2), predicted=np.float32(0.5), probabilities=np.ones(2))])
    assert read_predictions(tmp_path / "x.jsonl") == [Prediction(id="1", gold=2, predicted=0.5, probabilities=[1.0, 1.0])]


def test_infinite_odds_are_left_out_and_other_infinite_numbers_refused(tmp_path):
    write_predictions(tmp_path / "x.jsonl", [Prediction(id="1", gold=[], predicted="", null_odds=math.inf)])
    assert read_predictions(tmp_path / "x.jsonl")[0].null_odds is None
    with pytest.raises(NumericError, match="item 7"):
        write_predictions(tmp_path / "x.jsonl", [Prediction(id="7", gold=1.0, predicted=math.nan)])
    assert read_predictions(tmp_path / "x.jsonl")[0].id == "1"


def test_damaged_predictions_are_named(tmp_path):
    path = tmp_path / "x.jsonl"
    with pytest.raises(DataUnavailableError, match=r"x\.jsonl"):
        read_predictions(path)
    path.write_bytes(b"\xff")
    with pytest.raises(DataUnavailableError, match=r"x\.jsonl"):
        read_predictions(path)
    for wrong in ('{"id": "1", "gold": 1', '{"id": "1"}', "[1]", '{"id": "1", "gold": 1, "predicted": 1, "more": 1}'):
        path.write_text(f'{{"id": "0", "gold": 1, "predicted": 1}}\n{wrong}\n')
        with pytest.raises(DataIntegrityError, match="line 2: not a prediction"):
            read_predictions(path)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_predictions(tmp_path / "x.jsonl", [])
