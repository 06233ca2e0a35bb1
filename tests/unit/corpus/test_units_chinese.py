"""Words, phrases and entities of Chinese, beside jieba and beside people."""

import warnings
from functools import cache

import jieba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opencc import OpenCC

from ptm_dist.corpus.chinese import ChineseUnits, segmenter, simplified
from ptm_dist.corpus.segment import Jieba
from ptm_dist.data.marks import ENTITY, PHRASE, WORD
from tests.bench import chinese_units as bench
from tests.unit.corpus.test_units import units_by

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from jieba.posseg import POSTokenizer

TEXTS = [
    "使用语言模型来预测下一个词的概率。",
    "新华社记者兰红光摄于北京市海淀区，他在中央人民广播电台工作了二〇〇八年一整年。",
    "深度学习deep learning的模型有3.14亿参数，don't你觉得吗？",
]
COMMON = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面江泽民李王张华伟明红光北京山"
)


def units_of(text, bit, units=None):
    """Return the texts of the units at a level."""
    (marks,) = (units or ChineseUnits()).marks([text])
    return [text[start:end] for start, end in units_by(marks, bit)]


@cache
def theirs():
    """Return jieba as it comes, and its tagger."""
    jieba.setLogLevel(60)
    tokenizer = jieba.Tokenizer()
    return tokenizer, POSTokenizer(tokenizer)


@cache
def ours():
    return Jieba([])


def check_against_jieba(text):
    tokenizer, tagger = theirs()
    pieces = list(ours().pieces(text, 0))
    assert [length for piece in pieces for length in ours().words(piece)] == [len(word) for word in tokenizer.cut(text)]
    assert [word for piece in pieces for word in ours().tagged(piece)] == [(len(found.word), found.flag) for found in tagger.cut(text)]


@given(st.text(alphabet=COMMON, max_size=25))
@settings(max_examples=150)
def test_words_and_tags_are_those_of_jieba(text):
    check_against_jieba(text)


def test_words_and_tags_are_those_of_jieba_on_news():
    for text, _ in bench.daily(200):
        for run in "".join(letter if "\u4e00" <= letter <= "\u9fd5" else " " for letter in text).split():
            check_against_jieba(run)


def test_words():
    assert units_of(TEXTS[0], WORD) == ["使用", "语言", "模型", "来", "预测", "下", "一个", "词", "的", "概率", "。"]
    assert units_of(TEXTS[0], PHRASE) == units_of(TEXTS[0], WORD)
    assert "二〇〇八年" in units_of(TEXTS[1], WORD)
    assert [unit for unit in units_of(TEXTS[2], WORD) if unit.strip().isascii() and unit.strip()] == [
        "deep",
        "learning",
        "3",
        ".",
        "14",
        "don't",
    ]
    assert units_of("㐀𠀀中", WORD) == ["㐀", "𠀀", "中"]


def test_both_scripts_have_the_same_words():
    for text in TEXTS:
        other = OpenCC("s2t").convert(text)
        assert other != text
        for units in (ChineseUnits(), ChineseUnits(entities=False)):
            assert (units.marks([other])[0] == units.marks([text])[0]).all()


def test_a_character_becomes_one_character_and_simplified_text_stays():
    assert all(len(plain) == 1 for plain in simplified().values())
    assert "語言模型預測".translate(simplified()) == "语言模型预测"
    changed = [text for text in TEXTS if text.replace("〇", "零") != text.translate(simplified())]
    assert not changed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("比尔·盖茨和奥普拉·温弗瑞来了", ["比尔·盖茨", "奥普拉·温弗瑞"]),
        ("他在浙商银行开户", ["浙商银行"]),
        ("北京市海淀区公安局很远", ["北京市海淀区公安局"]),
        ("北京 公司、苹果 · 香蕉", []),
        ("江泽民会来", []),
    ],
)
def test_names_put_together(text, expected):
    words = units_of(text, WORD)
    assert [unit for unit in units_of(text, ENTITY) if unit not in words] == expected
    assert units_of(text, PHRASE) == words
    assert units_of(text, ENTITY, ChineseUnits(entities=False)) == words


def test_dictionaries(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("飛槳平臺\n浙商银行\tORG\n预测下一个\tphrase\nDeep Learning\t\n北京 大学\tns\n", encoding="utf8")
    units = ChineseUnits(entities=False, dictionaries=(str(path),))
    text = "飞桨平台用deep learning预测下一个词，浙商银行在北京 大学"
    assert units_of("飞桨平台", WORD) != ["飞桨平台"]
    assert units_of(text, WORD, units) == [
        *("飞桨平台", "用", "deep", " ", "learning", "预测", "下", "一个", "词", "，", "浙商银行", "在", "北京", " ", "大学")
    ]
    phrases = ["飞桨平台", "用", "deep learning", "预测下一个", "词", "，", "浙商银行", "在", "北京 大学"]
    assert units_of(text, PHRASE, units) == phrases
    assert units_of(text, ENTITY, units) == phrases
    assert units_of("預測下一個", PHRASE, units) == ["預測下一個"]


def test_the_jieba_of_other_people_stays_as_it_was(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("预测下一个词\n", encoding="utf8")
    assert units_of("预测下一个词", WORD, ChineseUnits(dictionaries=(str(path),))) == ["预测下一个词"]
    assert units_of("预测下一个词", WORD) == ["预测", "下", "一个", "词"]
    assert "预测下一个词" not in jieba.dt.FREQ


def test_agreement_with_the_peoples_daily():
    """Bounds lie below what docs/units.md tells of all the text."""
    found = bench.agreement(step=60)
    assert found["words"][2] > 0.81
    assert found["persons"][2] > 0.55
    assert found["places"][2] > 0.6
    assert found["organisations"][1] > 0.65


def test_names_put_together_agree_with_cluener():
    found = bench.exact(step=20)
    words, entities, _ = zip(*found.values(), strict=True)
    assert sum(entities) > sum(words) + 6 * 0.03
    count, right, inside = bench.put_together(step=20)
    assert count > 30
    assert right > 0.5
    assert inside > 0.75


def test_traditional_words_come_out_as_they_do_in_simplified_text():
    """The same paragraphs of news, in the Traditional script of Taiwan."""
    to_traditional = OpenCC("s2tw").convert
    same = count = 0
    for text, _ in bench.daily(150):
        words, others = set(segmenter(()).words(text)), set(segmenter(()).words(to_traditional(text)))
        same += 2 * len(words & others)
        count += len(words) + len(others)
    assert same / count > 0.99
