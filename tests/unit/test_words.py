"""Recipes as they are typed on the command line."""

from pathlib import Path

from ptm_dist.cli.words import recipe_of
from ptm_dist.recipe_io import dump_recipe
from tests.tiny import tiny_recipe


def test_paths_mean_the_same_wherever_workers_run(tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(tiny_recipe()))
    monkeypatch.chdir(tmp_path)
    typed = ("init=models/bert", "tokenizer={kind: existing, folder: models/bert}", "corpus.units={kind: english, dictionaries: [a.tsv]}")
    recipe = recipe_of(["recipe.yaml", *typed])
    assert recipe.init == recipe.tokenizer.folder == str(Path.cwd() / "models" / "bert")
    assert recipe.corpus.units.dictionaries == (str(Path.cwd() / "a.tsv"),)
    assert recipe_of(["recipe.yaml"]) == tiny_recipe()
