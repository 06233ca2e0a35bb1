"""What a recipe costs: parameters, sequences and tokens that it sees, and the arithmetic of training it.

FLOPs are those of matrix products, two for a multiplication with its addition, of a row as long as its format allows. One forward of a
backbone over a row of L tokens, of which P are predicted:

    encoders    layers x (2 L (4 H^2 + 2 H I) + 4 L^2 H): query, key, value, output; up, down; scores and weighted values.
                ALBERT: as often as a block runs, however few there are, and 2 L E H where embeddings are widened
    GPT, GPT-2  the same with I = 4 H; the half of the scores that a causal mask hides is counted too
    XLNet       layers x (2 H W (2 Q + 2 K + N) + 2 Q W (2 K + N + 1) + 4 Q H I), with Q = L + P queries of two streams, K = M + L keys
                and N = K + L distances (K + 1 where attention is uni), which each row drops or mirrors by itself; 1 is for segments
    ELMo        L (convolutions: 2 w E n (C - w + 1) for n filters of width w; highways: 4 F^2; projection: 2 F R)
                + layers x L (16 R S + 2 S R): a position is read by the LSTM of its own direction

A head multiplies each of its matrices once for each target, the output softmax by the rows of the word table, which is filled up to a
multiple of 64. Targets are those of the objective: masked LM has its rate of the tokens of a row, within its budget; permutation LM one
in `one_in`; causal LM all but the first; a classifier of sequences one. A sampled softmax has its negatives in place of all words.

Training is three times that: the backward pass has two products for each of the forward, one for the gradient of the weights and one for
that of their input. Nothing is counted for lookups, activations, softmaxes, LayerNorms, dropout, optimizer, and what is computed again.

Source: Kaplan et al. 2020, section 2.1 (products only, backward twice the forward); Hoffmann et al. 2022, appendix F (attention and
softmax counted in); Chowdhery et al. 2022, appendix B.

Letters: L tokens of a row, P predicted tokens, H hidden, I intermediate, E width of embeddings or characters, W heads x head width,
M tokens in memory, C characters of a word, F filters in all, S cell, R projection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from itertools import pairwise

from torch import nn

from ptm_dist.models.albert import Albert
from ptm_dist.models.decoder import DecoderFamily
from ptm_dist.models.downstream import SUMMARISED
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.encoder import EncoderFamily
from ptm_dist.models.softmax import AdaptiveSoftmax, SampledSoftmax
from ptm_dist.models.xlnet import Xlnet
from ptm_dist.objectives.base import Objective
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.objectives.masked_lm import MaskedLM, Ramp
from ptm_dist.objectives.permutation_lm import PermutationLM
from ptm_dist.recipe import Recipe
from ptm_dist.train.module import PretrainingModel, counts_of, head_name, outline


@dataclass(frozen=True)
class Cost:
    """What a whole run of a recipe takes; None is not known before data are prepared, or of a plug-in from outside the package."""

    parts: dict[str, int]
    """Parameters of the backbone and of each head; empty where the size of the vocabulary is not known."""
    steps: int | None = None
    sequences: int | None = None
    """Rows that are read, each time that they are; of batches of so many tokens at least, since rows may be short."""
    tokens: int | None = None
    """Tokens of these rows, padding included: at most so many."""
    training_flops: float | None = None

    @property
    def figures(self) -> dict[str, float | None]:
        """Every figure by its name, in the order in which people are told."""
        backbone, total = self.parts.get("backbone"), sum(self.parts.values())
        return {
            "parameters": None if backbone is None else total,
            "backbone": backbone,
            "heads": None if backbone is None else total - backbone,
            "steps": self.steps,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "training_flops": self.training_flops,
        }


def cost_of(recipe: Recipe) -> Cost:
    """Return what a run of the recipe takes. No data need be prepared: rows are as long as their format allows."""
    model = outline(recipe)
    parts = {} if model is None else counts_of(model)
    if recipe.budgets:
        return Cost(parts)
    lengths = {name: task.format.length for name, task in recipe.tasks.items()}
    rows = _rows_read(recipe, lengths)
    training = 3 * sum(rows[name] * (math.nan if model is None else forward_flops(recipe, model, name)) for name in rows)
    return Cost(
        parts,
        steps=recipe.total_steps,
        sequences=sum(rows.values()),
        tokens=sum(rows[name] * lengths[name] for name in rows),
        training_flops=None if math.isnan(training) else training,
    )


def flops_per_token(recipe: Recipe) -> float:
    """Return the arithmetic of training one token, in the mean over a run; 0 where it is not known."""
    cost = cost_of(recipe)
    return cost.training_flops / cost.tokens if cost.training_flops and cost.tokens else 0.0


def _rows_read(recipe: Recipe, lengths: Mapping[str, int]) -> dict[str, int]:
    """Return the rows of each task that a run reads."""
    plan, rows = recipe.plan(lengths), dict.fromkeys(recipe.tasks, 0)
    for number, stage in enumerate(plan.stages):
        for index, part in enumerate(stage.tasks):
            rows[part.task] += plan.rows_read(number, index)
    return rows


def forward_flops(recipe: Recipe, model: PretrainingModel, task: str) -> float:
    """Return the FLOPs of one forward of a full row of a task through backbone and heads; NaN for a family from outside the package."""
    length = recipe.tasks[task].format.length
    targets = {objective: targets_of(objective, length, recipe.total_steps) for objective in recipe.tasks[task].objectives}
    asked = sum(count for objective, count in targets.items() if objective.head.kind == "permutation_lm")
    heads = (count * target_flops(model.heads[head_name(recipe.owner(task), objective)]) for objective, count in targets.items())
    return body_flops(recipe.model, length, asked) + sum(heads)


def targets_of(objective: Objective, length: int, steps: int) -> float:
    """Return how many targets a row of `length` tokens has in a run of `steps`, in the mean over the run."""
    match objective:
        case MaskedLM():
            hidden = _mean_rate(objective, steps) * length
            return min(max(1, round(hidden)), objective.most or length) if objective.choose == "budget" else hidden
        case PermutationLM():
            return length // objective.one_in
        case CausalLM():
            return length - 1
        case _:
            return 1 if objective.head.kind in {"sequence"} | SUMMARISED else length


def _mean_rate(objective: MaskedLM, steps: int) -> float:
    if not isinstance(objective.rate, Ramp):
        return objective.rate
    ramped = min(steps, objective.rate.steps)
    half_way = (objective.rate_at(0) + objective.rate_at(ramped - 1)) / 2
    return (ramped * half_way + (steps - ramped) * objective.rate.end) / steps


def target_flops(head: nn.Module) -> float:
    """Return the FLOPs of one forward of a head for one target, in training.

    In an adaptive softmax a target takes the cluster of its word, which is as likely as the words in it are by Zipf's law.
    """
    if isinstance(head, SampledSoftmax):
        return 2.0 * head.weight.shape[1] * head.negatives
    if isinstance(head, AdaptiveSoftmax):
        ends = head.softmax.cutoffs
        shares = [math.log((end + 1) / (start + 1)) / math.log(ends[-1] + 1) for start, end in pairwise(ends)]
        tails = (share * _matrices(tail) for share, tail in zip(shares, head.softmax.tail, strict=True))
        return 2.0 * (_matrices(head.softmax.head) + sum(tails))
    return 2.0 * _matrices(head)


def _matrices(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


@singledispatch
def body_flops(model: object, length: int, asked: float) -> float:
    """Return the FLOPs of one forward of a family's backbone over a row of `length` tokens, `asked` of them by XLNet's query stream.

    The NaN of a family that is not registered here carries over to all that is summed with it.
    """
    return math.nan


@body_flops.register
def _(model: EncoderFamily, length: int, asked: float) -> float:
    return model.layers * _block_flops(length, model.hidden, model.intermediate)


@body_flops.register
def _(model: Albert, length: int, asked: float) -> float:
    widened = 2.0 * length * model.embedding * model.hidden if model.embedding != model.hidden else 0.0
    return widened + model.layers * model.inner_groups * _block_flops(length, model.hidden, model.intermediate)


@body_flops.register
def _(model: DecoderFamily, length: int, asked: float) -> float:
    return model.layers * _block_flops(length, model.hidden, 4 * model.hidden)


def _block_flops(length: int, hidden: int, intermediate: int) -> float:
    return 2.0 * length * (4 * hidden**2 + 2 * hidden * intermediate) + 4.0 * length**2 * hidden


@body_flops.register
def _(model: Xlnet, length: int, asked: float) -> float:
    queries, keys, width = length + asked, model.memory_length + length, model.heads * model.head_width
    distances = keys + (length if model.attention == "bi" else 1)
    projections = 2.0 * model.hidden * width * (2 * queries + 2 * keys + distances)
    attention = 2.0 * queries * width * (2 * keys + distances + 1)
    return model.layers * (projections + attention + 4.0 * queries * model.hidden * model.intermediate)


@body_flops.register
def _(model: Elmo, length: int, asked: float) -> float:
    filters = sum(count for _, count in model.filters)
    convolved = sum(2 * size * model.character_width * count * (model.word_length - size + 1) for size, count in model.filters)
    word = convolved + model.highways * 4 * filters**2 + 2 * filters * model.projection
    step = 2 * 2 * model.projection * 4 * model.cell + 2 * model.cell * model.projection
    return float(length * (word + model.layers * step))
