"""The folder of a fine-tuned run: transformers reads a pair of texts there as the run does, and its card says what was done."""

import json

import pytest
import torch
import transformers

from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.shard import write_dataset
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.corpus.wordpiece import WordPiece
from ptm_dist.data.batch import Row, collate
from ptm_dist.data.item import TextItem
from ptm_dist.errors import ConfigError
from ptm_dist.finetune.export import export_task
from ptm_dist.finetune.results import Results
from ptm_dist.formats.labelled import Tools
from ptm_dist.models import FAMILIES
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.rng import RowDraws
from ptm_dist.run import RunFolder
from ptm_dist.train.module import PretrainingModel, to_device
from ptm_dist.train.state import write_weights
from tests.contract.engine_ranks import families
from tests.tiny import tiny_recipe
from tests.unit.models.kit import randomise, stored

TEXTS = ["The committee met in Geneva on Tuesday; nobody came.", "It rained all day long, and the river rose.", "Who reads this?"] * 9
TOKENIZERS = {
    "bert": WordPiece(vocab_size=300),
    "ernie": WordPiece(vocab_size=300),
    "roberta": ByteBPE(vocab_size=300),
    "albert": Unigram(vocab_size=60),
    "xlnet": Unigram(vocab_size=60, specials="xlnet"),
    "gpt": GptBPE(vocab_size=300),
    "gpt2": ByteBPE(vocab_size=300, specials="gpt2"),
}
ITEMS = [TextItem("1", TEXTS[0], TEXTS[1], "yes"), TextItem("2", TEXTS[2], None, "no"), TextItem("3", TEXTS[1], TEXTS[2], "yes")]


def run_of(family, folder):
    """Return a run with random weights, data of ITEMS, and no training at all."""
    put(folder / "base", TOKENIZERS[family].train(iter(TEXTS)))
    joining = FAMILIES[family].joining
    settings = families()[family] | ({"head_width": 8} if family == "xlnet" else {"positions": 128})
    objective = {"kind": "classify_text", "labels": ["no", "yes"], "at": joining.summary}
    plain = recipe_to_json(tiny_recipe()) | {
        "name": "pairs",
        "init": "runs/old-model@300",
        "model": settings,
        "tokenizer": {"kind": "existing", "folder": str(folder / "base"), "special": list(joining.new)},
        "sources": {"own": {"kind": "labelled", "reader": {"kind": "table", "first": 0, "label": 1}, "train": ["x"]}},
        "tasks": {"told": {"format": {"kind": "texts", "length": 120}, "objectives": [objective]}},
        "stages": [{"name": "only", "steps": {"told": 1}}],
    }
    recipe, run = recipe_from_json(plain), RunFolder(folder / "run")
    put(folder / "tokenizer", recipe.tokenizer.train(iter(())))
    tokenizer = load_tokenizer(folder / "tokenizer")
    rows = list(recipe.tasks["told"].format.rows(ITEMS, Tools(tokenizer, joining, ("no", "yes")), training=True))
    write_dataset((row.example for row in rows), folder / "train", tokenizer.vocabulary, {})
    run.claim(recipe)
    run.set_data(DataFolders(folder / "tokenizer", {"told": {"train": folder / "train"}}))
    torch.manual_seed(0)
    model = PretrainingModel(recipe, tokenizer.vocabulary).eval()
    randomise(model)
    (folder / "step-00000007").mkdir()
    write_weights(stored(model), folder / "step-00000007")
    return run, model, rows


def put(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


@torch.no_grad()
def logits_of(run, model, rows):
    """Return what the run says of each row by itself."""
    (objective,), vocabulary = run.recipe().tasks["told"].objectives, run.data().vocabulary
    found = []
    for row in objective.corrupt([Row(row.example) for row in rows], vocabulary, RowDraws(0, "x", [(0, n) for n in range(len(rows))])):
        inputs, lengths, targets = to_device(collate([row.without(objective.reads)], vocabulary.pad, 1), torch.device("cpu"))
        found.append(model.predict("told", inputs, lengths, targets["classify_text"][0]))
    return torch.cat(found)


@pytest.mark.parametrize("family", TOKENIZERS)
@torch.no_grad()
def test_transformers_reads_texts_as_the_run_does(family, tmp_path):
    run, model, rows = run_of(family, tmp_path)
    export_task(run, tmp_path / "out", tmp_path / "step-00000007")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    wanted = logits_of(run, model, rows)
    for item, row, logits in zip(ITEMS, rows, wanted, strict=True):
        read = tokenizer(item.first, item.second, return_tensors="pt")
        assert read["input_ids"][0].tolist() == row.example["tokens"].tolist()
        assert (reference(**read).logits - logits).abs().max() < 1e-5
    pairs = [(ITEMS[0].first, ITEMS[0].second), (ITEMS[2].first, ITEMS[2].second)]
    together = reference(**tokenizer(pairs, padding=True, return_tensors="pt")).logits
    assert (together - wanted[[0, 2]]).abs().max() < 1e-5
    assert (wanted[0] - wanted[2]).abs().max() > 1e-3


class TestCard:
    @pytest.fixture
    def export(self, tmp_path):
        """Return a function that gives the card of a run of a family."""

        def written(family="gpt2", **results):
            run, *_ = run_of(family, tmp_path)
            told = {"task": "told", "kind": "texts", "split": "validation", "metrics": {"accuracy": 87.654}, "items": 1234}
            told |= {"checkpoint": "elsewhere/step-00000007", "seed": 1, "recipe_digest": run.recipe().digest, "scored_at": 0.0}
            Results(**(told | results)).write(run.path / "results" / "told.validation.json")
            export_task(run, tmp_path / "out", tmp_path / "step-00000007")
            return (tmp_path / "out" / "README.md").read_text()

        return written

    def test_it_says_what_was_done_and_what_came_of_it(self, export):
        lines = export().splitlines()
        assert lines[0] == "# pairs"
        assert "Fine-tuned with ptm_dist from `old-model`. `GPT2ForSequenceClassification` of transformers opens it." in lines
        for line in (
            "- `told`: the class of a text, or of a pair of texts",
            "- no is 0",
            "- yes is 1",
            "- a row is `<start> A <extract>`",
            "- a row is `<start> A <delimiter> B <extract>`",
            "| split | metric | value | items |",
            "| validation | accuracy | 87.65 | 1,234 |",
        ):
            assert line in lines
        assert any(line.startswith("- train: 3 rows, ") for line in lines)

    @pytest.mark.parametrize("other", [{"checkpoint": "run/step-00000006"}, {"recipe_digest": "0" * 64}, {"task": "untold"}])
    def test_results_of_something_else_are_not_its_own(self, export, other):
        card = export(**other)
        assert "87.65" not in card
        assert "- not measured" in card

    def test_a_row_of_bert(self, export):
        assert "- a row is `[CLS] A [SEP] B [SEP]`" in export("bert")


def test_an_unknown_task_is_refused(tmp_path):
    run, *_ = run_of("bert", tmp_path)
    with pytest.raises(ConfigError, match="--task other: the run has told"):
        export_task(run, tmp_path / "out", tmp_path / "step-00000007", "other")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["gpt", "gpt2"])
def test_new_tokens_are_in_the_tokenizer_and_the_embedding(family, tmp_path):
    run, *_ = run_of(family, tmp_path)
    export_task(run, tmp_path / "out", tmp_path / "step-00000007")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    size = json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"]
    assert len(tokenizer) == size == run.data().vocabulary.size
    assert tokenizer.convert_tokens_to_ids(["<start>", "<delimiter>", "<extract>"]) == [size - 3, size - 2, size - 1]
