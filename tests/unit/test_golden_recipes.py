"""Resolved recipes are golden: what a change of an ancestor or of a default does to the others is seen. PTM_GOLDEN=write takes it."""

import pytest

from ptm_dist.recipe_io import dump_recipe
from tests.systems.ride import GOLDEN, SYSTEMS


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_resolved_recipe_is_what_it_was(name):
    found = dump_recipe(SYSTEMS[name].load())
    assert found == GOLDEN.recipe(name, found)
