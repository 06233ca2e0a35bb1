"""Tokenized documents for tests of formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ptm_dist.data.document import TokenizedDocument, tokens
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats import Format


def document(name: str, sentences: Sequence[Sequence[int]], labels: Sequence[int] = ()) -> TokenizedDocument:
    """Return a document of these ids."""
    return TokenizedDocument(name, [tokens(sentence) for sentence in sentences], labels)


def rows_of(settings: Format, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary) -> list[Example]:
    """Return the rows that a format makes."""
    return list(settings.examples(iter(documents), vocabulary, Counter()))
