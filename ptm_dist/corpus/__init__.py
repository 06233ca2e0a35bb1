"""From sources to clean text, tokenizer and shards: pure functions and settings. Adding a source, a tokenizer or units is a line here."""

from typing import Final

from ptm_dist.corpus.chinese import ChineseUnits
from ptm_dist.corpus.english import EnglishUnits
from ptm_dist.corpus.existing import Existing
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.labelled import Labelled
from ptm_dist.corpus.packaged import PackagedText
from ptm_dist.corpus.read import InstalledDocs, TextSource
from ptm_dist.corpus.tokenizer import ByteBPE
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.corpus.word_list import WordList
from ptm_dist.corpus.wordpiece import WordPiece

SOURCES: Final = {"text": TextSource, "installed_docs": InstalledDocs, "package": PackagedText, "labelled": Labelled}
TOKENIZERS: Final = {
    "byte_bpe": ByteBPE,
    "existing": Existing,
    "gpt_bpe": GptBPE,
    "unigram": Unigram,
    "wordpiece": WordPiece,
    "words": WordList,
}
UNITS: Final = {"chinese": ChineseUnits, "english": EnglishUnits}
