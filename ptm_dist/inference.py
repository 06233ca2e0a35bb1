"""A trained model put to use: filled masks, generated text, vectors. From a run, a checkpoint of it, or an exported folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from ptm_dist.corpus.existing import open_tokenizer
from ptm_dist.corpus.tokenizer import FolderTokenizer
from ptm_dist.data.batch import HeadKind, HeadSpec
from ptm_dist.data.characters import BEGIN, END, character_ids
from ptm_dist.errors import ConfigError
from ptm_dist.models.base import Backbone
from ptm_dist.models.elmo import ElmoBackbone
from ptm_dist.models.generate import Sampling, generate
from ptm_dist.train.weights import source_of

MASKS: Final = ("[MASK]", "<mask>")
"""How a mask may be written in a text, whatever the tokenizer calls it."""


class Model(nn.Module):
    """A backbone with the head of its language model, if it has one, and its tokenizer.

    Raises:
        ConfigError: weights of the backbone are missing.

    """

    def __init__(self, name: str, settings: Any, tokenizer: FolderTokenizer, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.name, self.settings, self.tokenizer = name, settings, tokenizer
        self.backbone: Backbone = settings.backbone(tokenizer.vocabulary)
        self.heads = nn.ModuleDict(_language_model(settings, self.backbone, tokenizer, weights))
        self._take(weights)
        self.eval()

    @torch.no_grad()
    def _take(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.named_parameters():
            if name not in weights:
                raise ConfigError(f"{self.name}: {name} is missing. Was it written by another version of ptm_dist?")
            parameter[: len(weights[name])].copy_(weights[name])

    def head(self, kind: HeadKind) -> nn.Module:
        """Return the head of a language model.

        Raises:
            ConfigError: the model has none.

        """
        if kind not in self.heads:
            raise ConfigError(
                f"{self.name}: this model was not trained with {kind}; it has {', '.join(self.heads) or 'no language model'}."
            )
        return self.heads[kind]

    def states(self, ids: list[int]) -> Tensor:
        """Return the last states of one row, [tokens, H].

        Raises:
            ConfigError: the row is longer than the model allows.

        """
        if len(ids) > self.settings.longest:
            raise ConfigError(f"{self.name}: the text has {len(ids)} tokens, this model takes {self.settings.longest}. Cut it into pieces.")
        return self.backbone({"tokens": torch.tensor([ids])}, torch.tensor([len(ids)]))[0][0]


def _language_model(settings: Any, backbone: Backbone, tokenizer: FolderTokenizer, weights: dict[str, Tensor]) -> dict[str, nn.Module]:
    """Return the head that has all its weights; one that is tied altogether has none of its own."""
    shared = {id(parameter) for parameter in backbone.parameters()}
    for kind in (kind for kind in get_args(HeadKind) if kind.endswith("_lm")):
        with suppress(ConfigError):
            head = settings.head(HeadSpec(kind), backbone, tokenizer.vocabulary)
            own = [name for name, parameter in head.named_parameters() if id(parameter) not in shared]
            if all(f"heads.{kind}.{name}" in weights for name in own):
                return {kind: head}
    return {}


def open_model(path: str) -> Model:
    """Open what RUN, RUN@STEP, a Hugging Face folder or a portable folder holds, on the CPU.

    Raises:
        ConfigError: there is no model.

    """
    source = source_of(path)
    return Model(path, source.settings, open_tokenizer(Path(source.tokenizer)), source.weights())


Guesses: TypeAlias = tuple[tuple[str, float], ...]
"""What a model puts in place of a mask, with probabilities, best first."""


def fill_mask(model: Model, text: str, count: int = 5) -> list[Guesses]:
    """Return the likeliest tokens for each mask of a text, written [MASK] or <mask>.

    Raises:
        ConfigError: the text has no mask, or the model no masked-LM head.

    """
    model.head("masked_lm")
    vocabulary, parts = model.tokenizer.vocabulary, _split_at_masks(text)
    if len(parts) == 1 or vocabulary.mask is None:
        raise ConfigError(f"{text!r}: there is no mask to fill. Write [MASK] where a word is to be found.")
    ids = [vocabulary.begin, *model.tokenizer.encode([parts[0]])[0].tolist()]
    places = []
    for part in parts[1:]:
        places.append(len(ids))
        ids += [vocabulary.mask, *model.tokenizer.encode([part])[0].tolist()]
    return guess(model, [*ids, vocabulary.end], places, count)


def guess(model: Model, ids: list[int], places: list[int], count: int) -> list[Guesses]:
    """Return the likeliest tokens, special ones left out, for the places of a row where its mask stands."""
    shares, found = _likeliest(model, ids, places, count)
    return [
        tuple((model.tokenizer.decode([token]).strip(), share) for token, share in zip(tokens, row, strict=True))
        for tokens, row in zip(found.tolist(), shares.tolist(), strict=True)
    ]


def guess_together(model: Model, ids: list[int], places: list[int], count: int) -> Guesses:
    """Return the likeliest tokens for all these masks of a row as one text: each given those before it, `count` kept at every step."""
    kept = [(1.0, ids)]
    for place in places:
        longer = []
        for share, row in kept:
            shares, found = _likeliest(model, row, [place], count)
            longer += [
                (share * more, [*row[:place], token, *row[place + 1 :]])
                for more, token in zip(shares[0].tolist(), found[0].tolist(), strict=True)
            ]
        kept = sorted(longer, key=lambda one: -one[0])[:count]
    return tuple((model.tokenizer.decode([row[place] for place in places]).replace(" ", ""), share) for share, row in kept)


@torch.no_grad()
def _likeliest(model: Model, ids: list[int], places: list[int], count: int) -> tuple[Tensor, Tensor]:
    """Return probabilities and tokens, special ones left out, both [places, count]."""
    logits = model.head("masked_lm")(model.states(ids)[None], torch.tensor(places))
    logits[:, list(model.tokenizer.vocabulary.special_ids)] = -torch.inf
    return torch.topk(logits.softmax(-1), count)


def _split_at_masks(text: str) -> list[str]:
    parts = [text]
    for mask in MASKS:
        parts = [piece for part in parts for piece in part.split(mask)]
    # A mask stands for a word with the space before it.
    return [part.rstrip() for part in parts[:-1]] + [parts[-1]]


def continue_text(model: Model, prompt: str, count: int, sampling: Sampling, seed: int = 1) -> Iterator[str]:
    """Yield a continuation of `prompt` piece by piece: `count` tokens, or up to the token that ends a text, or as far as the model goes.

    Raises:
        ConfigError: the model does not generate.

    """
    kind = next(iter(model.heads), "causal_lm")
    vocabulary = model.tokenizer.vocabulary
    ids = model.tokenizer.encode([prompt])[0].tolist() or [vocabulary.begin]
    room = min(count, model.settings.longest - len(ids))
    if room < 1:
        raise ConfigError(f"{model.name}: the prompt has {len(ids)} tokens, this model takes {model.settings.longest}. Shorten it.")
    drawn, shown = list[int](), ""
    generator = torch.Generator().manual_seed(seed)
    for token, _ in zip(generate(model.backbone, model.head(cast("HeadKind", kind)), ids, sampling, generator), range(room), strict=False):
        if token == vocabulary.end:
            return
        drawn.append(token)
        text = model.tokenizer.decode(drawn)
        if not text.endswith("\ufffd"):  # half a character; the next token may complete it
            yield text[len(shown) :]
            shown = text


@dataclass(frozen=True)
class Vectors:
    """The vector of a text, the mean of the states of its tokens; and that of a word in it, if asked for.

    Special tokens count as well, except for ELMo, whose words are read one by one and have the mean of their layers.
    """

    text: str
    mean: Tensor
    word: Tensor | None


@torch.no_grad()
def embed(model: Model, text: str, word: str = "") -> Vectors:
    """Return the vectors of a text, fp32 [H].

    Raises:
        ConfigError: the word does not stand in the text.

    """
    states, spans = _read_words(model, text) if isinstance(model.backbone, ElmoBackbone) else _read_tokens(model, text)
    if not word:
        return Vectors(text, states.mean(0), None)
    at = text.lower().find(word.lower())
    inside = [number for number, (start, end) in enumerate(spans) if start < at + len(word) and end > at] if at >= 0 else []
    if not inside:
        raise ConfigError(f"{text!r}: the word {word!r} does not stand in it. Give texts that contain it.")
    return Vectors(text, states.mean(0), states[inside].mean(0))


def _read_tokens(model: Model, text: str) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return the state of each token, special ones included, and the characters that it stands for."""
    vocabulary, (ids, spans) = model.tokenizer.vocabulary, model.tokenizer.encode_with_spans(text)
    return model.states([vocabulary.begin, *ids, vocabulary.end]), [(0, 0), *spans, (0, 0)]


def _read_words(model: Model, text: str) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return the vector that ELMo has for each word, the mean of its layers, and where it stands."""
    spans = model.tokenizer.encode_with_spans(text)[1]
    characters = character_ids([BEGIN, *(text[start:end] for start, end in spans), END], model.settings.word_length)
    layers, _ = cast("ElmoBackbone", model.backbone).representations(torch.from_numpy(characters)[None], torch.tensor([len(characters)]))
    return layers[0].mean(0)[1:-1], spans


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of the angle between two vectors."""
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))
