"""The recipes of the published systems: sizes, settings that are often told wrong, what each changes in its ancestor, and rates."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from ptm_dist.cli.systems import STARTING_POINTS
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.recipe_io import flatten, load_recipe, recipe_diff
from ptm_dist.train.module import PretrainingModel, parameter_counts

CONFIGS = Path(__file__).parents[2] / "configs"
ANCESTORS = {
    "elmo": None,
    "gpt": None,
    "gpt2": "gpt",
    "bert": None,
    "bert_zh": "bert",
    "bert_wwm": "bert_zh",
    "bert_wwm_ext": "bert_wwm",
    "roberta_wwm_ext": "bert_wwm_ext",
    "xlnet": "bert",
    "roberta": "bert",
    "albert": "bert",
    "albert_zh": "albert",
    "ernie1": "bert_zh",
    "ernie2": "ernie1",
    "ernie2_zh": "ernie2",
}


@cache
def recipe(name):
    return load_recipe([CONFIGS / f"{name}.yaml"])


@cache
def settings(name):
    return flatten(recipe(name))


def lines(text):
    """Return the entries of a table that is written as text, with a semicolon between two."""
    return [entry for entry in re.split(r";?\s*\n\s*|; ", text) if entry]


def sequences(name):
    """Return how many rows a run of the recipe reads."""
    plan = recipe(name)
    return sum(sum(stage.steps.values()) * plan.rows_of(stage, mean_tokens=512) for stage in plan.planned_stages)


def test_there_is_a_recipe_of_every_system_and_a_row_for_every_recipe():
    assert {path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith(STARTING_POINTS)} == ANCESTORS.keys()


@pytest.mark.parametrize("name", ANCESTORS)
def test_a_recipe_is_for_one_run_over_any_text(name):
    assert recipe(name).paper
    assert {task for stage in recipe(name).planned_stages for task in stage.steps} == recipe(name).tasks.keys()
    used = {source for task in recipe(name).tasks for source in recipe(name).sources_of(task)}
    assert used == recipe(name).sources.keys()
    mine = load_recipe([CONFIGS / f"{name}.yaml"], text=["mine"])
    assert {task: mine.sources_of(task) for task in mine.tasks} == {task: ["text"] for task in mine.tasks}


# Heads of the encoders: masked LM of width H over V words is H (H + 1) + 2 H + V (ALBERT: E (H + 1) + 2 E + V), n classes are n (H + 1).
PAIR, MLM_EN, MLM_ZH, MLM_ERNIE = 1_538, 622_650, 613_256, 610_128
COUNTS = [
    ("elmo", {"backbone": 93_600_864, "bidirectional_lm": 407_050_623}),
    ("gpt", {"backbone": 116_534_784}),
    ("gpt2", {"backbone": 124_439_808}),
    ("bert", {"backbone": 109_482_240, "masked_lm": MLM_EN, "short-classify_sequence": PAIR}),
    ("bert_zh", {"backbone": 102_267_648, "masked_lm": MLM_ZH, "short-classify_sequence": PAIR}),
    ("bert_wwm", {"backbone": 102_267_648, "masked_lm": MLM_ZH, "short-classify_sequence": PAIR}),
    ("bert_wwm_ext", {"backbone": 102_267_648, "masked_lm": MLM_ZH, "short-classify_sequence": PAIR}),
    ("roberta_wwm_ext", {"backbone": 102_267_648, "masked_lm": MLM_ZH}),
    ("xlnet", {"backbone": 116_718_336, "permutation_lm": 32_000}),
    ("roberta", {"backbone": 124_055_040 - 768, "masked_lm": 642_393}),
    ("albert", {"backbone": 11_683_584, "masked_lm": 128_688, "pairs-classify_sequence": PAIR}),
    ("albert_zh", {"backbone": 10_547_968, "masked_lm": 119_816, "pairs-classify_sequence": PAIR}),
    ("ernie1", {"backbone": 99_866_112, "masked_lm": MLM_ERNIE, "basic-classify_sequence": PAIR, "dialogue-classify_sequence": PAIR}),
    (
        "ernie2",
        {
            "backbone": 109_496_064,
            "masked_lm": MLM_EN,
            "capital-classify_tokens": 1_538,
            "in_document-classify_tokens": 1_538,
            "reorder-classify_sequence": 25_377,
            "discourse-classify_sequence": 133_806,
        },
    ),
    (
        "ernie2_zh",
        {
            "backbone": 99_867_648 + 16 * 768,
            "masked_lm": MLM_ERNIE,
            "reorder-classify_sequence": 25_377,
            "distance-classify_sequence": 3 * 769,
            "discourse-classify_sequence": 14 * 769,
            "relevance-classify_sequence": 3 * 769,
        },
    ),
]
"""Published figures of backbones (with pooler) and heads. Of RoBERTa without Hugging Face's row of segments; of ELMo with the row that
stands for no word."""
TOTALS = {
    "bert": 110_106_428,
    "bert_wwm": 102_882_442,
    "xlnet": 116_750_336,
    "roberta": 124_696_665,
    "albert": 11_813_810,
    "albert_zh": 10_669_322,
    "ernie1": 100_477_778 + PAIR,
    "ernie2": 110_280_973,
}
"""Published figures of whole models for pretraining; ERNIE 1.0's without the head of dialogues."""


