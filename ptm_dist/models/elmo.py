"""ELMo: words as characters through a CNN, then two stacks of LSTMs that read a text forward and backward.

Weights here and in the HDF5 file of a published model, as allenai/bilm-tf writes it (d is 0 forward, 1 backward):

    words.characters.weight[1:]          <- char_embed (row 0 stands for no word, is zero, and not in the file)
    words.convolutions.i.weight          <- CNN/W_cnn_i[0], axes reversed
    words.convolutions.i.bias            <- CNN/b_cnn_i
    words.highways.i.{carry,transform}   <- CNN_high_i/W_{carry,transform} transposed, b_{carry,transform}
    words.project                        <- CNN_proj/W_proj transposed, b_proj
    layers.l.{kernel,projection}[d]      <- RNN_d/RNN/MultiRNNCell/Cell{l}/LSTMCell/{W_0,W_P_0}
    layers.l.bias.chunk(2)[d]            <- RNN_d/RNN/MultiRNNCell/Cell{l}/LSTMCell/B

Shape letters: R rows, L length, C characters, N words, E width of a character, F filters, D directions, T steps of an LSTM, S cell,
P projection, G the four gates, J layers with the words below them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.characters import ROWS
from ptm_dist.data.joining import ELMO, Joining
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.attention import real
from ptm_dist.models.base import Backbone, Memory, Positive, Probability, initialise
from ptm_dist.models.downstream import DOWNSTREAM, SUMMARISED, TaskEncoder, task_head
from ptm_dist.models.heads import ClassifierHead
from ptm_dist.models.lstm import LstmLayer
from ptm_dist.models.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax

Clip: TypeAlias = Annotated[float, Field(gt=0, description="bound of each number's size")]

PUBLISHED_FILTERS: Final = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
CARRY_BIAS: Final = -2.0
"""A new highway lets nearly everything pass as it is."""


class Elmo(BaseModel):
    """The ELMo family; the defaults are the original size. It is a language model of words that it reads as bytes.

    Parameters are counted with the row of zeros that stands for no word, though nothing trains it: 93,600,864 as in a published model,
    16 more than its trainer counts.

    Source: Peters et al. 2018; allenai/bilm-tf, training.py and model.py.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    joining: ClassVar[Joining] = ELMO

    kind: Literal["elmo"] = "elmo"
    layers: Positive = 2
    cell: Positive = 4096
    projection: Annotated[int, Field(gt=0, description="width of words and of each direction's states")] = 512
    character_width: Positive = 16
    filters: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1, description="(width, count)")] = PUBLISHED_FILTERS
    highways: Annotated[int, Field(ge=0)] = 2
    activation: Annotated[Literal["relu", "tanh"], Field(description="that of the CNN")] = "relu"
    cell_clip: Clip = 3.0
    projection_clip: Clip = 3.0
    dropout: Probability = 0.1
    word_length: Annotated[int, Field(ge=3, description="characters of a word, marks and padding among them")] = 50
    softmax: Literal["full", "sampled", "adaptive"] = "sampled"
    negatives: Annotated[int, Field(gt=0, description="words drawn for a sampled softmax")] = 8192
    cutoffs: Annotated[tuple[Positive, ...], Field(min_length=1, description="ids at which clusters of an adaptive softmax begin")] = (
        10_000,
        50_000,
        200_000,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if max(width for width, _ in self.filters) > self.word_length:
            raise ValueError(f"filters are wider than word_length {self.word_length}")
        if list(self.cutoffs) != sorted(set(self.cutoffs)):
            raise ValueError(f"cutoffs {list(self.cutoffs)} do not ascend")
        if self.softmax == "adaptive" and self.projection < 4 ** len(self.cutoffs):
            raise ValueError(f"projection {self.projection} leaves cluster {len(self.cutoffs)} no dimension; take fewer cutoffs")
        return self

    @property
    def longest(self) -> int:
        """Most tokens a row may have: more than anybody can compute, as there is no table of positions."""
        return 1 << 20

    def backbone(self, vocabulary: Vocabulary) -> ElmoBackbone:
        """Build the backbone with fresh weights; it reads characters and needs no vocabulary."""
        return ElmoBackbone(self)

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head with fresh weights; the language model has the softmax of the settings, which shares nothing with the backbone.

        Raises:
            ConfigError: this family has no such head, or the vocabulary is too small for the softmax.

        """
        if spec.kind == "bidirectional_lm":
            return self._softmax(vocabulary.size)
        if spec.kind in DOWNSTREAM:
            return self._task_head(spec)
        if spec.kind not in {"sequence", "tokens"}:
            raise ConfigError(
                f"model: ELMo cannot train {spec.kind}; it has bidirectional_lm, sequence, tokens and those of labelled tasks."
            )
        head = ClassifierHead(self.projection, spec.classes)
        initialise(head, self.projection**-0.5)
        return head

    def _task_head(self, spec: HeadSpec) -> nn.Module:
        """Return a head over a model of the task, as wide as the states."""
        encoder = TaskEncoder(self.layers + 1, 2 * self.projection, self.projection, spec.dropout, spec.kind in SUMMARISED)
        head = task_head(spec, encoder.width, encoder=encoder)
        initialise(head.get_submodule("classify"), encoder.width**-0.5)
        return head

    def _softmax(self, words: int) -> nn.Module:
        if self.softmax == "full":
            return FullSoftmax(self.projection, words)
        if self.softmax == "sampled":
            if self.negatives > words:
                raise ConfigError(f"model.negatives: the vocabulary has {words} words, not {self.negatives}; take fewer, or softmax: full.")
            return SampledSoftmax(self.projection, words, self.negatives)
        if self.cutoffs[-1] >= words:
            raise ConfigError(f"model.cutoffs: the vocabulary has only {words} words; take lower ones, or softmax: full.")
        return AdaptiveSoftmax(self.projection, words, self.cutoffs)


class Reading(NamedTuple):
    """The order in which the LSTMs read: the position of each step, int64 [D, T, R], and how many steps a row has, int64 [R]."""

    places_DTR: Tensor
    steps_R: Tensor


class ElmoBackbone(Backbone):
    """Words from characters, and layers of LSTMs in both directions.

    Memory holds what the LSTMs know after the last word that each of them read of a row: `cells` [R, layers, D, S] and `states`
    [R, layers, D, P]. Without any they start from zeros. Nothing resets it between sentences, as in the reference.
    """

    def __init__(self, settings: Elmo) -> None:
        super().__init__()
        self.words = WordEncoder(settings)
        self.layers = nn.ModuleList(LstmLayer(settings) for _ in range(settings.layers))
        self.dropout, self.word_length = nn.Dropout(settings.dropout), settings.word_length

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Return the top states of training rows, [R, L, P], each of its own direction, with the dropout that precedes a softmax.

        `characters`, int64 [R, L, C], are those of `data.characters`; a word's own id is not read. A row is two pieces of text that have
        nothing to do with each other: its first half goes on with the row's forward stream, its second half with the row's backward stream,
        in the order in which the backward LSTMs read, from the end of the text. With n = length // 2 they lie at [0, n) and [n, 2n); states
        elsewhere are zero. Gradients end where memory begins: carrying it over rows of 2 x 20 words is truncated BPTT over 20 steps.

        Raises:
            ValueError: rows of words have no characters, or another number of them.

        """
        characters_RLC = self._characters(inputs, lengths_R)
        half_R = lengths_R // 2
        reading = _reading(half_R, backward_R=half_R, stride=1, length=characters_RLC.shape[1])
        layers, memory = self._run(characters_RLC, lengths_R, reading, memory)
        top_RLDP = _lay(self.dropout(layers[-1]), reading, characters_RLC.shape[1])
        return top_RLDP.sum(2), memory

    def _characters(self, inputs: dict[str, Tensor], lengths_R: Tensor) -> Tensor:
        """Return the characters of rows; those that only fill a micro-batch up have none."""
        if "characters" not in inputs:
            if int(lengths_R.max()) > 1:
                raise ValueError("ELMo reads the characters of words, and these rows have none")
            return inputs["tokens"].new_zeros(*inputs["tokens"].shape, self.word_length)
        if inputs["characters"].shape[2] != self.word_length:
            raise ValueError(f"model.word_length is {self.word_length}, but words come with {inputs['characters'].shape[2]} characters")
        return inputs["characters"]

    def read(self, inputs: dict[str, Tensor], lengths_R: Tensor) -> Tensor:
        """Return all layers side by side, [R, L, J x 2 P]: a task mixes them. Each text is read without memory of those before.

        Raises:
            ValueError: as `forward` does.

        """
        return self.representations(self._characters(inputs, lengths_R), lengths_R)[0].transpose(1, 2).flatten(2)

    def representations(self, characters_RLC: Tensor, lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Return what a task reads of rows of text, [R, J, L, 2 P], forward features first: words twice, then each layer's states.

        Both directions read the same row, the backward one from its last word to its first, and include the word itself. With BOS and EOS
        words around a text the task leaves their positions out. States past a row's length are zero. In training the inputs of layers have
        dropout, what is returned has none of its own. Memory is as in training; the reference keeps it from batch to batch of a task too.
        """
        reading = _reading(lengths_R, backward_R=lengths_R - 1, stride=-1, length=characters_RLC.shape[1])
        layers, memory = self._run(characters_RLC, lengths_R, reading, memory)
        return torch.stack([_lay(x_DTRP, reading, characters_RLC.shape[1]).flatten(2) for x_DTRP in layers], 1), memory

    def _run(self, characters_RLC: Tensor, lengths_R: Tensor, reading: Reading, memory: Memory | None) -> tuple[list[Tensor], Memory]:
        """Return words and the outputs of all layers, [D, T, R, P], and the new memory."""
        words_NP = self.words(characters_RLC[real_RL := real(lengths_R, characters_RLC.shape[1])])
        words_RLP = words_NP.new_zeros(*real_RL.shape, words_NP.shape[-1])
        words_RLP[real_RL] = words_NP
        layers = [words_RLP[torch.arange(len(lengths_R), device=lengths_R.device), reading.places_DTR]]
        cells, states = [], []
        for number, layer in enumerate(self.layers):
            x_DTRP = self.dropout(layers[-1])
            before = (memory["cells"][:, number], memory["states"][:, number]) if memory else None
            y_DTRP, cells_RDS, states_RDP = layer(x_DTRP, reading.steps_R, before)
            # The sum is neither clipped nor what the layer remembers.
            layers.append(y_DTRP + x_DTRP if number else y_DTRP)
            cells.append(cells_RDS)
            states.append(states_RDP)
        return layers, {"cells": torch.stack(cells, 1), "states": torch.stack(states, 1)}


def _reading(steps_R: Tensor, backward_R: Tensor, stride: int, length: int) -> Reading:
    """Return how to read rows forward from their beginning, and backward from `backward_R` on in strides of 1 or -1."""
    # At least one step, so that every weight takes part in every forward.
    ahead_TR = torch.arange(max(int(steps_R.max()), 1), device=steps_R.device)[:, None].expand(-1, len(steps_R))
    # Steps after a row's last read anything, and nobody reads them.
    return Reading(torch.stack([ahead_TR, backward_R + stride * ahead_TR]).clamp(0, length - 1), steps_R)


def _lay(x_DTRP: Tensor, reading: Reading, length: int) -> Tensor:
    """Return [R, L, D, P]: each step at its position, zero where a direction read nothing."""
    directions, most, rows, _ = x_DTRP.shape
    taken = (torch.arange(most, device=x_DTRP.device)[:, None] < reading.steps_R).expand(directions, -1, -1)
    d, _, r = taken.nonzero(as_tuple=True)
    laid_RLDP = x_DTRP.new_zeros(rows, length, directions, x_DTRP.shape[-1])
    laid_RLDP[r, reading.places_DTR[taken], d] = x_DTRP[taken]
    return laid_RLDP


class WordEncoder(nn.Module):
    """A word from its characters: filters with the most of each over the word, highways, a projection."""

    def __init__(self, settings: Elmo) -> None:
        super().__init__()
        width = sum(count for _, count in settings.filters)
        self.characters = nn.Embedding(ROWS, settings.character_width, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(settings.character_width, count, size) for size, count in settings.filters)
        self.activation = torch.relu if settings.activation == "relu" else torch.tanh
        self.highways = nn.ModuleList(Highway(width) for _ in range(settings.highways))
        self.project = nn.Linear(width, settings.projection)
        self._initialise(settings)

    def _initialise(self, settings: Elmo) -> None:
        nn.init.uniform_(self.characters.weight[1:], -1, 1)
        for convolution, (size, _) in zip(self.convolutions, settings.filters, strict=True):
            weight = convolution.get_parameter("weight")
            if settings.activation == "relu":
                nn.init.uniform_(weight, -0.05, 0.05)
            else:
                nn.init.normal_(weight, std=(size * settings.character_width) ** -0.5)
            nn.init.zeros_(convolution.get_parameter("bias"))
        initialise(self.project, self.project.in_features**-0.5)

    def forward(self, characters_NC: Tensor) -> Tensor:
        """Return [N, P]. Filters read the padding inside a word as well, which has a vector of its own."""
        x_NEC = self.characters(characters_NC).transpose(1, 2)
        # Not amax, which keeps all that it compares for its gradient.
        x_NF = torch.cat([self.activation(convolution(x_NEC).max(-1).values) for convolution in self.convolutions], 1)
        for highway in self.highways:
            x_NF = highway(x_NF)
        return self.project(x_NF)


class Highway(nn.Module):
    """A gated mean of what comes in and a transform of it. `carry`, as the reference calls it, gates the transform."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.carry, self.transform = nn.Linear(width, width), nn.Linear(width, width)
        initialise(self, width**-0.5)
        nn.init.constant_(self.carry.bias, CARRY_BIAS)

    def forward(self, x_NF: Tensor) -> Tensor:
        """Return [N, F]."""
        gate_NF = self.carry(x_NF).sigmoid()
        return gate_NF * self.transform(x_NF).relu() + (1 - gate_NF) * x_NF
