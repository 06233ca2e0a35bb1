"""make study-trends-masks, -rows, -albert, -words, -ernie: what papers say of masks, rows, objectives and sizes, tried small, three seeds.

Each arm is a file of `configs/studies/trends` or a recipe, pretrained with three seeds at the size of `configs/studies/downstream.yaml`,
then fine-tuned once each; arms are shared between questions. What is finished is not done again.

    python -m tests.studies.trends masks|rows|albert|words|ernie
"""

from __future__ import annotations

import sys
from typing import Final

from ptm_dist.finetune.bootstrap import spread
from ptm_dist.finetune.results import Results
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from tests.studies.finetune import SEEDS, TASKS, tuning
from tests.studies.pretraining import ENGLISH, STUDIES, small
from tests.studies.side_by_side import columns, finetune_all, train_all
from tests.systems.ride import CONFIGS

PRETRAINING: Final = STUDIES / "trends"
FINETUNE: Final = STUDIES / "trends-finetune"
STEPS: Final = 3000
FEW_TEXTS: Final = {"static_masks": ("en/bbc_news.jsonl.gz",), "dynamic_masks": ("en/bbc_news.jsonl.gz",)}
"""Arms that read their texts five times: what is drawn anew must come again."""
MEASURED: Final = {"en": ("emotions_en", "wnut16"), "zh": ("cluener", "cmrc2018")}
QUESTIONS: Final = {
    "masks": {
        "masks drawn anew, or one for good (RoBERTa: as good or slightly better)": ("dynamic_masks", "static_masks"),
    },
    "rows": {
        "full sentences, or pairs of segments (RoBERTa: slightly better)": ("full_sentences", "bert"),
        "permutation, or masks (XLNet: better)": ("xlnet", "full_sentences"),
    },
    "albert": {
        "sentence order, or the next sentence (ALBERT: better)": ("albert", "albert_nsp"),
        "shared layers, or layers of their own (ALBERT: a little worse)": ("albert", "albert_unshared"),
        "embeddings of 64, or of 16 (ALBERT: hardly any difference)": ("albert", "albert_narrow"),
    },
    "words": {
        "whole words, or characters (BERT-wwm: better)": ("words_zh", "tokens_zh"),
    },
    "ernie": {
        "characters, phrases, entities (ERNIE 1.0: each is better)": ("ernie1", "ernie1_phrases", "ernie1_tokens"),
        "ERNIE 2.0, or 1.0 (ERNIE 2.0: better at reading)": ("ernie2_zh", "ernie1"),
    },
}
"""By part: what a paper says, and the arms that it is tried with."""
CHINESE: Final = ("words", "ernie")


def main(part: str) -> None:
    """Train and fine-tune what is missing, and print a table for each question."""
    questions, language = QUESTIONS[part], "zh" if part in CHINESE else "en"
    arms = list(dict.fromkeys(arm for arms in questions.values() for arm in arms))
    runs = train_all(PRETRAINING, {f"{arm}-{seed}": recipe(arm, language, seed) for seed in SEEDS for arm in arms})
    found = {task: fine_tuned(task, language, runs) for task in MEASURED[language]}
    heading = ("arm", *(f"{task}, {TASKS[language][task].figure}" for task in found))
    for said, compared in questions.items():
        lines = [(arm, *(figures(found[task], arm, language, task) for task in found)) for arm in compared]
        print(f"\n{said}\n\n{columns(heading, lines, 1)}")


def recipe(arm: str, language: str, seed: int) -> Recipe:
    """Return the recipe of an arm under the study's scale and texts."""
    own = CONFIGS / "studies" / "trends" / f"{arm}.yaml"
    file = own if own.exists() else CONFIGS / f"{arm}.yaml"
    return small(file, language, STEPS, (f"seed={seed}",), FEW_TEXTS.get(arm, ENGLISH))


def fine_tuned(task: str, language: str, runs: dict[str, RunFolder]) -> dict[str, Results]:
    """Return what each run reaches on a task, fine-tuned with the seed that it was pretrained with."""
    settings = TASKS[language][task]
    setups = {f"{task}-{name}": tuning(task, settings, run, scratch=False, seed=int(name.rpartition("-")[2])) for name, run in runs.items()}
    return finetune_all(FINETUNE, setups, settings.split)


def figures(found: dict[str, Results], arm: str, language: str, task: str) -> str:
    """Return mean and deviation of an arm over its seeds."""
    return str(spread([found[f"{task}-{arm}-{seed}"].metrics[TASKS[language][task].figure] for seed in SEEDS]))


if __name__ == "__main__":
    main(*sys.argv[1:])
