"""How a family's settings and weights stand in a Hugging Face folder: one table a family, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.base import Family, stored_shape
from ptm_dist.models.interop.folder import Config, Tensors, require_tensors

PAIR: HeadSpec = HeadSpec("sequence", 2)
"""The head that tells true pairs of sentences; the only classifier that Hugging Face's pretraining classes have a place for."""


class Layout:
    """The table of a family. Our weights go by the names of the pretraining module; the head of pairs of sentences is `sequence`."""

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

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class of transformers that has these heads."""
        raise NotImplementedError

    def to_hugging_face(self, weights: Tensors, settings: Any, vocabulary: Vocabulary) -> tuple[Config, Tensors]:
        """Return config.json and the tensors; heads without a place in transformers stay behind.

        Raises:
            ConfigError: the class of transformers cannot compute what this model computes, or weights are missing or misshapen.

        """
        heads = [head for head in self.heads if head in self.always or any(name.startswith(f"heads.{head}.") for name in weights)]
        shapes = self._shapes(settings, vocabulary, heads)
        kept = {name: weight for name, weight in weights.items() if name.startswith(("backbone.", *(f"heads.{head}." for head in heads)))}
        require_tensors(kept, shapes, "weights")
        config = {"architectures": [self.architecture(heads)], "model_type": self.model_type, **self.fixed}
        config |= {theirs: getattr(settings, ours) for ours, theirs in self.fields.items()}
        config |= {"vocab_size": vocabulary.size, "pad_token_id": vocabulary.pad, "bos_token_id": vocabulary.begin}
        config |= {"eos_token_id": vocabulary.end, "dtype": str(next(iter(kept.values())).dtype).removeprefix("torch.")}
        tensors = {self.theirs(name, settings): self._turned(name, kept[name]) for name in shapes}
        return config | self.config_of(settings, vocabulary), self.tensors_out(tensors, settings)

    def from_hugging_face(self, config: Config, tensors: Tensors) -> tuple[Any, Tensors]:
        """Return the family's settings and weights.

        Raises:
            ConfigError: ptm_dist cannot compute what that model computes, or tensors are missing, extra or misshapen.

        """
        config = {**self.fixed, **self.defaults, **config}
        tensors = self._clean(tensors)
        settings = self._settings(config, tensors)
        heads = [head for head in self.heads if head in self.always or any(name.startswith(self._prefixes(head)) for name in tensors)]
        shapes = self._shapes(settings, self.vocabulary(config), heads)
        wanted = {self.theirs(name, settings): shape[::-1] if self._is_turned(name) else shape for name, shape in shapes.items()}
        require_tensors(tensors, wanted | self.extra_shapes(settings), "tensors")
        tensors = self.tensors_in(tensors, settings)
        return settings, {name: self._turned(name, tensors[self.theirs(name, settings)]) for name in shapes}

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

    def _clean(self, tensors: Tensors) -> Tensors:
        kept = {name: tensor for name, tensor in tensors.items() if not any(re.search(pattern, name) for pattern in self.unused)}
        if self.prefix and not any(name.startswith(self.prefix) for name in kept):
            known = tuple(self.names.values())
            kept = {name if name.startswith(known) else self.prefix + name: tensor for name, tensor in kept.items()}
        for copy, original in self.copies.items():
            if copy in kept and original in kept and not torch.equal(kept[copy], kept[original]):
                raise ConfigError(f"tensors: {copy} differs from {original}; ptm_dist shares them, so this model cannot be imported.")
        # Some files hold the copy alone.
        moved = {original: kept[copy] for copy, original in self.copies.items() if copy in kept and original not in kept}
        return {name: tensor for name, tensor in (kept | moved).items() if name not in self.copies}

    def _prefixes(self, head: str) -> tuple[str, ...]:
        return tuple(theirs for ours, theirs in self.names.items() if ours.startswith(f"heads.{head}."))

    def _shapes(self, settings: Family, vocabulary: Vocabulary, heads: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the stored shape of every parameter of the backbone and these heads, shared ones once."""
        with torch.device("meta"):
            backbone = settings.backbone(vocabulary)
            made = nn.ModuleDict({head: settings.head(self.heads[head], backbone, vocabulary) for head in heads})
        parameters = nn.ModuleDict({"backbone": backbone, "heads": made}).named_parameters()
        return {name: stored_shape(weight) for name, weight in parameters}

    def _is_turned(self, name: str) -> bool:
        return name.endswith(tuple(f"{part}.weight" for part in self.transposed)) if self.transposed else False

    def _turned(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.T.contiguous() if self._is_turned(name) else tensor
