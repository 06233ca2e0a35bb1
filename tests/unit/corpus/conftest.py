"""Lines and vocabularies that tests of tokenizers share."""

from functools import cache

import pytest

from ptm_dist.corpus.existing import open_tokenizer
from tests.real_text import mixed_lines
from tests.unit.corpus import original_vocabularies as original


@pytest.fixture(scope="session")
def every_line():
    return mixed_lines()


@pytest.fixture(scope="session", params=["some", pytest.param("all", marks=pytest.mark.slow)])
def lines(request, every_line):
    """The slow tests take all lines, the others every twentieth and some of the hard ones."""
    return every_line if request.param == "all" else every_line[:9500:20] + every_line[9500:9650]


@pytest.fixture(scope="session")
def original_folder(tmp_path_factory):
    """Return a function from a name to a folder with the original vocabulary."""
    path = tmp_path_factory.mktemp("originals")

    @cache
    def folder(name):
        if name in original.BERTS:
            return original.write_bert(path / name, name)
        return original.write_bpe(path / name, *(original.original_roberta() if name == "roberta" else original.original_gpt2()))

    return folder


@pytest.fixture(scope="session")
def with_original(original_folder):
    """Return a function from a name to ours with the original vocabulary."""
    return cache(lambda name: open_tokenizer(original_folder(name)))
