"""Clients of clusters: kubectl, sbatch and their like, called with lists of arguments, their failures told in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from ptm_dist.errors import ConfigError

LONGEST_SECONDS: Final = 120.0
"""How long a client may take to answer."""

_LOG_LINE: Final = re.compile(r"[EWIF]\d{4} ")
"""What kubectl logs beside what it has to say."""


def call(words: Sequence[str], given: str = "") -> str:
    """Run a client with `given` on its standard input and return what it printed.

    Raises:
        ConfigError: it is not installed, or it failed.

    """
    client = words[0]
    told_as = " ".join([client, *[word for word in words[1:] if not word.startswith("-")][:2]])
    if shutil.which(client) is None:
        raise ConfigError(f"{client} is not installed here, or not on PATH. Submit from a machine that has it.")
    try:
        done = subprocess.run(list(words), input=given, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{told_as}: no answer for {LONGEST_SECONDS:.0f} s. Is the cluster reachable from here?") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if not _LOG_LINE.match(line)]
        told = " ".join(" ".join(lines).split()) or f"exit {done.returncode}"
        raise ConfigError(f"{told_as}: {told}")
    return done.stdout


def answer(words: Sequence[str], given: str = "") -> tuple[bool, str]:
    """Run a client and return whether it succeeded, and what it printed or why not."""
    try:
        return True, call(words, given).strip()
    except ConfigError as error:
        return False, str(error)
