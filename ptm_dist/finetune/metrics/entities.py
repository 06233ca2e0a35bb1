"""Metrics of entities: which stretches of words were found, with their type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ptm_dist.errors import DataIntegrityError
from ptm_dist.finetune.tags import read_entities


def entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 of entities, of all and of each type (`f1/PER`); gold and predicted hold a BIO tag a word.

    An entity is right when its first word, its last and its type are. Where there is none to divide by, a figure is 0.

    Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), and conlleval.

    Raises:
        DataIntegrityError: a tag is not in the BIO scheme, or an item has not as many tags as are right.

    """
    right, told, both = Counter[str](), Counter[str](), Counter[str]()
    for number, (here, there) in enumerate(zip(gold, predicted, strict=True)):
        if len(here) != len(there):
            raise DataIntegrityError(f"metric entities: item {number} has {len(here)} tags, {len(there)} predicted. Predict every word.")
        expected, found = set(read_entities(here)), set(read_entities(there))
        right.update(entity.type for entity in expected)
        told.update(entity.type for entity in found)
        both.update(entity.type for entity in expected & found)
    figures = _figures("", both.total(), told.total(), right.total())
    for name in sorted({*right, *told}):
        figures |= _figures(f"/{name}", both[name], told[name], right[name])
    return figures


def _figures(suffix: str, both: int, told: int, right: int) -> dict[str, float]:
    shares = {"precision": (both, told), "recall": (both, right), "f1": (2 * both, told + right)}
    return {name + suffix: 100.0 * part / whole if whole else 0.0 for name, (part, whole) in shares.items()}
