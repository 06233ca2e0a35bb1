"""Which words of held-out text are hidden, and how the characters of one are guessed."""

import numpy as np
import pytest
import torch

from ptm_dist.data.marks import PHRASE, WORD
from ptm_dist.inference import guess_together
from ptm_dist.report import _chinese_words, _text_of, _words


class Spelled:
    """A tokenizer whose ids are places in a list, and whose decoder puts spaces between tokens as BERT's does."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.vocabulary = type("Vocabulary", (), {"special_ids": [n for n, token in enumerate(tokens) if token.startswith("[")]})

    def decode(self, ids):
        return " ".join(self.tokens[number] for number in ids).replace(" ##", "")


def row(text):
    tokens = text.split()
    return Spelled(tokens), np.arange(len(tokens))


def spelled(tokenizer, words):
    return [tokenizer.decode(list(word)).replace(" ", "") for word in words]


def test_a_chinese_word_is_two_characters_that_go_together():
    tokenizer, tokens = row("[CLS] 我 在 北 京 大 学 读 历 史 书 ， abc def ， 昨 天 晚 上 [SEP]")
    marks = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0], dtype=np.uint8) * (WORD | PHRASE)
    assert spelled(tokenizer, _chinese_words(tokenizer, tokens, marks)) == ["历史", "昨天"], "晚上 is too near the end, 北京大学 is longer"


def test_where_no_words_are_known_single_characters_are_hidden():
    tokenizer, tokens = row("[CLS] 我 在 北 ， x 京 [SEP] 读 书")
    assert spelled(tokenizer, _chinese_words(tokenizer, tokens, np.full(len(tokens), PHRASE))) == ["在", "北", "京"]


def test_english_has_no_chinese_words():
    tokenizer, tokens = row("[CLS] give them some bread ##s and water today please [SEP]")
    assert _chinese_words(tokenizer, tokens, np.zeros(len(tokens), dtype=np.uint8)) == []
    assert spelled(tokenizer, _words(tokenizer, tokens)) == ["them", "some", "water", "today"]


class Follows(torch.nn.Module):
    """A model of five tokens: the first place is 1, 2 or 3 with odds 5, 4, 1; what follows 1 is anything, what follows 2 is 4."""

    tokenizer = Spelled(["[MASK]", "北", "南", "东", "方"])

    def states(self, ids):
        return torch.tensor(ids)

    def head(self, kind):
        assert kind == "masked_lm"
        after = {0: [5, 5, 4, 1, 0], 1: [5, 1, 1, 1, 1], 2: [5, 0, 0, 0, 9], 3: [5, 1, 0, 0, 0]}
        return lambda states, places: (
            torch.tensor([after[int(states[0, place - 1]) if place else 0] for place in places.tolist()]).float().log()
        )


def test_characters_are_guessed_each_given_those_before_it():
    found = guess_together(Follows(), [0, 0], [0, 1], 3)
    shares = [4 / 10 * 9 / 9, 5 / 10 * 1 / 4, 5 / 10 * 1 / 4]
    assert found[0][0] == "南方"
    assert all(word.startswith("北") for word, _ in found[1:])
    assert [share for _, share in found] == pytest.approx(shares)
    ((alone, share), *_) = guess_together(Follows(), [0, 0], [0], 3)
    assert (alone, share) == ("北", pytest.approx(5 / 10))


def test_chinese_is_shown_without_the_spaces_of_the_decoder():
    tokenizer, tokens = row("[CLS] 用 github 的 人 ， 2 个 [SEP] “ 是 ”")
    assert _text_of(tokenizer, tokens) == "用 github 的人， 2 个 “ 是 ”"
