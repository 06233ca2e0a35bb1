"""The parts of a recipe: what each section may say, and what holds within it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from ptm_dist.changes import ALLOWED, REASON, Change
from ptm_dist.corpus import UNITS
from ptm_dist.corpus.clean import CleanSettings
from ptm_dist.corpus.dedup import DedupSettings
from ptm_dist.corpus.labelled import Labelled
from ptm_dist.corpus.split import SplitSettings
from ptm_dist.data.example import NO_LABEL
from ptm_dist.formats import FORMATS
from ptm_dist.formats.tagged_words import TaggedWords
from ptm_dist.formats.texts import Texts
from ptm_dist.objectives import OBJECTIVES
from ptm_dist.objectives.base import Objective
from ptm_dist.objectives.downstream import Names
from ptm_dist.plugins import plugin
from ptm_dist.recipe_budget import Steps
from ptm_dist.store import digest
from ptm_dist.trackers import TRACKERS
from ptm_dist.trackers.base import TrackerSettings

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Count: TypeAlias = Annotated[int, Field(gt=0)]
ExtendedRate: TypeAlias = Literal["stretch", "hold", "restart"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
PROBE: Final = "probe:"
"""What names of the data sets of probes begin with; a task cannot be called so."""


class Section(BaseModel):
    """A part of a recipe: no unknown key, no silent conversion, no later change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Corpus(Section):
    """What happens to documents before any format sees them."""

    change: ClassVar[Change] = "frozen"

    clean: CleanSettings = CleanSettings()
    dedup: DedupSettings = DedupSettings()
    split: SplitSettings = SplitSettings()
    units: Annotated[Any, plugin(UNITS)] | None = None
    """What words, phrases and entities are, for masks and formats that ask for them."""


class Task(Section):
    """A format over sources, and the objectives trained on its examples."""

    change: ClassVar[Change] = "frozen"

    format: Annotated[Any, plugin(FORMATS)]
    """How documents become examples."""
    objectives: Annotated[tuple[Annotated[SerializeAsAny[Objective], plugin(OBJECTIVES)], ...], Field(min_length=1)]
    """What is trained on them."""
    sources: tuple[str, ...] = ()
    """Names of the sources; empty means all of them."""
    heads_of: str | None = None
    """Another task whose classifiers this one trains further: the same objectives over longer rows, or with other masks."""


class Stage(Section):
    """A stretch of training with its own set of tasks."""

    change: ClassVar[Change] = "frozen"

    name: Name
    steps: dict[str, Steps]
    """Updates of each task in this stage, or a budget that becomes updates when data are prepared: `40 epochs`, `137B tokens`,
    `2.5 hours`."""
    rows: Count | None = None
    """Examples in a batch of this stage, in place of `batch`."""
    tokens: Count | None = None
    """Tokens in a batch of this stage, in place of `batch`."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.rows and self.tokens:
            raise ValueError("give either rows or tokens")
        return self


@dataclass(frozen=True)
class PlannedStage:
    """A stage whose budgets have all become updates."""

    name: str
    steps: dict[str, int]
    rows: int | None = None
    tokens: int | None = None


class BatchWarmup(Section):
    """Smaller batches at the beginning of a run."""

    change: ClassVar[Change] = "frozen"

    start: Annotated[float, Field(gt=0, le=1)]
    """The first batch, as a share of the full one."""
    steps: Count
    """Steps over which batches grow in a straight line to the full size."""


class Batch(Section):
    """How much goes into one update, over all workers."""

    change: ClassVar[Change] = "frozen"

    rows: Count | None = None
    """Examples in a batch. Give this or `tokens`."""
    tokens: Count | None = None
    """Tokens in a batch; the rows are this divided by the mean length of the task's examples."""
    micro: Annotated[Count | Literal["auto"], Field(json_schema_extra=ALLOWED)] = 16
    """Most rows that a worker forwards at once; more are accumulated. auto finds how many fit when the run starts, and writes that
    into the run."""
    warmup: BatchWarmup | None = None
    """Batches that grow at the beginning of the run."""
    lanes: Count = 64
    """Virtual readers that a data set is dealt to, fixed for the run; at most its rows."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.rows is None) == (self.tokens is None):
            raise ValueError("give either rows or tokens")
        return self

    @property
    def micro_rows(self) -> int:
        """Most rows of a micro-batch; 1 until somebody has chosen."""
        return 1 if self.micro == "auto" else self.micro

    def rows_of(self, mean_tokens: float) -> int:
        """Return the rows of a batch whose examples have `mean_tokens` on average."""
        return self.rows or max(1, round((self.tokens or 0) / mean_tokens))


class Engine(Section):
    """How the work is spread and in which precision it is done."""

    change: ClassVar[Change] = "allowed"

    workers: Count = 1
    """Ranks, one a GPU or a few CPU cores."""
    threads: Count = 1
    """CPU threads of a worker."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed shards: nothing, optimizer state, gradients too, parameters too."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Field(json_schema_extra=REASON)] = "fp32"
    """What the forward pass computes in; weights and optimizer state stay fp32. fp16 has a dynamic loss scale, for GPUs without
    bf16. auto takes what this machine is good at when the run starts, and writes it into the run."""
    determinism: Literal["strict", "fast"] = "strict"
    """On GPUs: strict gives equal bits to equal runs as far as kernels allow, fast gives equal rows and masks only."""
    timeout_seconds: Count = 600
    """How long a worker may get nowhere, by itself or waiting for others, before all leave their stacks and the attempt ends with exit
    code 60."""


