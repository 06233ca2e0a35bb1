"""How long a run needs from being asked to stop until its checkpoint is there: what it took so far, doubled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from ptm_dist.events import read_events
from ptm_dist.run import RunFolder

MARGIN_SECONDS: Final = 30
"""For processes to notice and to end."""
RECENT: Final = 500
"""Steps that are looked at."""


def grace_seconds(run: str, default: int) -> int:
    """Return the seconds that a stopping run is given, or `default` where nothing has been measured or the run cannot be seen from here."""
    path = RunFolder(Path(run)).events_path
    if "://" in run or not path.exists():
        return default
    events = list(read_events(path))
    step, save, evaluation = (_longest(events, name) for name in ("step", "checkpoint_saved", "evaluation_finished"))
    if not step or not save:
        return default
    return MARGIN_SECONDS + math.ceil(2 * (step + save + evaluation))


def _longest(events: list[dict[str, Any]], name: str) -> float:
    seconds = [event["seconds"] for event in events if event["event"] == name and "seconds" in event]
    return max(seconds[-RECENT:], default=0.0)