@pytest.mark.parametrize(("name", "parts"), COUNTS, ids=[name for name, _ in COUNTS])
def test_parameters_are_those_published(name, parts):
    found = {part.removeprefix("heads."): count for part, count in parameter_counts(recipe(name)).items()}
    assert found == parts
    assert sum(found.values()) == TOTALS.get(name, sum(parts.values()))


def wide(layers, hidden, heads, intermediate):
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "intermediate": intermediate}
    return [f"model.{key}={value}" for key, value in sizes.items()]


def decoder(layers, hidden, heads):
    return wide(layers, hidden, heads, 4 * hidden)[:3]


LARGE = wide(24, 1024, 16, 4096)
OTHER_SIZES = [
    ("elmo", ["model.cell=2048", "model.projection=256", "model.highways=1"], "backbone", 28_027_744),
    ("elmo", ["model.cell=1024", "model.projection=128", "model.highways=1"], "backbone", 13_593_312),
    ("gpt2", decoder(24, 1024, 16), "all", 354_823_168),
    ("gpt2", decoder(36, 1280, 20), "all", 774_030_080),
    ("gpt2", decoder(48, 1600, 25), "all", 1_557_611_200),
    ("bert", ["tokenizer.vocab_size=28996"], "all", 108_932_934),
    ("bert", LARGE, "all", 336_226_108),
    ("roberta_wwm_ext", LARGE, "backbone", 325_522_432),
    ("xlnet", LARGE, "all", 360_300_800),
    ("roberta", LARGE, "all", 355_411_033),
    ("albert", LARGE, "all", 17_847_474),
    ("albert", wide(24, 2048, 16, 8192), "all", 59_021_490),
    ("albert", wide(12, 4096, 64, 16_384), "all", 223_158_450),
    ("albert_zh", wide(4, 312, 12, 1248), "all", 4_142_594),
    ("albert_zh", wide(6, 384, 12, 1536), "all", 4_813_706),
    ("ernie2", LARGE, "backbone", 335_160_320),
    ("ernie2", ["model.task_types=0"], "backbone", 109_483_776),
    ("ernie2_zh", [*LARGE, "model.positions=512", "tokenizer.vocab_size=12800"], "backbone", 317_012_992),
]
"""What comments in the recipes say of other sizes, and the published figures."""


@pytest.mark.parametrize(("name", "overrides", "part", "published"), OTHER_SIZES, ids=[f"{row[0]}-{row[3]}" for row in OTHER_SIZES])
def test_parameters_of_other_sizes(name, overrides, part, published):
    counts = parameter_counts(load_recipe([CONFIGS / f"{name}.yaml"], overrides))
    assert (counts["backbone"] if part == "backbone" else sum(counts.values())) == published


