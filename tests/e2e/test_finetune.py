"""Fine-tuning from a run to results: every kind of task, killed and resumed, over seeds, predicted by line, and told what is wrong."""

import json
import random

import pytest

from ptm_dist.driver.finetune import finetune
from ptm_dist.driver.run import Places, Watcher
from ptm_dist.errors import ConfigError, DataIntegrityError
from ptm_dist.events import read_events
from ptm_dist.finetune.results import read_predictions, read_results
from ptm_dist.finetune.scoring import score_run
from ptm_dist.finetune.setup import setup
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch
from tests.tiny import ledger, ptm

WORDS = ["amber", "basil", "cedar", "dune", "elm", "fern", "grove", "hazel"]
SILENT = Watcher(stage=lambda *_: None, event=lambda _: None, say=lambda _: None)
SMALL = ["batch.rows=8", "optimizer.learning_rate=3e-3", "optimizer.schedule.warmup_steps=0", "checkpoint.every_steps=10"]


@pytest.fixture(scope="module")
def pretrained(tiny_data, tmp_path_factory):
    """A tiny RoBERTa that has been trained for a moment."""
    from tests.tiny import tiny_recipe

    run = RunFolder(tmp_path_factory.mktemp("pretrained") / "tiny")
    run.claim(tiny_recipe())
    run.set_data(tiny_data)
    launch(run, run.next_attempt(), 1)
    return run.path


def sentence(draw, *words):
    found = [*words, *(draw.choice(WORDS) for _ in range(3))]
    draw.shuffle(found)
    return " ".join(found)


def texts(draw, number):
    label = draw.choice(["dark", "light"])
    return {"id": f"t{number}", "a": sentence(draw, "moon" if label == "dark" else "sun"), "label": label}


def pairs(draw, number):
    word = draw.choice(["moon", "sun"])
    return {"id": f"p{number}", "a": sentence(draw), "b": sentence(draw, word), "label": 4.5 if word == "moon" else 0.5}


def tagged(draw, number):
    words = sentence(draw, "moon").split()
    at = words.index("moon")
    return {
        "id": f"w{number}",
        "text": " ".join(words),
        "label": [[len(" ".join(words[:at])) + (at > 0), len(" ".join(words[: at + 1])), "SKY"]],
    }


def question(draw, number):
    context = sentence(draw, "moon")
    answers = [{"text": "moon", "answer_start": context.index("moon")}]
    return {"context": context, "qas": [{"id": f"q{number}", "question": "what shines?", "answers": answers}]}


def choice(draw, number):
    choices = [sentence(draw, "sun" if place else "moon") for place in range(3)]
    draw.shuffle(choices)
    label = next(place for place, text in enumerate(choices) if "moon" in text)
    return {"id": f"c{number}", "context": "at night", "question": "what shines?", "choices": choices, "label": label}


JSON = "{kind: json_lines, first: a, label: label, id: id"
KINDS = {
    "texts": (texts, f"{JSON}}}", "{kind: texts, length: 24}", "{kind: classify_text, labels: [dark, light]}", "accuracy"),
    "values": (pairs, f"{JSON}, second: b, value: true}}", "{kind: texts, length: 32}", "{kind: regress_text}", "pearson"),
    "tags": (
        tagged, "{kind: entity_spans, words: spaces, id: id}", "{kind: tagged_words, length: 24}",
        "{kind: tag_words, tags: [O, B-SKY, I-SKY]}", "f1",
    ),
    "answers": (question, "{kind: squad}", "{kind: questions, length: 24, stride: 4}", "{kind: answer_span}", "f1"),
    "choices": (
        choice, "{kind: choices, context: context, question: question, choices: choices, label: label}", "{kind: choices, length: 24}",
        "{kind: choose, choices: 3}", "accuracy",
    ),
}  # fmt: skip


