"""Which split an item falls into, and which items are the first: hashes of ids and groups decide, so no machine and no order does."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence

from ptm_dist.corpus.split import Split, split_key
from ptm_dist.data.item import Item


def group_of(item: Item, together: str) -> str:
    """Return what an item is split by: its id, the part of it before the last - or #, or one of its fields, where that is filled."""
    if together == "id_prefix":
        return re.sub(r"[-#][^-#]*$", "", item.id)
    return getattr(item, together) or item.id


def split_of_group(group: str, validation: float, test: float) -> Split:
    """Return the split of a group, if these shares of all groups are held out; another test share never moves a validation group."""
    place = (split_key("labelled", group) >> 11) * 2.0**-53
    if place < validation:
        return "validation"
    return "test" if place < validation + test else "train"


def first_items(items: Sequence[Item], most: int | None) -> list[Item]:
    """Return at most so many items in their order: those with the lowest hashes. Fewer are always some of more."""
    if most is None or len(items) <= most:
        return list(items)
    chosen = heapq.nsmallest(most, range(len(items)), key=lambda number: (split_key("first", items[number].id), number))
    return [items[number] for number in sorted(chosen)]