class Checkpoints(Section):
    """When state is written, and how much of it is kept."""

    change: ClassVar[Change] = "allowed"

    every_steps: Count = 1000
    keep_last: Annotated[int, Field(ge=2)] = 3


class Probe(Section):
    """A small classifier that is fitted to the states of the model as it is. It is fitted anew each time, and the model learns nothing."""

    change: ClassVar[Change] = "allowed"

    sources: Annotated[Any, plugin({"labelled": Labelled})]
    """Where its items are: one source of kind labelled, with files or a share for train and for validation."""
    format: Annotated[Any, plugin({"texts": Texts, "tagged_words": TaggedWords})]
    """How items become rows: texts or tagged_words."""
    labels: Names
    """The names of the classes or tags."""
    every_steps: Count | None = None
    """Steps from one measurement to the next; left out, at each evaluation."""
    rows: Count = 512
    """Rows to fit to, and rows to measure on, at most; they are spread evenly over what there is."""

    @model_validator(mode="after")
    def _can_be_fitted(self) -> Self:
        if not isinstance(self.sources, Labelled) or not isinstance(self.format, Texts | TaggedWords):
            raise ValueError("a probe needs a source of kind labelled, and the format texts or tagged_words")
        missing = [split for split in ("train", "validation") if not self.sources.has(split)]
        if missing:
            raise ValueError(f"sources: there is nothing for {missing[0]}; name files for train, and files or a share for validation")
        if self.sources.reader.makes is not self.format.reads:
            raise ValueError(f"format: {self.format.kind} does not read what the reader {self.sources.reader.kind} makes; take another")
        if isinstance(self.format, Texts) and self.format.both_orders:
            raise ValueError("format.both_orders: a probe reads each pair once; leave it out")
        if isinstance(self.format, TaggedWords) and len(self.labels) > NO_LABEL:
            raise ValueError(f"labels: there are {len(self.labels)}, and at most {NO_LABEL} tags")
        return self

    def data_of(self, name: str) -> str:
        """Return what its data set is called in a run; with other items, rows or labels it is another one."""
        told = self.model_dump(mode="json", include={"sources", "format", "labels"})
        return f"{PROBE}{name}:{digest(told)[:8]}"


class Evaluation(Section):
    """Held-out loss during training, and what the states of the model are good for."""

    change: ClassVar[Change] = "allowed"

    every_steps: Count = 1000
    rows: Count = 512
    """Held-out examples of each task, at most; its sources share them. Their masks are the same every time."""
    # Left out where there are none, so that resolved recipes from before there were such stay as they are.
    downstream: dict[Name, Probe] = Field(default={}, exclude_if=operator.not_)
    """Labelled data on which to probe the model as it learns, by name."""


class Data(Section):
    """Reading examples during training."""

    change: ClassVar[Change] = "allowed"

    loader_processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that read ahead for each worker; 0 reads ahead in a thread. The order never depends on it."""
    prefetch_steps: Count = 4


class Metrics(Section):
    """The Prometheus endpoint of worker 0."""

    change: ClassVar[Change] = "allowed"

    host: str = "127.0.0.1"
    """Interface to listen on; the default can be reached from this machine only."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 takes a free port and says which."""
    trackers: tuple[Annotated[SerializeAsAny[TrackerSettings], plugin(TRACKERS)], ...] = ()
    """Where else curves are kept: tensorboard, wandb, mlflow; docs/trackers.md."""


class Extension(Section):
    """A run that was made longer than planned; ptm train --extend writes it."""

    change: ClassVar[Change] = "frozen"

    after_steps: Count
    """The steps that were planned at first."""
    rate: ExtendedRate
    """The learning rate: its shape over all steps, so that it jumps up; what it was at the last planned step; a new warm-up and decay."""
    sources: tuple[Name, ...] = ()
    """Sources that have joined, in their order: they teach the tokenizer nothing, and lose what they share with those before them."""
