import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptm_dist.corpus.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones at 3.5 p.m. on Monday. They spoke.", ["Dr. Smith met Mrs. Jones at 3.5 p.m. on Monday.", "They spoke."]),
        ('"Stop!" he said. "Go." Then he left.', ['"Stop!" he said.', '"Go."', "Then he left."]),
        ("See Fig. 3 and J. R. R. Tolkien, e.g. The Hobbit.", ["See Fig. 3 and J. R. R. Tolkien, e.g. The Hobbit."]),
        ("It was in 1998. Then came 1999.", ["It was in 1998.", "Then came 1999."]),
        ("1. Open the door. Go in.", ["1. Open the door.", "Go in."]),
        ("A line that is\nwrapped. Another\none.\n\nA title\n\nText.", ["A line that is wrapped.", "Another one.", "A title", "Text."]),
        ("Things:\n- one\n- two", ["Things:", "- one", "- two"]),
        ("Title\n" + "long " * 30 + "\nNext", ["Title", ("long " * 30).strip(), "Next"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_rules(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他来了。我走了！你呢？", ["他来了。", "我走了！", "你呢？"]),
        ("「你好嗎？」她說：『是。』然後走了。", ["「你好嗎？」", "她說：『是。』", "然後走了。"]),
        ("（他走了。）【好！】“对？！”是……不是", ["（他走了。）", "【好！】", "“对？！”", "是……", "不是"]),
        ("春天来了；花开了。", ["春天来了；", "花开了。"]),
        ("他喊：“好！”，走了。等等……，再说：对", ["他喊：“好！”，走了。", "等等……，再说：对"]),
        ("《出发！》是电影，他（？）没看。", ["《出发！》是电影，他（？）没看。"]),
        ('他说"走吧。"然后说："好。""不！"', ['他说"走吧。"', '然后说："好。"', '"不！"']),
        ("你好!我很好?是的;真的...再见", ["你好!", "我很好?", "是的;", "真的...", "再见"]),
        ("见http://a.cn/搜索?q=1的第3.5节。", ["见http://a.cn/搜索?q=1的第3.5节。"]),
        ("用Python。The end. 然后 use it. 完", ["用Python。", "The end.", "然后 use it.", "完"]),
        ("他走了。 我来了。", ["他走了。", "我来了。"]),
    ],
)
def test_chinese(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "这是一行没有空格的中文，它在这里\n断开了，下面接着写下去，没有\n空格。完",
            ["这是一行没有空格的中文，它在这里断开了，下面接着写下去，没有空格。", "完"],
        ),
        (
            "我们在这里用的工具叫做 Linux\n系统，它是一个自由的系统，大家\nall 都喜欢。",
            ["我们在这里用的工具叫做 Linux 系统，它是一个自由的系统，大家 all 都喜欢。"],
        ),
        ("标题\n正文的第一行比标题长得多，所以标题不是一行的开头", ["标题", "正文的第一行比标题长得多，所以标题不是一行的开头"]),
        (
            "第一章 总则\n第一条 为了\n一、甲乙\n（二）丙丁\n　　新的一段",
            ["第一章 总则", "第一条 为了", "一、甲乙", "（二）丙丁", "新的一段"],
        ),
        ("长" * 51 + "\n短", ["长" * 51, "短"]),
    ],
)
def test_lines_of_chinese(text, expected):
    assert sentences(text) == expected


@given(st.text(alphabet="中文字，。！？；」”）", max_size=40))
@example("。”。")
def test_chinese_ends_where_a_run_of_marks_and_what_closes_after_it_do(text):
    """The rule once more, a character at a time."""
    expected, sentence = [], ""
    for at, letter in enumerate(text):
        sentence += letter
        run = re.search("[。！？；]+[」”）]*$", text[: at + 1])
        after = text[at + 1 : at + 2]
        closed = run and run[0][-1] in "」”）"
        if run and after != "，" and not (after and after in "」”）") and (closed or not (after and after in "。！？；")):
            expected.append(sentence)
            sentence = ""
    assert sentences(text) == [*expected, *([sentence] if sentence else [])]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "Mr. A " * 150_000,
        "a" * 1_000_000 + "( x. Y",
        "." * 1_000_000,
        "中!" * 200_000,
        '好。"，' * 200_000,
        "中" * 1_000_000 + ". A",
        "《好。" * 200_000,
    ],
    ids=["abbreviations", "one_word", "dots", "ends", "straight_quotes", "no_spaces", "titles"],
)
def test_time_grows_with_the_length_of_a_line_only(text):
    """A megabyte in a line takes a second; what grows with its square would take an hour."""
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.text(alphabet=st.sampled_from("aB1.!?\"') \n-…\u00e9\u2028中文，。；？」”（）《\u3000"), max_size=200))
def test_no_character_is_lost(text):
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in found)
