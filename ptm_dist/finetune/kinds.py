"""What each kind of labelled task makes of logits: predictions of items, and what metrics compare them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ptm_dist.data.item import ChoiceItem, Item, QuestionItem, TaggedItem, TextItem
from ptm_dist.data.joining import Joining
from ptm_dist.finetune.answers import AnswerSearch, Window
from ptm_dist.finetune.metrics import cmrc, squad
from ptm_dist.finetune.results import Prediction
from ptm_dist.finetune.tags import tags_of_words
from ptm_dist.formats.labelled import NOWHERE, Made


@dataclass(frozen=True)
class Reading:
    """What is needed beside the logits to tell what they mean."""

    names: tuple[str, ...]
    joining: Joining
    answers: AnswerSearch


Rows = list[tuple[Made, np.ndarray]]
"""The rows of an item, each with its logits at the places that were asked."""


@dataclass(frozen=True)
class Kind:
    """A kind of task by its objective."""

    metrics: tuple[str, ...]
    """The usual ones."""
    predict: Callable[[Any, Rows, Reading], Prediction]
    """Returns the prediction of an item from its rows."""
    gold: Callable[[Any], Any]
    """Returns what is right of an item, None if nobody knows."""


def _shares(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def _class(item: TextItem, rows: Rows, reading: Reading) -> Prediction:
    shares = _shares(rows[0][1][0])
    told = reading.names[int(shares.argmax())]
    probabilities = {name: round(float(share), 6) for name, share in zip(reading.names, shares, strict=True)}
    return Prediction(id=item.id, gold=item.label, predicted=told, score=_right(item.label, told), probabilities=probabilities)


def _value(item: TextItem, rows: Rows, reading: Reading) -> Prediction:
    return Prediction(id=item.id, gold=item.label, predicted=float(rows[0][1].reshape(-1)[0]))


def _choice(item: ChoiceItem, rows: Rows, reading: Reading) -> Prediction:
    shares = _shares(rows[0][1].reshape(-1))
    told = int(shares.argmax())
    return Prediction(
        id=item.id,
        gold=item.label,
        predicted=told,
        score=_right(item.label, told),
        probabilities=[round(float(share), 6) for share in shares],
    )


def _tags(item: TaggedItem, rows: Rows, reading: Reading) -> Prediction:
    told = tags_of_words(len(item.words), [_numbers(made, logits) for made, logits in rows], reading.names)
    score = None if item.tags is None else float(np.mean([one == other for one, other in zip(item.tags, told, strict=True)]))
    return Prediction(id=item.id, gold=None if item.tags is None else list(item.tags), predicted=list(told), score=score)


def _numbers(made: Made, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the likeliest tag at each token that is the first of a word, and the words."""
    assert made.words is not None
    numbers = np.zeros(len(made.words), dtype=np.int64)
    numbers[made.words != NOWHERE] = logits.argmax(-1)
    return numbers, made.words


def _answer(item: QuestionItem, rows: Rows, reading: Reading) -> Prediction:
    found = reading.answers.find(item.context, [_window(made, logits, reading.joining) for made, logits in rows])
    told = found.answer(reading.answers.threshold)
    best = [{"text": one.text, "probability": round(one.probability, 6), "start": one.start} for one in found.candidates[:5]]
    texts = [answer.text for answer in item.answers]
    rate = cmrc.f1 if _is_chinese(item.context) else squad.f1
    score = rate(texts or [""], told) if item.labelled else None
    return Prediction(
        id=item.id, gold=texts if item.labelled else None, predicted=told, score=score, probabilities=best, null_odds=found.null_odds
    )


def _window(made: Made, logits: np.ndarray, joining: Joining) -> Window:
    """Lay the logits of the places that were asked at their tokens; elsewhere no answer starts or ends."""
    assert made.spans is not None
    size = len(made.spans)
    laid = np.full((size, 2), -np.inf)
    laid[np.flatnonzero(made.example["pick"] != 255)] = logits
    return Window(laid[:, 0], laid[:, 1], made.spans, joining.place(size))


def _is_chinese(text: str) -> bool:
    return sum("\u4e00" <= letter <= "\u9fff" for letter in text) * 5 > len(text)


def _right(gold: Any, told: Any) -> float | None:
    return None if gold is None else float(gold == told)


RIGHT: Final = "1"

KINDS: Final[dict[str, Kind]] = {
    "classify_text": Kind(("accuracy", "macro_f1"), _class, lambda item: item.label),
    "regress_text": Kind(("pearson", "spearman"), _value, lambda item: item.label),
    "tag_words": Kind(("entities",), _tags, lambda item: item.tags),
    "answer_span": Kind(("squad",), _answer, lambda item: [answer.text for answer in item.answers] if item.labelled else None),
    "choose": Kind(("accuracy",), _choice, lambda item: item.label),
}


def told_to(metric: str, items: Sequence[Any], gold: Sequence[Any], predictions: Sequence[Prediction]) -> tuple[list[Any], list[Any]]:
    """Return what is right and what was predicted as a metric takes them."""
    if metric == "squad2":
        return list(gold), [(_first_text(one), one.null_odds) for one in predictions]
    if metric == "mrr":  # Candidates of the question that is their first text; the class 1 is right.
        return [(item.first, label == RIGHT) for item, label in zip(items, gold, strict=True)], [
            one.probabilities[RIGHT] for one in predictions
        ]
    return list(gold), [one.predicted for one in predictions]


def _first_text(prediction: Prediction) -> str:
    return next((one["text"] for one in prediction.probabilities if one["text"]), "")


def labelled(items: Sequence[Item], kind: Kind) -> list[int]:
    """Return the places of items of which it is known what is right."""
    return [number for number, item in enumerate(items) if kind.gold(item) is not None]
