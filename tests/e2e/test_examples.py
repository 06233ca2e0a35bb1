"""Rows as training reads them, on the command line and in the docs."""

import re
from pathlib import Path

from tests.tiny import ptm

DOCS = Path(__file__).parents[2] / "docs"


def words_of(text):
    """Return the words of a text, however its lines are broken."""
    return text.split()


def test_the_page_shows_what_the_command_prints(tmp_path):
    (block,) = re.findall(
        r"`ptm show docs/examples/ernie1.yaml seed=2 --examples 2`\n\n```\n(.*?)```", (DOCS / "examples.md").read_text(), re.S
    )
    printed = ptm(
        *("show", DOCS / "examples" / "ernie1.yaml", "seed=2", f"sources.zh.paths=[{DOCS / 'examples' / 'zh.txt'}]"),
        *("--examples", "2", "--cache", tmp_path),
    )
    assert printed.returncode == 0, printed.stderr
    _, _, rows = printed.stdout.partition("segments have colours.")
    assert words_of(rows) == words_of(block)