PINS = {
    # BERT-wwm saw Wikipedia alone. All tokens of a word are chosen; what becomes of them is drawn for each.
    "bert_wwm": """
        sources: ['wikipedia_zh']; stages.0.steps.short: 100000; stages.1.steps.long: 100000; tasks.short.objectives.0.unit: word;
        tasks.short.objectives.0.action_per: token
    """,
    # The larger corpus is that of -ext, and its second phase had batches of 384.
    "bert_wwm_ext": """
        sources: ['encyclopedia_zh', 'news_zh', 'qa_zh', 'wikipedia_zh']; stages.0.steps.short: 1000000; stages.1.steps.long: 400000;
        batch.rows: 2560; stages.1.rows: 384
    """,
    # RoBERTa-wwm-ext is a BERT with BERT's vocabulary, static masks, long rows only, no NSP.
    "roberta_wwm_ext": """
        model.kind: bert; tokenizer.vocab_size: 21128; tasks.mlm.objectives.0.static_masks: 1; tasks.mlm.format.length: 512;
        tasks.mlm.objectives.1.kind: None; stages.0.steps.mlm: 1000000; batch.rows: 384
    """,
    # BERT: pieces of words, 19 of 128 tokens and 77 of 512, first short rows and then long ones.
    "bert": """
        tokenizer.kind: wordpiece; tokenizer.vocab_size: 30522; tasks.short.format.length: 128; tasks.long.format.length: 512;
        tasks.long.heads_of: short; tasks.short.objectives.0.most: 20; tasks.long.objectives.0.most: 77; optimizer.kind: bert_adam
    """,
    # RoBERTa: no NSP, no short phase, 50,265 rows, no clipping, decay of everything.
    "roberta": """
        tokenizer.vocab_size: 50265; tasks.mlm.format.kind: full_sentences; tasks.mlm.objectives.1.kind: None;
        tasks.mlm.objectives.0.static_masks: 0; stages.0.steps.mlm: 500000; stages.1.name: None; model.segments: None;
        optimizer.clip_norm: 0.0; optimizer.decay_norms_and_biases: True
    """,
    # ALBERT: 30,000 pieces, 20 targets in 512 tokens, order of segments in place of NSP.
    "albert": """
        tokenizer.vocab_size: 30000; tasks.pairs.format.length: 512; tasks.pairs.objectives.0.most: 20;
        tasks.pairs.objectives.0.spans.most: 3; tasks.pairs.format.pair: sop; model.embedding: 128; model.sharing: all
    """,
    "albert_zh": """
        tasks.pairs.objectives.0.rate: 0.1; tasks.pairs.objectives.0.spans.kind: None
    """,
    # ERNIE 1.0 is not BERT in Chinese: another activation, one position more, another vocabulary, Paddle's epsilon.
    "ernie1": """
        model.activation: relu; model.positions: 513; model.norm_eps: 1e-05; tokenizer.vocab_size: 18000; model.task_types: 0;
        tasks.basic.objectives.0.unit: token; tasks.phrase.objectives.0.unit: phrase; tasks.entity.objectives.0.unit: entity;
        tasks.dialogue.sources: ['tieba']
    """,
    # ERNIE 2.0: 33 orders, 174 connectives, 4 segments, and five tasks of seven in either language.
    "ernie2": """
        tasks.reorder.objectives.1.classes: 33; tasks.discourse.objectives.1.classes: 174; model.segments: 4; model.task_types: 16;
        model.activation: gelu; schedule.tasks: ['masking', 'capital', 'in_document', 'reorder', 'discourse'];
        tasks.capital.objectives.1.classes: 2; tasks.in_document.format.label: in_document
    """,
    "ernie2_zh": """
        schedule.tasks: ['masking', 'reorder', 'distance', 'discourse', 'relevance']; model.activation: relu;
        optimizer.learning_rate: 0.000128
    """,
    # XLNet: longer context by memory, and no last position; nobody trains on pairs.
    "xlnet": """
        model.memory_length: 384; model.reuse_length: 256; model.positions: None; tasks.plm.objectives.1.kind: None;
        tokenizer.lower_case: False; optimizer.schedule.floor: 0.001
    """,
    # GPT lower-cases, and has no token between documents.
    "gpt": """
        tokenizer.kind: gpt_bpe; tokenizer.vocab_size: 40478; tasks.lm.format.separate: False
    """,
    # GPT-2 keeps case, reads twice as much at once, and has one objective.
    "gpt2": """
        tokenizer.kind: byte_bpe; tokenizer.vocab_size: 50257; model.positions: 1024; tasks.lm.objectives.1.kind: None
    """,
    # ELMo: the gradient is that of 20 times the loss, over 128 streams on each of 3 GPUs.
    "elmo": """
        tokenizer.vocab_size: 793471; tasks.lm.objectives.0.weight: 20.0; tasks.lm.format.length: 40; batch.lanes: 384;
        model.softmax: sampled; optimizer.kind: adagrad; optimizer.clip_norm: 10.0
    """,
}
"""What is often told otherwise; None: there is no such setting."""


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, text in PINS.items() for line in lines(text)])
def test_pinned(name, line):
    path, _, value = line.partition(": ")
    assert str(sorted(recipe(name).sources) if path == "sources" else settings(name).get(path)) == value


