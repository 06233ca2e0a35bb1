"""Formats: how documents become training examples, offline. Adding one is a file and a line here."""

from typing import Final

from ptm_dist.formats.base import Format
from ptm_dist.formats.choices import Choices
from ptm_dist.formats.contiguous import Contiguous
from ptm_dist.formats.dialogue import Dialogue
from ptm_dist.formats.discourse import Discourse
from ptm_dist.formats.full_sentences import DocSentences, FullSentences
from ptm_dist.formats.labelled_pair import LabelledPair
from ptm_dist.formats.memory_segments import MemorySegments
from ptm_dist.formats.questions import Questions
from ptm_dist.formats.relevance import Relevance
from ptm_dist.formats.reordered_sentences import ReorderedSentences
from ptm_dist.formats.segment_pair import SegmentPair
from ptm_dist.formats.sentence_distance import SentenceDistance
from ptm_dist.formats.sentence_pair import SentencePair
from ptm_dist.formats.tagged_words import TaggedWords
from ptm_dist.formats.texts import Texts
from ptm_dist.formats.token_labels import TokenLabels
from ptm_dist.formats.word_streams import WordStreams

FORMATS: Final[dict[str, type[Format]]] = {
    "choices": Choices,
    "contiguous": Contiguous,
    "dialogue": Dialogue,
    "discourse": Discourse,
    "doc_sentences": DocSentences,
    "full_sentences": FullSentences,
    "labelled_pair": LabelledPair,
    "memory_segments": MemorySegments,
    "questions": Questions,
    "relevance": Relevance,
    "reordered_sentences": ReorderedSentences,
    "segment_pair": SegmentPair,
    "sentence_distance": SentenceDistance,
    "sentence_pair": SentencePair,
    "tagged_words": TaggedWords,
    "texts": Texts,
    "token_labels": TokenLabels,
    "word_streams": WordStreams,
}
