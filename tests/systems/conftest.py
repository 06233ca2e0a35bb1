"""Stories in two languages, and where what is made of them is kept."""

import pytest

from tests.systems.ride import over_texts
from tests.systems.stories import write_stories

STORIES = 60


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return {
        language: over_texts(folder / f"{language}.yaml", language, write_stories(folder / f"{language}.jsonl", language, STORIES))
        for language in ("en", "zh")
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")
