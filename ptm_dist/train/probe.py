"""Probes: what the states of the model are good for, told by small classifiers that are fitted to them every so many steps.

The model learns nothing of it, and nothing of it is random: a run with probes has the losses of the same run without them, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptm_dist.data.batch import MicroBatch, Row, Targets, collate
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.loader import require_rows
from ptm_dist.errors import DataUnavailableError
from ptm_dist.formats.tagged_words import TaggedWords
from ptm_dist.models.attention import real
from ptm_dist.objectives.classify_text import ClassifyText
from ptm_dist.objectives.downstream import Downstream
from ptm_dist.objectives.tag_words import TagWords
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_parts import Probe
from ptm_dist.rng import RowDraws
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.engine import Engine

L2: Final = 50.0
"""Half of this times the sum of the squared weights is added to the sum of the losses: the inverse of what scikit-learn calls C."""
ITERATIONS: Final = 100
"""Most iterations of L-BFGS; it stops before where it gets no further."""
LEAST_DEVIATION: Final = 1e-5
"""A feature that varies by less, as a share of the size of all features, varies by rounding alone and is left out."""
COMPANY: Final = -1
"""The number of a micro-batch that a rank forwards because others have one more than it."""


class Seen(NamedTuple):
    """Features, fp32 [targets, F], and their classes, int64 [targets]."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Share:
    """The micro-batches of a rank by their numbers, and the rows of all ranks together."""

    batches: list[tuple[int, MicroBatch]]
    rows: int


def is_due(done: int, every_steps: int, end: int) -> bool:
    """Return whether to measure after `done` steps of `end`: before the first, every so many, and after the last."""
    return done % every_steps == 0 or done == end


