"""Prepared data once a session, and run directories over them."""

import pytest

from ptm_dist.driver.prepare import prepare
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe


@pytest.fixture(scope="session")
def tiny_data(ray_head, tmp_path_factory):
    prepared = prepare(tiny_recipe(), tmp_path_factory.mktemp("cache"), lambda *_: None)
    return DataFolders(prepared.tokenizer, prepared.datasets)


@pytest.fixture
def make_run(tmp_path, tiny_data):
    """Make a run directory with its data in place, and the recipe file that it belongs to."""

    def make(name="run", **changes):
        recipe = tiny_recipe(**changes)
        run = RunFolder(tmp_path / name)
        run.claim(recipe)
        run.set_data(tiny_data)
        (tmp_path / f"{name}.yaml").write_text(dump_recipe(recipe))
        return run, tmp_path / f"{name}.yaml"

    return make
