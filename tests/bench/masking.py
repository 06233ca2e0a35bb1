"""Masking beside transformers' collator: the same rows, in turn, in one process on one core.

    OMP_NUM_THREADS=1 python tests/bench/masking.py [rounds]

Prints millions of tokens a second with 256 rows of 512 tokens: the median over the rounds of the time that the processor spent on each.
Arrays: `MaskedLM.hide`, with the words drawn for each row from its own stream; of the collator the part that masks, with special tokens
known. Rows: `MaskedLM.corrupt`, then `collate`; of the collator a whole call. The collator hides each token, or each word, with probability
0.15, where it promises no count and no mask that is the same in another batch; of whole words it makes nothing but the mask token.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from ptm_dist.data.batch import Row, collate
from ptm_dist.data.marks import WORD
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.masked_lm import Block, Geometric, MaskedLM, Ngrams
from ptm_dist.rng import Draws, RowDraws, share_of

ROWS, LENGTH, BLOCK = 256, 512, 64
VOCABULARY = Vocabulary(size=30_000, begin=2, pad=0, end=3, unknown=1, mask=4)
BERT = {"choose": "budget", "predict_special": False, "random_ids": "all"}
SYSTEMS = {
    "tokens, RoBERTa": MaskedLM(),
    "tokens, BERT": MaskedLM(**BERT),
    "tokens, ERNIE": MaskedLM(choose="each", predict_special=False, random_ids="all_but_pad"),
    "words, BERT-wwm": MaskedLM(**BERT, unit="word"),
    "words, fairseq": MaskedLM(unit="word", action_per="group"),
    "words, ERNIE": MaskedLM(unit="word", choose="each", predict_special=False, random_ids="all_but_pad"),
    "n-grams, ALBERT": MaskedLM(**BERT, unit="word", spans=Ngrams()),
    "n-grams, ALBERT, at most 20": MaskedLM(**BERT, unit="word", spans=Ngrams(), most=20),
    "spans, SpanBERT": MaskedLM(**BERT, unit="word", spans=Geometric(), action_per="group"),
}


def text() -> tuple[np.ndarray, np.ndarray]:
    """Return tokens as [CLS] A [SEP] B [SEP], int64, and which of them go on with a word: three in ten."""
    tokens = 5 + Draws(0, "text").integers(ROWS * LENGTH, VOCABULARY.size - 5).reshape(ROWS, LENGTH)
    tokens[:, 0], tokens[:, [LENGTH // 2, -1]] = VOCABULARY.begin, VOCABULARY.end
    goes_on = share_of(Draws(0, "words").words(ROWS * LENGTH)).reshape(ROWS, LENGTH) < 0.3
    return tokens, goes_on & (tokens > 4)


def ours(tokens: np.ndarray, goes_on: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what is measured of this project, by name."""
    draws = RowDraws(1, "train.mlm.masked_lm", [(0, row) for row in range(ROWS)])
    lengths, parts = np.full(ROWS, LENGTH), [slice(start, start + BLOCK) for start in range(0, ROWS, BLOCK)]
    rows = [
        Row({"tokens": row.astype(np.uint16), "marks": marks}) for row, marks in zip(tokens, (goes_on * WORD).astype(np.uint8), strict=True)
    ]

    def arrays(objective: MaskedLM) -> None:
        for part in parts:
            block = Block(tokens[part], lengths[part], goes_on[part] if objective.needs_marks else None)
            objective.hide(block, VOCABULARY, draws.part(part.start, part.stop))

    def batch(objective: MaskedLM) -> None:
        collate([row.without(objective.reads) for row in objective.corrupt(rows, VOCABULARY, draws)], VOCABULARY.pad, ROWS)

    found = {f"arrays: {name}": lambda objective=objective: arrays(objective) for name, objective in SYSTEMS.items()}
    for name in ("tokens, RoBERTa", "words, BERT-wwm"):
        found[f"rows, corrupt: {name}"] = lambda objective=SYSTEMS[name]: objective.corrupt(rows, VOCABULARY, draws)
        found[f"rows, corrupt and collate: {name}"] = lambda objective=SYSTEMS[name]: batch(objective)
    return found


def theirs(tokens: np.ndarray, goes_on: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what is measured of transformers, by name."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, VOCABULARY.size))]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    single = DataCollatorForLanguageModeling(tokenizer)
    whole = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True)
    inputs, is_special = torch.from_numpy(tokens), torch.from_numpy((tokens < 5).astype(np.int64))
    # A token that goes on begins where the one before it ends; others leave a space.
    starts = np.cumsum(np.where(goes_on, 1, 2), axis=1)
    offsets = torch.from_numpy(np.stack([starts, starts + 1], axis=2))
    examples = [
        {"input_ids": row, "special_tokens_mask": mask} for row, mask in zip(tokens.tolist(), is_special.numpy().tolist(), strict=True)
    ]
    return {
        "arrays: collator, tokens, torch": lambda: single.torch_mask_tokens(inputs.clone(), is_special),
        "arrays: collator, tokens, numpy": lambda: single.numpy_mask_tokens(tokens.copy(), is_special.numpy()),
        "arrays: collator, words": lambda: whole.torch_mask_tokens(inputs.clone(), is_special, offsets),
        "rows: collator, tokens": lambda: single([dict(example) for example in examples]),
    }


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    contenders = ours(*text()) | theirs(*text())
    seconds = {name: [] for name in contenders}
    for number in range(rounds):
        for name, work in contenders.items():
            # The collator compares each token of a row with each other to find whole words: that takes seconds a round.
            if "collator, words" in name and number >= 5:
                continue
            work()  # What ran before has emptied the caches.
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    print(f"{'':52} M tokens/s")
    for name, found in seconds.items():
        print(f"{name:52} {ROWS * LENGTH / median(found) / 1e6:10.1f}")


if __name__ == "__main__":
    main()
