"""How a family's settings and weights stand in a Hugging Face folder: one table a family, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ptm_dist.data.batch import HeadKind, HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.base import Family, stored_shape
from ptm_dist.models.interop.folder import Config, Tensors, require_tensors

PAIR: HeadSpec = HeadSpec("sequence", 2)
"""The head that tells true pairs of sentences; the only classifier that Hugging Face's pretraining classes have a place for."""

INSTEAD: Final = "The run itself predicts: ptm model predict RUN; ptm checkpoint convert makes one file of it to carry elsewhere."
"""What to do with a model that transformers has no class for."""


@dataclass(frozen=True)
class TaskHead:
    """The head of a labelled task; `names` are its classes or tags in the order of their numbers."""

    spec: HeadSpec
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> Config:
        """What every class of transformers with such a head wants to know."""
        if self.spec.kind == "value":
            return {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "problem_type": "regression"}
        if not self.names:
            return {}
        numbers = {name: number for number, name in enumerate(self.names)}
        found = {"id2label": {str(number): name for name, number in numbers.items()}, "label2id": numbers}
        return found | ({"problem_type": "single_label_classification"} if self.spec.kind == "text" else {})


class Layout:
    """The table of a family.

    Our weights go by the names of the pretraining module; the head of pairs of sentences is `sequence`, that of a labelled task has the
    name of its kind.
    """

    family: ClassVar[type[BaseModel]]
    model_type: ClassVar[str]
    fields: ClassVar[Mapping[str, str]]
    """Our setting: its name in config.json."""
    defaults: ClassVar[Mapping[str, Any]]
    """What transformers takes for a key that config.json does not have, unless that is what `fixed` says."""
    fixed: ClassVar[Mapping[str, Any]]
    """What config.json must say of every model of this family."""
    activations: ClassVar[Mapping[str, str]] = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
    """Our name of an activation: theirs."""
    synonyms: ClassVar[Mapping[str, str]] = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new"}
    """Other names that transformers has for an activation."""
    prefix: ClassVar[str]
    """What the names of the backbone begin with, in all classes but that of the bare backbone."""
    names: ClassVar[Mapping[str, str]]
    """Our module or parameter: its name in transformers. An asterisk is the number of a layer."""
    transposed: ClassVar[tuple[str, ...]] = ()
    """Our modules (the last parts of their names) whose matrix transformers stores the other way round."""
    copies: ClassVar[Mapping[str, str]]
    """Tensors that some files hold twice: the copy, and what it is tied to."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Patterns of names in older files that carry nothing."""
    heads: ClassVar[Mapping[str, HeadSpec]]
    """The heads that have a place in transformers, by our name."""
    always: ClassVar[tuple[str, ...]] = ()
    """Heads without weights of their own: every model has them."""
    tasks: ClassVar[Mapping[str, str]] = {}
    """The class of transformers that has the head of each kind of labelled task."""
    task_dropouts: ClassVar[Mapping[str, str]] = {}
    """What config.json calls the dropout of that head."""

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class of transformers that has these heads."""
        raise NotImplementedError

    def to_hugging_face(
        self, weights: Tensors, settings: Any, vocabulary: Vocabulary, task: TaskHead | None = None
    ) -> tuple[Config, Tensors]:
        """Return config.json and the tensors; heads without a place in transformers stay behind, of labelled tasks all but that of `task`.

        Raises:
            ConfigError: the class of transformers cannot compute what this model computes, or weights are missing or misshapen.

        """
        if task:
            self._require_class(task.spec)
            weights, settings = self.for_task(weights, settings, task.spec.kind)
        heads = {task.spec.kind: task.spec} if task else self._pretrained_heads(weights, lambda head: (f"heads.{head}.",))
        shapes = self._shapes(settings, vocabulary, heads)
        kept = {name: weight for name, weight in weights.items() if name.startswith(("backbone.", *(f"heads.{head}." for head in heads)))}
        require_tensors(kept, shapes, "weights")
        made = self.tasks[task.spec.kind] if task else self.architecture(heads)
        config = {"architectures": [made], "model_type": self.model_type, **self.fixed}
        config |= {theirs: getattr(settings, ours) for ours, theirs in self.fields.items()}
        config |= {"vocab_size": vocabulary.size, "pad_token_id": vocabulary.pad, "bos_token_id": vocabulary.begin}
        config |= {"eos_token_id": vocabulary.end, "dtype": str(next(iter(kept.values())).dtype).removeprefix("torch.")}
        tensors = {self.theirs(name, settings): self._turned(name, kept[name]) for name in shapes}
        config |= self.config_of(settings, vocabulary) | (self._task_config(task) if task else {})
        return config, self.tensors_out(tensors, settings)

    def from_hugging_face(self, config: Config, tensors: Tensors) -> tuple[Any, Tensors]:
        """Return the family's settings and weights.

        Raises:
            ConfigError: ptm_dist cannot compute what that model computes, or tensors are missing, extra or misshapen.

        """
        config = {**self.fixed, **self.defaults, **config}
        spec = self._task_of(config, tensors)
        tensors = self.cleaned(tensors, self._prefixes(spec.kind) if spec else ())
        settings = self._settings(config, tensors)
        heads = {spec.kind: spec} if spec else self._pretrained_heads(tensors, self._prefixes)
        shapes = self._shapes(settings, self.vocabulary(config), heads)
        wanted = {self.theirs(name, settings): shape[::-1] if self._is_turned(name) else shape for name, shape in shapes.items()}
        require_tensors(tensors, wanted | self.extra_shapes(settings), "tensors")
        tensors = self.tensors_in(tensors, settings)
        return settings, {name: self._turned(name, tensors[self.theirs(name, settings)]) for name in shapes}

    def for_task(self, weights: Tensors, settings: Any, kind: str) -> tuple[Tensors, Any]:
        """Return weights and settings without what the class for a labelled task has no place for; a family overrides this.

        Raises:
            ConfigError: that class cannot compute what this model computes.

        """
        return weights, settings

    def config_of(self, settings: Any, vocabulary: Vocabulary) -> Config:
        """Return what config.json says that no table can; a family overrides this.

        Raises:
            ConfigError: the class of transformers cannot compute this.

        """
        return {}

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the settings that `config_of` wrote, the way back."""
        return {}

    def tensors_out(self, tensors: Tensors, settings: Any) -> Tensors:
        """Return the tensors with what transformers has and ptm_dist has not."""
        return tensors

    def extra_shapes(self, settings: Any) -> dict[str, tuple[int, ...]]:
        """Return name and shape of what `tensors_out` puts in that no parameter of ours stands for."""
        return {}

    def tensors_in(self, tensors: Tensors, settings: Any) -> Tensors:
        """Return the tensors with what those extra ones say worked into the others.

        Raises:
            ConfigError: they hold something that ptm_dist cannot compute.

        """
        return tensors

    def vocabulary(self, config: Config) -> Vocabulary:
        """Return a vocabulary of the size in config.json; no shape depends on a special id."""
        pad = config.get("pad_token_id") or 0
        return Vocabulary(config["vocab_size"], begin=0, pad=pad, end=0, unknown=0, mask=0)

    def theirs(self, name: str, settings: Any) -> str:
        """Return the name of one of our parameters in transformers."""
        module, _, leaf = name.rpartition(".")
        pattern = re.sub(r"\.\d+(?=\.|$)", ".*", module)
        number = re.search(r"\.(\d+)(?=\.|$)", module)
        found = self.names.get(f"{pattern}.{leaf}") or f"{self.names[pattern]}.{leaf}"
        return found.replace("*", number[1]) if number else found

    def _settings(self, config: Config, tensors: Tensors) -> Any:
        must = {"model_type": self.model_type, **self.fixed}
        wrong = [f"{key} is {config.get(key)!r}, must be {value!r}" for key, value in must.items() if config.get(key) != value]
        if wrong:
            raise ConfigError(f"config.json: {'; '.join(wrong)}. ptm_dist cannot compute what that model computes.")
        given = {ours: config[theirs] for ours, theirs in self.fields.items()} | self.settings_of(config, tensors)
        try:
            return self.family.model_validate(given)
        except ValidationError as error:
            reasons = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
            raise ConfigError(f"config.json gives impossible settings: {reasons}. Correct them there.") from error

    def activation(self, config: Config, key: str) -> str:
        """Return our name of the activation at `key`.

        Raises:
            ConfigError: there is none.

        """
        theirs = self.synonyms.get(config[key], config[key])
        for ours, known in self.activations.items():
            if known == theirs:
                return ours
        raise ConfigError(f"config.json: {key} is {config[key]!r}, ptm_dist has {', '.join(self.activations.values())}.")

    def cleaned(self, tensors: Tensors, needed: tuple[str, ...] = ()) -> Tensors:
        """Return tensors by their full names, without copies and, but for what begins with `needed`, without what carries nothing.

        Raises:
            ConfigError: what should be a copy is none.

        """
        unused = {name for name in tensors if any(re.search(pattern, name) for pattern in self.unused) and not name.startswith(needed)}
        kept = {name: tensor for name, tensor in tensors.items() if name not in unused}
        if self.prefix and not any(name.startswith(self.prefix) for name in kept):
            known = tuple(self.names.values())
            kept = {name if name.startswith(known) else self.prefix + name: tensor for name, tensor in kept.items()}
        for copy, original in self.copies.items():
            if copy in kept and original in kept and not torch.equal(kept[copy], kept[original]):
                raise ConfigError(f"tensors: {copy} differs from {original}; ptm_dist shares them, so this model cannot be imported.")
        # Some files hold the copy alone.
        moved = {original: kept[copy] for copy, original in self.copies.items() if copy in kept and original not in kept}
        return {name: tensor for name, tensor in (kept | moved).items() if name not in self.copies}

    def _pretrained_heads(self, tensors: Tensors, prefixes: Callable[[str], tuple[str, ...]]) -> dict[str, HeadSpec]:
        """Return the heads of pretraining that have tensors."""
        found = [head for head in self.heads if head in self.always or any(name.startswith(prefixes(head)) for name in tensors)]
        return {head: self.heads[head] for head in found}

    def _task_of(self, config: Config, tensors: Tensors) -> HeadSpec | None:
        """Return the head of a labelled task that a folder has, by the name of its class; tensors tell how many classes there are."""
        kinds = [kind for kind, name in self.tasks.items() if name == (config.get("architectures") or [""])[0]]
        own = tuple(name for kind in kinds[:1] for name in self._prefixes(kind) if not name.startswith(self.prefix))
        if not any(name.startswith(own) for name in tensors):
            return None
        last = tensors.get(f"{self.names.get(f'heads.{kinds[0]}.classify')}.weight")
        classes = 0 if last is None else len(last)
        kind = cast("HeadKind", "value" if "value" in kinds and classes == 1 else kinds[0])
        return HeadSpec(kind, classes if kind in {"text", "tags"} else 0)

    def _require_class(self, spec: HeadSpec) -> None:
        name = self.model_type
        if spec.kind not in self.tasks:
            have = f"it has {', '.join(sorted(set(self.tasks.values())))}" if self.tasks else "it has none for this family"
            raise ConfigError(f"transformers has no class for a head of kind {spec.kind} over {name}; {have}. {INSTEAD}")
        if spec.views > 1:
            raise ConfigError(f"no class of transformers reads a text in {spec.views} orders and adds up. Train with views: 1. {INSTEAD}")

    def _task_config(self, task: TaskHead) -> Config:
        kind = task.spec.kind
        return task.labels | ({self.task_dropouts[kind]: task.spec.dropout} if kind in self.task_dropouts else {})

    def _prefixes(self, head: str) -> tuple[str, ...]:
        return tuple(theirs for ours, theirs in self.names.items() if ours.startswith(f"heads.{head}."))

    def _shapes(self, settings: Family, vocabulary: Vocabulary, heads: Mapping[str, HeadSpec]) -> dict[str, tuple[int, ...]]:
        """Return the stored shape of every parameter of the backbone and these heads, shared ones once."""
        with torch.device("meta"):
            backbone = settings.backbone(vocabulary)
            made = nn.ModuleDict({head: settings.head(spec, backbone, vocabulary) for head, spec in heads.items()})
        parameters = nn.ModuleDict({"backbone": backbone, "heads": made}).named_parameters()
        return {name: stored_shape(weight) for name, weight in parameters}

    def _is_turned(self, name: str) -> bool:
        return name.endswith(tuple(f"{part}.weight" for part in self.transposed)) if self.transposed else False

    def _turned(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.T.contiguous() if self._is_turned(name) else tensor
