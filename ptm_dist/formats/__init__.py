"""Formats: how documents become training examples, offline. Adding one is a file and a line here."""

from typing import Final

from ptm_dist.formats.document_pair import DocumentPair
from ptm_dist.formats.full_sentences import FullSentences

FORMATS: Final = {"document_pair": DocumentPair, "full_sentences": FullSentences}