def test_nsp_takes_another_document_and_sop_swaps():
    nsp, sop = recipe("bert").tasks["short"].format, recipe("albert").tasks["pairs"].format
    assert [nsp.meaning(1), sop.meaning(1)] == ["another document", "swapped"]


def test_xlnet_has_no_norm_outside_its_layers():
    with torch.device("meta"):
        norms = {
            name: {part for part, module in model.named_modules() if isinstance(module, nn.LayerNorm) and ".layers." not in part}
            for name in ("bert", "xlnet")
            for model in [PretrainingModel(recipe(name), Vocabulary(64, begin=0, pad=1, end=2, unknown=3, mask=4))]
        }
    assert norms == {"bert": {"backbone.norm", "heads.masked_lm.norm"}, "xlnet": set()}


def test_sequences_seen():
    """RoBERTa makes half of BERT's updates and reads 16 times its rows."""
    assert [sequences(name) for name in ("bert", "roberta", "xlnet", "albert")] == [256_000_000, 4_096_000_000, 4_096_000_000, 512_000_000]
    assert sequences("bert_wwm") == 100_000 * (2560 + 384)
    assert sequences("bert_wwm_ext") == 1_000_000 * 2560 + 400_000 * 384


CHANGES = {
    "gpt2": """
        batch.rows: 64 -> 512; model.kind: gpt -> gpt2; model.positions: 512 -> 1024; model.position_std: None -> 0.01;
        model.dropout: 0.1 -> 0.0; model.attention_dropout: 0.1 -> 0.0; optimizer.learning_rate: 0.00025 -> 0.0006;
        optimizer.betas: [0.9, 0.999] -> [0.9, 0.95]; optimizer.eps_joins: raw -> corrected; optimizer.weight_decay: 0.01 -> 0.1;
        optimizer.schedule.floor: 0.0 -> 0.1; optimizer.schedule.counted_from: start -> warmup_end;
        optimizer.schedule.first_update: rests -> moves
    """,
    "bert_zh": "",
    "bert_wwm": """
        batch.rows: 256 -> 2560; optimizer.kind: bert_adam -> lamb; optimizer.adapt_norms_and_biases: None -> True;
        optimizer.schedule.warmup_steps: 10000 -> 20000
    """,
    "bert_wwm_ext": "optimizer.schedule.warmup_steps: 20000 -> 140000",
    "roberta_wwm_ext": """
        batch.rows: 2560 -> 384; optimizer.kind: lamb -> adamw; optimizer.adapt_norms_and_biases: True -> None;
        optimizer.eps_joins: None -> corrected; optimizer.schedule.warmup_steps: 140000 -> 100000
    """,
    "xlnet": """
        batch.rows: 256 -> 8192; batch.lanes: 64 -> 8192; model.kind: bert -> xlnet; model.activation: gelu -> gelu_tanh;
        model.positions: 512 -> None; model.segments: 2 -> None; model.pooler: True -> None; model.head_width: None -> 64;
        model.memory_length: None -> 384; model.reuse_length: None -> 256; model.clamp_length: None -> -1; model.attention: None -> bi;
        optimizer.learning_rate: 0.0001 -> 0.0004; optimizer.schedule.warmup_steps: 10000 -> 40000;
        optimizer.schedule.counted_from: start -> warmup_end; optimizer.schedule.floor: 0.0 -> 0.001
    """,
    "roberta": """
        batch.rows: 256 -> 8192; model.kind: bert -> roberta; model.norm_eps: 1e-12 -> 1e-05; model.segments: 2 -> None;
        model.pooler: True -> None; optimizer.kind: bert_adam -> adamw; optimizer.learning_rate: 0.0001 -> 0.0006;
        optimizer.betas: [0.9, 0.999] -> [0.9, 0.98]; optimizer.eps_joins: None -> raw; optimizer.decay_norms_and_biases: False -> True;
        optimizer.clip_norm: 1.0 -> 0.0; optimizer.schedule.warmup_steps: 10000 -> 24000;
        optimizer.schedule.counted_from: start -> warmup_end; optimizer.schedule.first_update: rests -> moves
    """,
    "albert": """
        batch.rows: 256 -> 4096; model.kind: bert -> albert; model.activation: gelu -> gelu_tanh; model.embedding: None -> 128;
        model.sharing: None -> all; model.groups: None -> 1; model.inner_groups: None -> 1; optimizer.kind: bert_adam -> lamb;
        optimizer.adapt_norms_and_biases: None -> False; optimizer.learning_rate: 0.0001 -> 0.00176;
        optimizer.schedule.warmup_steps: 10000 -> 3125
    """,
    "albert_zh": """
        model.dropout: 0.1 -> 0.0; model.attention_dropout: 0.1 -> 0.0; optimizer.schedule.warmup_steps: 3125 -> 12500
    """,
    "ernie1": """
        batch.rows: 256 -> None; batch.tokens: None -> 65536; model.kind: bert -> ernie; model.positions: 512 -> 513;
        model.activation: gelu -> relu; model.norm_eps: 1e-12 -> 1e-05; model.task_types: None -> 0; optimizer.kind: bert_adam -> adamw;
        optimizer.eps: 1e-06 -> 1e-08; optimizer.eps_joins: None -> corrected; optimizer.schedule.warmup_steps: 10000 -> 5000
    """,
    "ernie2": """
        batch.tokens: 65536 -> 393216; model.positions: 513 -> 512; model.activation: relu -> gelu; model.segments: 2 -> 4;
        model.task_types: 0 -> 16; optimizer.learning_rate: 0.0001 -> 5e-05; optimizer.betas: [0.9, 0.999] -> [0.9, 0.98];
        optimizer.eps: 1e-08 -> 1e-06; optimizer.schedule.kind: linear -> noam; optimizer.schedule.warmup_steps: 5000 -> 4000;
        optimizer.schedule.restart: never -> stage; optimizer.schedule.first_update: rests -> moves;
        optimizer.schedule.counted_from: start -> None; optimizer.schedule.floor: 0.0 -> None
    """,
    "ernie2_zh": """
        model.positions: 512 -> 513; model.activation: gelu -> relu; optimizer.learning_rate: 5e-05 -> 0.000128
    """,
}
"""What `ptm diff` says of an heir and its ancestor in sections that are not about text."""
TEXT = "name", "paper", "sources", "corpus", "tokenizer", "tasks", "stages", "schedule"


