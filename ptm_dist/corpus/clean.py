"""Cleaning: a document comes back normalised, or a reason comes back why it is dropped. Whoever calls counts."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.document import Document

# Everything that Unicode calls a control character except tab and newline, and the byte order mark in its second role.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_LINE_ENDS: Final = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class CleanSettings(BaseModel):
    """What a text must look like to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    normalise: Literal["NFC", "NFKC", "none"] = "NFC"
    """The Unicode normal form; NFKC also folds full-width letters and ligatures."""
    least_characters: Annotated[int, Field(ge=1)] = 1
    """Texts with fewer characters, after cleaning, are dropped as too_short."""
    most_replacement: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Texts with a larger share of U+FFFD, the trace of a broken conversion, are dropped as replacement_characters."""


def clean(document: Document, settings: CleanSettings) -> Document | str:
    """Return the document normalised and without control characters, or the reason to drop it.

    Reasons: empty, too_short, surrogates (half of a character, from a bad JSON escape), replacement_characters.
    """
    if _SURROGATES.search(document.text) or _SURROGATES.search(document.id):
        return "surrogates"
    text = _normalised(document.text, settings)
    if not text:
        return "empty"
    if len(text) < settings.least_characters:
        return "too_short"
    if text.count("\ufffd") > settings.most_replacement * len(text):
        return "replacement_characters"
    return Document(document.id, text, {name: _normalised(value, settings) for name, value in document.meta.items()})


def _normalised(text: str, settings: CleanSettings) -> str:
    text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
    if settings.normalise != "none" and not text.isascii():
        text = unicodedata.normalize(settings.normalise, text)
    return text.strip()
