"""From sources to clean text, tokenizer and shards: pure functions and settings. Adding a source or a tokenizer is a line here."""

from typing import Final

from ptm_dist.corpus.existing import Existing
from ptm_dist.corpus.read import InstalledDocs, TextSource
from ptm_dist.corpus.tokenizer import ByteBPE
from ptm_dist.corpus.wordpiece import WordPiece

SOURCES: Final = {"text": TextSource, "installed_docs": InstalledDocs}
TOKENIZERS: Final = {"byte_bpe": ByteBPE, "existing": Existing, "wordpiece": WordPiece}
