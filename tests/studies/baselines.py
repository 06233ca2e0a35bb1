"""What needs no pretraining: TF-IDF and a linear model on the same labelled items, measured by the same metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ptm_dist.corpus.sentences import sentences
from ptm_dist.data.item import QuestionItem, TaggedItem, TextItem
from ptm_dist.finetune.metrics import score


def baseline(source: Any, split: str, figure: str) -> float:
    """Return the figure that a simple model reaches on a split of a labelled source.

    Texts: logistic regression over words and pairs of words, in Chinese characters. Tags: the same over a word, its neighbours and its
    first and last characters. Answers: the sentence of the context that is nearest to the question.
    """
    train, held_out = (source.items(name)[0] for name in ("train", split))
    return _OF[type(train[0])](train, held_out)[figure]


def _texts(train: Sequence[TextItem], held_out: Sequence[TextItem]) -> dict[str, float]:
    model = make_pipeline(TfidfVectorizer(analyzer=cast(Any, _pairs), sublinear_tf=True), LogisticRegression(C=10, max_iter=3000))
    model.fit(train, [item.label for item in train])
    return score("accuracy", [item.label for item in held_out], list(model.predict(held_out)))


def _pairs(item: TextItem) -> list[str]:
    words = _words(item.first)
    return words + [f"{one} {other}" for one, other in pairwise(words)]


def _words(text: str) -> list[str]:
    """Return words; where there are hardly any spaces, characters."""
    words = text.lower().split()
    return words if len(words) > len(text) / 10 else [one for one in text if not one.isspace()]


def _tags(train: Sequence[TaggedItem], held_out: Sequence[TaggedItem]) -> dict[str, float]:
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=1, max_iter=300))
    model.fit([around for item in train for around in _around(item)], [tag for item in train for tag in item.tags or ()])
    told = [list(model.predict(list(_around(item)))) for item in held_out]
    return score("entities", [list(item.tags or ()) for item in held_out], told)


def _around(item: TaggedItem) -> Iterable[dict[str, str]]:
    words = ("", "", *item.words, "", "")
    for at in range(2, len(words) - 2):
        word = words[at]
        near = {f"at {place}": words[at + place].lower() for place in range(-2, 3)}
        shape = {"begins": word[:3], "ends": word[-3:], "upper": str(word[:1].isupper())}
        yield near | shape | {"after": f"{words[at - 1]} {word}", "before": f"{word} {words[at + 1]}"}


def _answers(_: Sequence[QuestionItem], held_out: Sequence[QuestionItem]) -> dict[str, float]:
    told = [_nearest(item) for item in held_out]
    return score("cmrc", [[answer.text for answer in item.answers] for item in held_out], told)


def _nearest(item: QuestionItem) -> str:
    parts = sentences(item.context)
    rows = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True).fit_transform([*parts, item.question])
    return parts[int(np.asarray((rows[:-1] @ rows[-1].T).todense()).argmax())]


_OF: dict[type, Any] = {TextItem: _texts, TaggedItem: _tags, QuestionItem: _answers}