@pytest.mark.parametrize("name", CHANGES)
def test_an_heir_changes_what_its_paper_changed(name):
    found = recipe_diff(recipe(ANCESTORS[name]), recipe(name))
    assert {f"{path}: {before} -> {after}" for path, before, after in found if path.split(".")[0] not in TEXT} == set(lines(CHANGES[name]))


def changed_in_text(name):
    """Return what an heir changes of corpora, tasks and the like, sources by name only."""
    found = (path for path, _, _ in recipe_diff(recipe(ANCESTORS[name]), recipe(name)) if path.split(".")[0] in TEXT[2:])
    return {".".join(path.split(".")[:2]) if path.startswith(("sources.", "corpus.")) else path for path in found}


TEXT_CHANGES = {
    "gpt2": """
        sources.bookcorpus sources.webtext stages.0.steps.lm tasks.lm.format.length tasks.lm.format.separate tokenizer.kind
        tokenizer.specials tokenizer.vocab_size
    """,
    "bert_zh": """
        sources.bookcorpus sources.wikipedia_en sources.wikipedia_zh tokenizer.chinese tokenizer.vocab_size
    """,
    "bert_wwm": """
        corpus.units stages.0.steps.short stages.1.rows tasks.long.objectives.0.unit tasks.short.objectives.0.unit
    """,
    "bert_wwm_ext": """
        sources.encyclopedia_zh sources.news_zh sources.qa_zh stages.0.steps.short stages.1.steps.long
    """,
    "albert_zh": """
        corpus.units sources.bookcorpus sources.community_zh sources.encyclopedia_zh sources.news_zh sources.wikipedia_en
        tasks.pairs.objectives.0.most tasks.pairs.objectives.0.rate tasks.pairs.objectives.0.spans.kind
        tasks.pairs.objectives.0.spans.most tokenizer.chinese tokenizer.kind tokenizer.least_count tokenizer.specials
        tokenizer.vocab_size
    """,
}


