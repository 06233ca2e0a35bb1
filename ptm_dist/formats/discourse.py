"""ERNIE 2.0's discourse relation: two sentences, and which connective stood between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, classifier_row, truncated

ENGLISH: Final[dict[str, str]] = {
    "addition": "additionally, also, and, besides, further, furthermore, in addition, moreover, on top of that, plus, what's more",
    "alternative": "alternatively, if not, or, or else, otherwise",
    "concession": "admittedly, all the same, and yet, despite this, even so, nevertheless, nonetheless, still, that said, yet",
    "contrast": "but, by contrast, conversely, however, in contrast, instead, on the contrary, on the other hand, rather",
    "emphasis": "above all, actually, certainly, clearly, in fact, indeed, in reality, obviously, of course, to be sure, undoubtedly",
    "example": "for example, for instance, in particular, namely, notably, specifically",
    "order": "final, finally, first, first of all, firstly, last, lastly, next, second, secondly, third, thirdly, to begin with",
    "precedence": "before that, earlier, formerly, in the past, originally, previously, until then",
    "restatement": "in other words, put differently, put simply, that is, that is to say",
    "result": "accordingly, as a consequence, as a result, consequently, for this reason, hence, so, therefore, thus, to that end",
    "similarity": "by the same token, equally, in the same way, likewise, similarly",
    "simultaneity": "at the same time, in the mean time, in the meantime, meantime, meanwhile, simultaneously",
    "succession": "after that, afterwards, and then, eventually, later, soon, subsequently, then, thereafter, ultimately",
    "summary": "all in all, altogether, in a word, in brief, in conclusion, in short, in sum, in summary, on the whole, overall, to sum up",
}
CHINESE: Final[dict[str, str]] = {
    "addition": "此外, 另外, 而且, 并且, 再者, 还有, 除此之外, 不仅如此",
    "alternative": "否则, 不然, 要不然, 要不, 或者, 或者说",
    "concession": "尽管如此, 即便如此, 即使如此, 虽然如此, 话虽如此, 虽说如此",
    "contrast": "但是, 但, 然而, 不过, 可是, 只是, 只不过, 相反, 反之, 恰恰相反, 与此相反, 相比之下, 另一方面",
    "emphasis": "事实上, 其实, 实际上, 当然, 的确, 确实, 显然, 很显然, 毫无疑问",
    "example": "例如, 比如, 比如说, 譬如, 譬如说, 举例来说, 具体来说",
    "order": "首先, 其次, 再次, 最后, 第一, 第二, 第三, 第四, 第五",
    "precedence": "此前, 在此之前, 先前, 之前, 原先, 起初",
    "restatement": "也就是说, 换句话说, 换言之, 即",
    "result": "因此, 所以, 所以说, 于是, 因而, 为此, 由此, 由此可见, 可见, 结果, 这样一来, 正因如此, 正因为如此",
    "similarity": "同样, 同样地, 同理, 类似地, 无独有偶",
    "simultaneity": "同时, 与此同时, 此时, 这时, 这时候, 此刻",
    "succession": "随后, 后来, 之后, 此后, 其后, 然后, 接着, 紧接着, 随即, 接下来, 最终",
    "summary": "总之, 总而言之, 总的来说, 综上, 综上所述, 简而言之, 一句话",
}
"""Words that join a sentence to the one before it. Those that join two clauses of one sentence, such as "although", are none."""


class Discourse(Format):
    """[CLS] A [SEP] B [SEP]: two sentences that follow one another, B without the connective that it began with.

    The label is the group of the connective: its place among the names of the groups in alphabetical order, whatever order they are given
    in. Every sentence with a connective makes a row with the one before it, itself without its connective if it had one, so a sentence may
    stand in two rows; labels are as frequent as connectives are. Nothing is drawn.

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.3; Sileo et al. 2019 (Discovery) for pairs from adjacent sentences. Deviations:
    Discovery's label is the connective itself, 174 of them with as many pairs each; here it is a group of those that say the same, by
    default 14 relations, with words in English and Chinese.
    """

    kind: Literal["discourse"] = "discourse"
    length: Length
    """Most tokens of a row, [CLS] and both [SEP] included; longer pairs lose tokens at the end of the longer sentence."""
    connectives: Annotated[dict[str, tuple[str, ...]], Field(min_length=2, description="the words of each group, by its name")] = {
        group: tuple(f"{words}, {CHINESE[group]}".split(", ")) for group, words in ENGLISH.items()
    }

    def __hash__(self) -> int:
        return hash((self.kind, self.length, *sorted(self.connectives.items())))

    @model_validator(mode="after")
    def _words_are_clear(self) -> Self:
        counts = Counter(word.lower() for word in chain.from_iterable(self.connectives.values()))
        twice = sorted(word for word, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"connectives: {twice[0]!r} is listed twice; a connective has one place in one group")
        bad = sorted(group for group, words in self.connectives.items() if not words or not all(word.strip() for word in words))
        if bad:
            raise ValueError(f"connectives.{bad[0]}: a group needs words, none of them empty")
        return self

    @property
    def classes(self) -> int:
        """The groups."""
        return len(self.connectives)

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return sorted(self.connectives)[label]

    @property
    def cut(self) -> Cut:
        """Sentences without the connectives they begin with."""
        return Cut("connectives", tuple(self.connectives[group] for group in sorted(self.connectives)))

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without one are counted as empty, one_sentence or no_connective."""
        for document in documents:
            pieces = list(zip(document.sentences, document.labels, strict=True))
            pairs = [([one, two], label - 1) for (one, _), (two, label) in pairwise(pieces) if label and len(one) and len(two)]
            for pair, label in pairs:
                yield classifier_row(truncated(pair, self.length - 3), vocabulary, label)
            if not pairs:
                count = sum(len(piece) > 0 for piece, _ in pieces)
                skipped["empty" if not count else "one_sentence" if count == 1 else "no_connective"] += 1