class Probes:
    """Measures the probes of a recipe.

    Raises:
        DataUnavailableError: the data of a probe are not prepared.

    """

    def __init__(self, recipe: Recipe, context: WorkerContext, engine: Engine, data: DataFolders) -> None:
        self.recipe, self.context, self.engine, self.data = recipe, context, engine, data
        self._shares: dict[tuple[str, str], Share] = {}
        missing = [name for name, called in recipe.probe_data.items() if called not in data.datasets]
        if missing:
            raise DataUnavailableError(f"evaluate.downstream.{missing[0]}: its data are not prepared. Run: ptm data prepare RECIPE")

    def due(self, done: int, end: int) -> list[str]:
        """Return the probes to measure after `done` steps of `end`."""
        settings = self.recipe.evaluate
        return [name for name, probe in settings.downstream.items() if is_due(done, probe.every_steps or settings.every_steps, end)]

    def measure(self, name: str) -> dict[str, Any]:
        """Return what a classifier that is fitted to training rows reaches on held-out ones. Rank 0 fits it, and all are told.

        Ranks share micro-batches that are the same for any number of ranks, and each forwards as many as any other.
        """
        probe, shares = self.recipe.evaluate.downstream[name], [self._share(name, split) for split in ("train", "validation")]
        train, held_out = (self._see(probe, share) for share in shares)
        figures = reached(train, held_out, len(probe.labels)) | {"rows": shares[1].rows} if self.context.rank == 0 else {}
        return self.context.gather(figures)[0]

    def _see(self, probe: Probe, share: Share) -> Seen:
        """Forward this rank's micro-batches, and return what all ranks saw in theirs, in the order of their numbers."""
        asking, found = objective_of(probe, self.recipe.model.joining.summary), list[tuple[int, Seen]]()
        for number, batch in share.batches:
            positions, labels = _targets(batch, asking.kind)
            features = features_of(self.engine.read(batch), batch.lengths, positions, asking.kind)
            if number != COMPANY:
                found.append((number, Seen(features, labels)))
        parts = sorted(chain(*self.context.gather(found)), key=lambda part: part[0])
        return Seen(*(np.concatenate([seen[field] for _, seen in parts]) for field in range(2)))

    def _share(self, name: str, split: Literal["train", "validation"]) -> Share:
        """Read this rank's micro-batches; they are kept, for they are the same each time."""
        if (name, split) not in self._shares:
            probe, rank, world = self.recipe.evaluate.downstream[name], self.context.rank, self.context.world
            dataset = Dataset.open(self.data.datasets[probe.data_of(name)][split])
            require_rows(dataset, f"evaluate.downstream.{name} {split}")
            groups = groups_of(dataset.lengths, probe.rows, self.recipe.batch.micro_rows)
            last = len(groups) - 1
            mine = range(rank, -(-len(groups) // world) * world, world)
            read = self._read(probe, dataset, [groups[min(number, last)] for number in mine], len(groups[0]))
            batches = [(number if number <= last else COMPANY, batch) for number, batch in zip(mine, read, strict=True)]
            self._shares[name, split] = Share(batches, sum(map(len, groups)))
        return self._shares[name, split]

    def _read(self, probe: Probe, dataset: Dataset, groups: list[np.ndarray], width: int) -> list[MicroBatch]:
        """Return a micro-batch of each group of rows, filled up to `width` rows."""
        asking, vocabulary = objective_of(probe, self.recipe.model.joining.summary), self.data.vocabulary
        reader = RowReader(dataset, 1)
        # In the order in which they are stored, so that no part of the data set is read twice.
        examples = {place: reader.row(place) for place in sorted({int(place) for group in groups for place in group})}
        batches = []
        for group in groups:
            draws = RowDraws(self.recipe.seed, "probe", [(0, int(place)) for place in group])
            rows = asking.corrupt([Row(examples[int(place)]) for place in group], vocabulary, draws)
            batches.append(collate([row.without(asking.reads) for row in rows], vocabulary.pad, width))
        return batches


def objective_of(probe: Probe, summary: Literal["first", "last"]) -> Downstream:
    """Return what reads labels off the rows of a probe."""
    if isinstance(probe.format, TaggedWords):
        return TagWords(tags=probe.labels)
    return ClassifyText(labels=probe.labels, at=summary)


def groups_of(lengths: np.ndarray, most: int, size: int) -> list[np.ndarray]:
    """Return the numbers of `most` rows, spread evenly over all, in groups of at most `size` rows of similar length."""
    count = min(most, len(lengths))
    places = np.arange(count) * len(lengths) // count
    ordered = places[np.argsort(lengths[places], kind="stable")]
    return [ordered[first : first + size] for first in range(0, count, size)]


def features_of(states_RLH: Tensor, lengths_R: np.ndarray, positions_T: np.ndarray, kind: str) -> np.ndarray:
    """Return what is seen of each target, fp32 [T, F]: the state there, and of a text before it the mean of the states of its tokens."""
    length, places_T = states_RLH.shape[1], torch.from_numpy(positions_T).to(states_RLH.device)
    seen_TF = states_RLH.flatten(0, 1)[places_T]
    if kind == "classify_text":
        sizes_R = torch.from_numpy(lengths_R).to(states_RLH.device)
        mean_RH = states_RLH.masked_fill(~real(sizes_R, length)[..., None], 0.0).sum(1) / sizes_R[:, None]
        seen_TF = torch.cat([mean_RH[places_T // length], seen_TF], -1)
    return seen_TF.cpu().numpy()


def reached(train: Seen, held_out: Seen, classes: int) -> dict[str, float]:
    """Return accuracy and mean loss, nats, on held-out targets, and the share of the class that is most frequent among them."""
    x_TF, labels_T = (torch.from_numpy(values) for values in held_out)
    like_TF = torch.from_numpy(train.features)
    scores_TC = standardised(x_TF, like_TF) @ fitted(standardised(like_TF, like_TF), torch.from_numpy(train.labels), classes)
    loss = float(F.cross_entropy(scores_TC, labels_T))
    # Of states that are not finite nothing is right, not even by chance.
    accuracy = float((scores_TC.argmax(-1) == labels_T).double().mean()) if np.isfinite(loss) else float("nan")
    return {"accuracy": accuracy, "loss": loss, "baseline_accuracy": int(labels_T.bincount().max()) / len(labels_T)}


def standardised(x_TF: Tensor, like_TF: Tensor) -> Tensor:
    """Return features in float64 without the mean and the deviation that they have in `like_TF`, and a column of ones, [T, F + 1]."""
    x_TF, like_TF = x_TF.double(), like_TF.double()
    deviation_F = like_TF.std(0, correction=0)
    deviation_F[deviation_F <= LEAST_DEVIATION * like_TF.square().mean().sqrt()] = torch.inf
    return F.pad((x_TF - like_TF.mean(0)) / deviation_F, (0, 1), value=1.0)


def fitted(x_TF: Tensor, labels_T: Tensor, classes: int) -> Tensor:
    """Return the weights of a multinomial logistic regression with an L2 penalty, float64 [F, classes].

    A column of ones stands for an intercept, and its weights count like all others: so there is one least, also where a class has no row.
    """
    weights_FC = torch.zeros(x_TF.shape[1], classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weights_FC], max_iter=ITERATIONS, tolerance_grad=1e-8, tolerance_change=1e-12, history_size=20, line_search_fn="strong_wolfe"
    )

    def cost() -> Tensor:
        search.zero_grad()
        total = F.cross_entropy(x_TF @ weights_FC, labels_T) + L2 / 2 * weights_FC.square().sum() / len(labels_T)
        total.backward()
        return total

    search.step(cost)
    return weights_FC.detach()


def _targets(batch: MicroBatch, kind: str) -> Targets:
    nothing = np.zeros(0, dtype=np.int64)
    return batch.targets.get(kind, Targets(nothing, nothing))
