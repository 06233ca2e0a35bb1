"""What a character or a token has to do with the one before it: the bits of `marks`, uint8."""

from __future__ import annotations

from typing import Final

WORD: Final = 1
"""It goes on with the word before it."""
PHRASE: Final = 2
"""It goes on with the phrase."""
ENTITY: Final = 4
"""It goes on with the person, place or organisation."""
CAPITAL: Final = 8
"""It stands in a word that begins with a capital letter in the text as it was written."""
