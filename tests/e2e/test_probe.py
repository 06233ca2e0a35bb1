"""Probes of real runs: they change nothing of what is trained, join a run that has begun, and reach the same on any number of workers."""

import random

import pytest

from ptm_dist.driver.labelled import prepare_probes
from ptm_dist.events import read_events
from ptm_dist.page.run import data_of, page_of
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch
from ptm_dist.watched import Watched
from tests.browser import CHROMIUM, browser
from tests.e2e.test_page import INK, LEAST_INK, file_of
from tests.e2e.test_resume import LOCAL, finish, plan
from tests.tiny import ledger, ptm, tiny_recipe
from tests.unit.test_probes_shown import T0, make_run, probed, started, steady

WORDS = {"good": "calm bright warm gentle clear kind sweet fresh", "bad": "cold harsh bitter dull grim rough sour bleak"}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Made-up sentences with a mood, two thirds of which are good."""
    rng, path = random.Random(3), tmp_path_factory.mktemp("moods") / "moods.csv"
    moods = ["good", "good", "bad"] * 60
    texts = [" and ".join(rng.choices(WORDS[mood].split(), k=2)) for mood in moods]
    path.write_text("\n".join(["text,mood", *(f"It was {text}.,{mood}" for text, mood in zip(texts, moods, strict=True))]))
    reader = {"kind": "table", "separator": ",", "first": "text", "label": "mood"}
    source = {"kind": "labelled", "reader": reader, "train": [str(path)], "validation_share": 0.3, "group": "id"}
    return {"sources": source, "format": {"kind": "texts", "length": 24}, "labels": ["good", "bad"], "rows": 90, "every_steps": 8}


def told(run):
    """Return what was told of the probe, by step, the last word on each."""
    names = ("probe", "accuracy", "loss", "baseline_accuracy", "rows")
    return {event["step"]: {name: event[name] for name in names} for event in read_events(run.events_path, "probed")}


@pytest.mark.slow
def test_a_probe_joins_a_run_that_was_killed_is_killed_with_it_and_changes_no_loss(make_run, probe, tmp_path):
    undisturbed, _ = make_run("undisturbed")
    run, recipe = make_run()
    where = ("--run", run.path, "--cache", tmp_path / "cache", *LOCAL)
    assert ptm("train", recipe, *where, **plan("step.begin", 0, 13)).returncode == 60
    probed = tmp_path / "probed.yaml"
    probed.write_text(dump_recipe(tiny_recipe(evaluate={"downstream": {"mood": probe}})))
    killed = ptm("train", probed, *where, **plan("step.begin", 1, 29))
    assert killed.returncode == 60, killed.stderr
    assert "resuming at step 8" in killed.stdout
    assert [line for line in killed.stdout.splitlines() if line.startswith("prepare ")] == ["prepare labelled: 2 of 2"]
    again = ptm("train", probed, *where)
    assert again.returncode == 0, again.stderr
    assert "prepare" not in again.stdout
    assert ledger(run.path) == finish(undisturbed)
    assert list(told(run)) == [16, 24, 32, 40]
    assert len(list(read_events(run.events_path, "probed"))) == 4, "nothing was measured twice"
    last = told(run)[40]
    assert (last["probe"], last["rows"]) == ("mood", run.data().open(run.recipe().probe_data["mood"], "validation").rows)
    assert last["accuracy"] > last["baseline_accuracy"] > 0.5
    _require_shown(run, last, again.stdout)


def _require_shown(run, last, printed):
    accuracy = f"{last['accuracy']:.1%}"
    assert f"step 40: probe mood accuracy {accuracy}" in printed
    assert f"accuracy {accuracy} at step 40" in ptm("status", run.path, "--once").stdout
    (curve,) = data_of(Watched.open(run.path))["probes"]
    assert curve["steps"] == [16, 24, 32, 40]
    assert curve["accuracy"][-1] == pytest.approx(last["accuracy"], abs=1e-4)
    finished = [event for event in read_events(run.events_path, "evaluation_finished") if event["step"] == 16]
    assert finished[-1]["seconds"] > 0, "the time of a probe is that of an evaluation"


@pytest.fixture(scope="module")
def launched(tiny_data, probe, tmp_path_factory):
    """Train two steps with some engine, and return what was told of the probe."""
    folder, model = tmp_path_factory.mktemp("launched"), {"dropout": 0.0, "attention_dropout": 0.0}
    known = {}

    def train(**engine):
        key = tuple(engine.values())
        if key not in known:
            stages = [{"name": "main", "steps": {"mlm": 2}}]
            recipe = tiny_recipe(evaluate={"downstream": {"mood": probe}}, engine=engine, stages=stages, model=model)
            run = RunFolder(folder / f"run-{len(known)}")
            run.claim(recipe)
            probes = prepare_probes(recipe, tiny_data.tokenizer, folder / "cache", lambda *_: None)
            run.set_data(DataFolders(tiny_data.tokenizer, {**tiny_data.datasets, **probes}))
            launch(run, run.next_attempt(), recipe.engine.workers)
            known[key] = told(run)
        return known[key]

    return train


@pytest.mark.parametrize(("workers", "stage"), [(1, 1), (2, 3)])
def test_any_number_of_workers_and_any_stage_reach_the_same(launched, workers, stage):
    wanted, found = launched(workers=2, zero_stage=1), launched(workers=workers, zero_stage=stage)
    assert list(found) == list(wanted) == [0, 2]
    for step, apart in ((0, 1e-6), (2, 1e-3)):
        assert found[step].pop("probe") == "mood"
        assert found[step] == pytest.approx({key: value for key, value in wanted[step].items() if key != "probe"}, abs=apart)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_the_plot_of_probes_is_drawn_with_a_line_for_the_most_frequent_class(tmp_path):
    events = [probed(step, name, 0.5 + step / 100) for step in (0, 10, 20, 30) for name in ("mood", "tags")]
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(30), *events])
    with browser(tmp_path / "profile") as page:
        page.show(file_of(tmp_path, page_of(Watched.open(run.path))))
        assert dict(page.value(INK))["accuracy of probes"] >= LEAST_INK
        plot = "document.querySelector('[data-plot=\"accuracy of probes\"]')"
        keys = page.value(f"[...{plot}.querySelectorAll('.keys li')].map((item) => item.textContent)")
        assert keys == ["mood", "mood, most frequent class", "tags", "tags, most frequent class"]
        assert page.said == []