def write_task(folder, kind, items=160):
    """Write the data and the file of a task, half of whose items are held out."""
    make, reader, format, objective, _ = KINDS[kind]
    draw = random.Random(0)
    found = [make(draw, number) for number in range(items)]
    for split, part in (("train", found[: items // 2]), ("dev", found[items // 2 :])):
        if kind == "answers":
            (folder / f"{split}.jsonl").write_text(json.dumps({"data": [{"paragraphs": part}]}))
        else:
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in part))
    (folder / "task.yaml").write_text(
        f"""sources:
  own: {{kind: labelled, reader: {reader}, train: [{folder}/train.jsonl], validation: [{folder}/dev.jsonl]}}
tasks:
  sky: {{format: {format}, objectives: [{objective}]}}
"""
    )
    return folder / "task.yaml"


def tuned(pretrained, task, run, *overrides, **options):
    found = setup(str(pretrained), [task], [*SMALL, *overrides], **options)
    return finetune(found, Places(run, run.parent / "cache", "local"), SILENT, ["validation"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_learns_what_there_is_to_learn(pretrained, ray_head, tmp_path, kind):
    epochs = {"answers": 12, "choices": 20, "values": 20}.get(kind, 8)
    (found,) = tuned(pretrained, write_task(tmp_path, kind), tmp_path / "run", f"epochs={epochs}")
    assert (found.items, found.skipped, found.seed) == (80, {}, 1)
    assert found.metrics[KINDS[kind][4]] > {"choices": 75}.get(kind, 90), found.metrics
    kept = read_predictions(tmp_path / "run" / "results" / found.predictions)
    assert len(kept) == 80
    assert read_results(tmp_path / "run" / "results" / "sky.validation.json") == found


@pytest.mark.slow
def test_a_killed_one_goes_on_to_the_same_results(pretrained, ray_head, tmp_path, monkeypatch):
    task = write_task(tmp_path, "texts")
    (quiet,) = tuned(pretrained, task, tmp_path / "quiet", "epochs=4")
    plan = [{"point": "step.begin", "rank": 0, "step": 25, "action": "kill", "count": 1}]
    words = [
        "finetune",
        pretrained,
        task,
        *SMALL,
        "epochs=4",
        "--run",
        tmp_path / "killed",
        "--cache",
        tmp_path / "cache",
        "--launcher",
        "local",
    ]
    first = ptm(*words, PTM_TESTING="1", PTM_FAULTS=json.dumps(plan))
    assert first.returncode == 60, first.stderr
    again = ptm(*words)
    assert again.returncode == 0, again.stderr
    assert ledger(tmp_path / "killed") == ledger(tmp_path / "quiet")
    assert f"sky   validation  accuracy  {quiet.metrics['accuracy']:.2f}" in again.stdout
    assert (tmp_path / "killed" / "results" / quiet.predictions).read_text() == (
        tmp_path / "quiet" / "results" / quiet.predictions
    ).read_text()


def test_random_weights_and_another_number_of_workers(pretrained, ray_head, tmp_path):
    task = write_task(tmp_path, "texts")
    tuned(pretrained, task, tmp_path / "one", "epochs=2", scratch=True)
    tuned(
        pretrained, task, tmp_path / "two", "epochs=2", "engine.workers=2", "model.dropout=0.0", "model.attention_dropout=0.0", scratch=True
    )
    assert not list(read_events(RunFolder(tmp_path / "one").events_path, "initialized"))
    assert [step for step, _ in ledger(tmp_path / "one")] == [step for step, _ in ledger(tmp_path / "two")]


@pytest.mark.slow
def test_a_fine_tuned_run_is_measured_on_other_data_and_predicts_lines(pretrained, ray_head, tmp_path):
    (found,) = tuned(pretrained, write_task(tmp_path, "texts"), tmp_path / "run", "epochs=6")
    (tmp_path / "new.jsonl").write_text(
        # Files of several languages may share ids.
        '{"id": "1", "a": "amber moon basil", "label": "dark"}\n{"id": "1", "a": "sun fern", "label": "dark"}\n'
    )
    told = ptm("finetune", tmp_path / "run", f"sources.own.test=[{tmp_path}/new.jsonl]", "--evaluate-only", "--split", "test")
    assert told.returncode == 0, told.stderr
    assert "sky   test   accuracy  50.00      2      1" in told.stdout
    (tmp_path / "lines.txt").write_text("cedar moon dune\n\n" + '{"id": "x", "first": "elm sun"}\n')
    told = ptm("model", "predict", tmp_path / "run", tmp_path / "lines.txt")
    assert [(one["id"], one["predicted"]) for one in map(json.loads, told.stdout.splitlines())] == [("1", "dark"), ("x", "light")]
    assert found.metrics["accuracy"] > 90


@pytest.mark.slow
def test_seeds_and_settings_are_a_queue_with_one_table(pretrained, tmp_path):
    task = write_task(tmp_path, "texts")
    words = ["finetune", pretrained, task, *SMALL[:1], *SMALL[2:], "epochs=1,2", "optimizer.learning_rate=3e-3", "--seeds", "2"]
    words += ["--run", tmp_path / "grid", "--cache", tmp_path / "cache", "--launcher", "local"]
    told = ptm(*words)
    assert told.returncode == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines() if " accuracy " in line]
    assert [(line[0], line[-1], "±" in line) for line in lines] == [("1", "2", True), ("2", "2", True)]
    again = ptm(*words)
    assert "4 runs, 4 of them finished" in again.stdout + again.stderr
    assert [line.split() for line in again.stdout.splitlines() if " accuracy " in line] == lines


class TestWhatIsWrong:
    def test_a_run_of_text_cannot_be_measured_or_asked(self, pretrained):
        with pytest.raises(ConfigError, match="was trained on text, not on a labelled task"):
            score_run(str(pretrained), ["validation"])

    def test_no_task_no_preset_no_checkpoint(self, pretrained, tmp_path):
        task = write_task(tmp_path, "texts")
        with pytest.raises(ConfigError, match="finetune: no task is given"):
            setup(str(pretrained), [], ["epochs=2"])
        with pytest.raises(ConfigError, match="--preset bart: there is none; one of albert, bert"):
            setup(str(pretrained), [task], preset="bart")
        with pytest.raises(ConfigError, match="holds no weights"):
            setup(str(tmp_path), [task])
        with pytest.raises(ConfigError, match=r"score\.metric: Extra inputs.*keys of score are metrics"):
            setup(str(pretrained), [task], ["score.metric=[f1]"])

    def test_an_unknown_label_stops_or_is_counted_as_configured(self, pretrained, ray_head, tmp_path):
        task = write_task(tmp_path, "texts")
        with (tmp_path / "dev.jsonl").open("a") as file:
            file.write('{"id": "odd", "a": "moon and sun", "label": "dusk"}\n')
        with pytest.raises(
            DataIntegrityError, match=r"sources.own: 1 items cannot be used \(1 unknown_label\); the first: odd: unknown_label"
        ):
            tuned(pretrained, task, tmp_path / "run", "epochs=1")
        (found,) = tuned(pretrained, task, tmp_path / "run2", "epochs=1", "sources.own.bad=skip")
        assert found.items == 81, "a label that is unknown is an error of the model"
        assert found.metrics["accuracy"] <= 100 * 80 / 81

    def test_a_document_of_many_tokens_is_read(self, pretrained, ray_head, tmp_path):
        task = write_task(tmp_path, "answers")
        context = "amber " * 20_000 + "moon"
        data = {
            "data": [
                {
                    "paragraphs": [
                        {
                            "context": context,
                            "qas": [{"id": "1", "question": "what shines?", "answers": [{"text": "moon", "answer_start": 120_000}]}],
                        }
                    ]
                }
            ]
        }
        (tmp_path / "dev.jsonl").write_text(json.dumps(data))
        (found,) = tuned(pretrained, task, tmp_path / "run", "epochs=1", "tasks.sky.format.stride=10")
        assert found.items == 1
