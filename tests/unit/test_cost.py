"""What a recipe costs, against torch's own counter of FLOPs on real models, and against published figures."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from ptm_dist.cli import app
from ptm_dist.cli.costs import LABELS
from ptm_dist.cost import body_flops, cost_of, forward_flops, target_flops, targets_of
from ptm_dist.data.batch import Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.albert import Albert
from ptm_dist.models.softmax import AdaptiveSoftmax
from ptm_dist.models.xlnet import Xlnet
from ptm_dist.objectives import CausalLM, MaskedLM, PermutationLM
from ptm_dist.recipe_io import load_recipe, recipe_from_json, recipe_to_json
from ptm_dist.rng import RowDraws
from ptm_dist.train.module import PretrainingModel, outline
from tests.tiny import tiny_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
LENGTH, ROWS = 24, 3
BODY = {"layers": 2, "hidden": 12, "heads": 3, "dropout": 0.1}
PAIRS = {"format": {"kind": "segment_pair", "length": LENGTH, "pair": "nsp"}}
MASKED = {"kind": "masked_lm", "choose": "budget", "rate": 0.25}
PAIR = {"kind": "classify_sequence", "classes": 2}
ENCODED = PAIRS | {"objectives": [MASKED, PAIR]}
CAUSAL = {"format": {"kind": "contiguous", "length": LENGTH}, "objectives": [{"kind": "causal_lm"}]}
PERMUTED = {
    "format": {"kind": "memory_segments", "length": LENGTH, "reuse": 10},
    "objectives": [{"kind": "permutation_lm", "one_in": 5}, PAIR],
}
STREAMS = {"format": {"kind": "word_streams", "length": LENGTH}, "objectives": [{"kind": "bidirectional_lm"}]}
LSTM = {"kind": "elmo", "cell": 20, "projection": 8, "character_width": 5, "filters": [[1, 4], [3, 6]], "highways": 2, "word_length": 11}
REMEMBERING = {"kind": "xlnet", "head_width": 7, "intermediate": 30, "memory_length": 14, "reuse_length": 10}
WORDS = {"kind": "words", "vocab_size": 71}
SIZES = {"positions": LENGTH, "intermediate": 30}
CASES = {
    "bert": (BODY | SIZES | {"kind": "bert"}, ENCODED),
    "bert without pooler": (BODY | SIZES | {"kind": "bert", "pooler": False}, ENCODED),
    "roberta": (BODY | SIZES | {"kind": "roberta"}, ENCODED),
    "ernie": (BODY | SIZES | {"kind": "ernie", "task_types": 4}, ENCODED),
    "ernie, tokens": (BODY | SIZES | {"kind": "ernie"}, PAIRS | {"objectives": [{"kind": "classify_tokens", "classes": 4}]}),
    "albert": (BODY | SIZES | {"kind": "albert", "embedding": 5, "layers": 4, "groups": 2, "inner_groups": 2}, ENCODED),
    "albert, shared in part": (BODY | SIZES | {"kind": "albert", "embedding": 12, "sharing": "ffn"}, ENCODED),
    "gpt": (BODY | {"kind": "gpt", "positions": LENGTH}, CAUSAL),
    "gpt2": (BODY | {"kind": "gpt2", "positions": LENGTH}, CAUSAL),
    "xlnet": (BODY | REMEMBERING, PERMUTED),
    "xlnet, causal": (BODY | REMEMBERING | {"attention": "uni", "layers": 3}, PERMUTED),
    "elmo, sampled": (LSTM | {"softmax": "sampled", "negatives": 9}, STREAMS),
    "elmo, full": (LSTM | {"softmax": "full", "layers": 3}, STREAMS),
}


def recipe_of(model, task, **changes):
    tokenizer = WORDS if model["kind"] == "elmo" else {"kind": "byte_bpe", "vocab_size": 391}
    batch = {"rows": 8, "lanes": 8}
    plain = recipe_to_json(tiny_recipe()) | {"model": model, "tasks": {"mlm": task}, "tokenizer": tokenizer, "batch": batch}
    return recipe_from_json(plain | changes)


def counted(recipe, backward=False):
    """Return what torch counts for full rows of the one task, with as many targets as its objectives have."""
    vocabulary = Vocabulary(recipe.tokenizer.vocab_size, begin=0, pad=1, end=2, unknown=3, mask=4)
    model, task = PretrainingModel(recipe, vocabulary).train(), recipe.tasks["mlm"]
    tokens = torch.randint(5, vocabulary.size, (ROWS, LENGTH))
    inputs = {"tokens": tokens, "characters": torch.randint(1, 261, (ROWS, LENGTH, 11))}
    targets = {}
    for objective in task.objectives:
        count = int(targets_of(objective, LENGTH, recipe.total_steps))
        places = torch.stack([torch.randperm(LENGTH)[:count] for _ in range(ROWS)]) + LENGTH * torch.arange(ROWS)[:, None]
        targets[objective.kind] = places.flatten(), torch.zeros(places.numel(), dtype=torch.int64)
    if recipe.model.kind == "xlnet":
        asked = torch.zeros(ROWS * LENGTH, dtype=torch.int64).index_fill(0, targets["permutation_lm"][0], 1).view(ROWS, LENGTH)
        inputs |= {"key_order": asked.cumsum(1) * asked, "query_order": asked.cumsum(1) * asked + 1 - asked}
    lengths, weights = torch.full((ROWS,), LENGTH), dict.fromkeys(targets, 1.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss, _, _ = model("mlm", inputs, lengths, targets, weights)
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("case", CASES)
def test_forward_is_what_torch_counts(case):
    recipe = recipe_of(*CASES[case])
    assert ROWS * forward_flops(recipe, outline(recipe), "mlm") == counted(recipe)


@pytest.mark.parametrize("case", ["bert", "albert", "gpt2", "xlnet", "elmo, full"])
def test_training_is_about_three_forwards(case):
    """Short of it by the gradients of inputs that nobody asks for: of memory, of distances, of characters."""
    recipe = recipe_of(*CASES[case])
    assert 2.7 * counted(recipe) < counted(recipe, backward=True) <= 3 * counted(recipe)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([6, 9, 12, 15]),
    st.integers(3, 40),
    st.sampled_from(["bert", "albert", "roberta"]),
)
def test_encoders_of_any_shape(layers, heads, hidden, intermediate, kind):
    model = {"kind": kind, "layers": layers, "hidden": hidden * heads, "heads": heads, "intermediate": intermediate, "positions": LENGTH}
    recipe = recipe_of(model, ENCODED)
    assert ROWS * forward_flops(recipe, outline(recipe), "mlm") == counted(recipe)


def test_an_adaptive_softmax_takes_the_cluster_of_a_word():
    head = AdaptiveSoftmax(32, 1000, [10, 100])
    with FlopCounterMode(display=False) as counter:
        # A word of each cluster: 11 + 1 logits over frequent words and clusters, then 90 of 8, and 900 of 2 dimensions.
        head.loss(torch.randn(1, 3, 32), torch.arange(3), torch.tensor([5, 50, 500]))
    top, second, third = 2 * 32 * 12, 2 * (32 * 8 + 8 * 90), 2 * (32 * 2 + 2 * 900)
    assert counter.get_total_flops() >= 3 * top + second + third
    words = [torch.log1p(1 / (torch.arange(*ids) + 1.0)).sum() / torch.log(torch.tensor(1001.0)) for ids in ((10, 100), (100, 1000))]
    assert target_flops(head) == pytest.approx(float(top + words[0] * second + words[1] * third), rel=1e-5)


def test_sharing_weights_saves_no_arithmetic():
    found = {body_flops(Albert(embedding=768, sharing=sharing), 512, 0) for sharing in ("all", "attention", "none")}
    assert found == {body_flops(load_recipe([CONFIGS / "bert.yaml"]).model, 512, 0)}


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"choose": "budget", "most": 20}, 19),  # BERT: 19 of 128
        ({"choose": "budget", "most": 12}, 12),
        ({"choose": "share"}, 19.2),
        ({"choose": "each", "rate": 0.25}, 32.0),
        # 10 of the 40 steps go from 0.4 to 0.2, so that they have 0.31 in the mean, the others 0.2.
        ({"rate": {"start": 0.4, "end": 0.2, "steps": 10}}, 128 * (0.31 * 10 + 0.2 * 30) / 40),
        ({"rate": {"start": 0.4, "end": 0.2, "steps": 100}}, 128 * (0.4 + 0.4 - 0.2 * 39 / 100) / 2),
    ],
)
def test_targets_of_masks(fields, count):
    assert targets_of(MaskedLM(**fields), 128, 40) == pytest.approx(count)


@pytest.mark.parametrize(
    "objective",
    [
        CausalLM(),
        PermutationLM(),
        MaskedLM(),
        MaskedLM(choose="each"),
        MaskedLM(choose="budget", most=20),
        MaskedLM(choose="budget", most=12, static_masks=1),
    ],
    ids=lambda objective: f"{objective.kind}-{getattr(objective, 'choose', '')}",
)
def test_targets_are_as_many_as_are_drawn(objective):
    vocabulary = Vocabulary(500, begin=0, pad=1, end=2, unknown=3, mask=4)
    tokens = np.random.default_rng(5).integers(5, 500, (400, 128))
    rows = objective.corrupt(
        [Row({"tokens": row}) for row in tokens], vocabulary, RowDraws(3, "test", [(0, number) for number in range(400)]), 0
    )
    drawn = np.mean([len(row.targets[objective.kind].labels) for row in rows])
    spread = 0.03 if getattr(objective, "choose", "") == "each" else 0.004
    assert targets_of(objective, 128, 40) == pytest.approx(drawn, rel=spread)


def test_targets_of_a_long_row_have_its_budget():
    assert targets_of(MaskedLM(choose="budget", most=77), 512, 40) == 77
    assert targets_of(load_recipe([CONFIGS / "xlnet.yaml"]).tasks["plm"].objectives[0], 512, 1) == 85


# BERT base 110M (Devlin et al. 2019, section 3), ALBERT base 12M (Lan et al. 2020, table 1), GPT-2 124M (README of openai/gpt-2), GPT 117M
# (Radford et al. 2019, table 2), XLNet and RoBERTa as released.
@pytest.mark.parametrize(
    ("name", "millions"), [("bert", 110), ("albert", 12), ("gpt2", 124), ("gpt", 117), ("xlnet", 117), ("roberta", 125)]
)
def test_parameters_are_those_published(name, millions):
    figures = cost_of(load_recipe([CONFIGS / f"{name}.yaml"])).figures
    assert round(figures["parameters"] / 1e6) == millions
    assert figures["backbone"] + figures["heads"] == figures["parameters"]


@pytest.mark.parametrize(
    ("name", "sequences", "tokens"),
    [
        ("bert", 256 * 1_000_000, 256 * (900_000 * 128 + 100_000 * 512)),  # appendix A.2
        ("roberta", 8_192 * 500_000, 8_192 * 500_000 * 512),  # section 5
        ("albert", 4_096 * 125_000, 4_096 * 125_000 * 512),  # section 4.1
        ("gpt2", 512 * 600_000, 512 * 600_000 * 1_024),
        ("bert_wwm_ext", 2_560 * 1_000_000 + 384 * 400_000, 2_560 * 1_000_000 * 128 + 384 * 400_000 * 512),
        ("ernie2", 768 * 250_000, 393_216 * 250_000),  # tokens a batch, section 4.1
        ("elmo", 384 * 1_000_840, 2 * 7_680 * 1_000_840),  # 7,680 words of each direction
    ],
)
def test_sequences_and_tokens_are_those_published(name, sequences, tokens):
    found = cost_of(load_recipe([CONFIGS / f"{name}.yaml"]))
    assert (found.sequences, found.tokens) == (sequences, tokens)


def test_batches_that_grow_read_less():
    recipe = tiny_recipe(batch={"warmup": {"start": 0.25, "steps": 12}})
    # Of 16 rows, 4 at first and one more each step.
    assert cost_of(recipe).sequences == sum(range(4, 16)) + 28 * 16
    assert cost_of(tiny_recipe()).sequences == 40 * 16


# Counted by others: TensorFlow's profiler for XLNet large, 32 rows (google-research/electra, flops_computation.py); six times the
# parameters times 2,000B tokens for RoBERTa base, which counts embeddings and leaves attention out (Brown et al. 2020, table D.1).
def test_flops_are_near_what_others_counted():
    large = Xlnet(layers=24, hidden=1024, heads=16, intermediate=4096)
    assert body_flops(large, 512, 85) == pytest.approx(15_064_773_691_518 / 32, rel=0.03)
    assert cost_of(load_recipe([CONFIGS / "roberta.yaml"])).training_flops == pytest.approx(1.50e21, rel=0.2)


def test_what_is_not_known_is_not_told(tmp_path):
    recipe = recipe_from_json(recipe_to_json(tiny_recipe()) | {"tokenizer": {"kind": "existing", "folder": str(tmp_path / "nowhere")}})
    known = {"steps": 40, "sequences": 640, "tokens": 640 * 32}
    assert cost_of(recipe).figures == dict.fromkeys(("parameters", "backbone", "heads", "training_flops")) | known


def test_a_run_of_so_many_epochs_has_no_known_length():
    figures = cost_of(tiny_recipe(stages=[{"name": "main", "steps": {"mlm": "40 epochs"}}])).figures
    assert {name for name, figure in figures.items() if figure is None} == {"steps", "sequences", "tokens", "training_flops"}


def test_a_family_from_elsewhere_has_no_known_arithmetic():
    class Elsewhere:
        pass

    assert str(body_flops(Elsewhere(), 16, 0)) == "nan"


def test_what_two_recipes_cost_stands_below_what_differs(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    result = CliRunner().invoke(app, ["diff", "configs/bert.yaml", "configs/roberta.yaml"])
    assert result.exit_code == 0
    changes, table = result.output.split("\n\n")
    assert "batch.rows: 256 -> 8192" in changes
    lines = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    assert lines[0] == ["configs/bert.yaml", "configs/roberta.yaml", "ratio"]
    assert lines[1] == ["parameters", "110,106,428", "124,696,665", "1.13"]
    assert ["sequences seen", "256,000,000", "4,096,000,000", "16"] in lines
    assert [line[0] for line in lines[1:]] == [LABELS[name].strip() for name in cost_of(tiny_recipe()).figures]


def test_recipes_that_do_not_differ_have_no_table(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    assert CliRunner().invoke(app, ["diff", "configs/bert.yaml", "configs/bert.yaml"]).output == "no difference\n"


def test_show_says_what_a_recipe_costs(monkeypatch, tmp_path):
    monkeypatch.chdir(CONFIGS.parent)
    text = CliRunner().invoke(app, ["show", "configs/bert.yaml"]).output
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe([tmp_path / "again.yaml"]) == load_recipe(["configs/bert.yaml"])
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[1:4] == [
        "# parameters 110,106,428: backbone 109,482,240, heads.masked_lm 622,650, heads.short-classify_sequence 1,538",
        "# steps 1,000,000",
        "# sequences seen 256,000,000",
    ]
    assert "# tokens seen, at most 42,598,400,000" in head
    # 23.4e9 forward of a row of 128, 100.4e9 of a row of 512, by hand.
    assert re.search(r"# training FLOPs 2\.3\de19", text)