@pytest.mark.parametrize("name", TEXT_CHANGES)
def test_an_heir_changes_what_its_paper_changed_in_text(name):
    assert changed_in_text(name) == set(TEXT_CHANGES[name].split())


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        *[("bert", 0, 0.0), ("bert", 9_999, 9.999e-5), ("bert", 10_000, 9.9e-5), ("bert", 500_000, 5e-5)],
        *[("xlnet", 0, 0.0), ("xlnet", 39_999, 3.9999e-4), ("xlnet", 40_000, 4e-4), ("xlnet", 270_000, 2.002e-4)],
        *[("albert", 3_124, 1.7594e-3), ("albert", 3_125, 1.716e-3)],
        *[("roberta", 12_000, 3e-4), ("roberta", 24_000, 6e-4), ("roberta", 250_000, 3.1513e-4)],
        *[("ernie1", 4_999, 9.998e-5), ("ernie1", 5_000, 9.95e-5)],
        # The first update has t = 1. The first task is alone for 16,668 steps; then the warm-up begins anew.
        *[("ernie2", 1_999, 2.5e-5), ("ernie2", 3_999, 5e-5), ("ernie2", 15_999, 2.5e-5), ("ernie2", 16_668 + 3_999, 5e-5)],
        *[("gpt", 2_000, 2.5e-4), ("gpt", 500_000, 1.25e-4), ("gpt2", 2_000, 6e-4), ("elmo", 935_588, 0.2)],
        *[("bert_wwm", 19_999, 9.9995e-5), ("bert_wwm", 100_000, 5e-5), ("bert_wwm_ext", 700_000, 5e-5)],
    ],
)
def test_learning_rates(name, step, rate):
    assert recipe(name).learning_rate(step) == pytest.approx(rate, rel=5e-5)


@pytest.mark.parametrize(("name", "rate"), [("bert", 0.0), ("xlnet", 4e-7), ("roberta", 0.0), ("albert", 0.0), ("gpt2", 6e-5)])
def test_learning_rates_after_the_last_update(name, rate):
    total, optimizer = recipe(name).total_steps, recipe(name).optimizer
    assert optimizer.learning_rate * optimizer.schedule.factor(total, total) == pytest.approx(rate, abs=1e-12)
