"""Readers made as a recipe makes them, over files that are written out in a test."""

from __future__ import annotations

import json

from ptm_dist.corpus.labelled import READERS, Labelled
from ptm_dist.data.item import Bad


def read(settings, data, name="file"):
    """Return what a reader makes of a file."""
    reader = READERS[settings["kind"]].model_validate_json(json.dumps(settings))
    return list(reader.read(name, data if isinstance(data, bytes) else data.encode()))


def only_items(settings, data, name="file"):
    """Return the items of a file that has nothing else."""
    found = read(settings, data, name)
    assert not [item for item in found if isinstance(item, Bad)]
    return found


def labelled(reader, **settings):
    """Return a source."""
    return Labelled.model_validate_json(json.dumps({"reader": reader} | settings))
