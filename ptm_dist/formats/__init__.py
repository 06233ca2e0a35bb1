"""Formats: how documents become training examples, offline. Adding one is a file and a line here."""

from typing import Final

from ptm_dist.formats.base import Format
from ptm_dist.formats.full_sentences import DocSentences, FullSentences
from ptm_dist.formats.segment_pair import SegmentPair

FORMATS: Final[dict[str, type[Format]]] = {
    "doc_sentences": DocSentences,
    "full_sentences": FullSentences,
    "segment_pair": SegmentPair,
}
