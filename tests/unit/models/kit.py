"""What the tests of all families share: small models of odd shapes, random rows, and the same model in transformers."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.albert import Albert
from ptm_dist.models.bert import Bert
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.roberta import Roberta
from ptm_dist.models.xlnet import Xlnet

PAIR = HeadSpec("sequence", 2)
ODD = [
    {"layers": 1, "hidden": 12, "heads": 3, "positions": 17},
    {"layers": 3, "hidden": 24, "heads": 4, "positions": 9},
    {"layers": 2, "hidden": 40, "heads": 1, "positions": 31, "norm_eps": 1e-3},
    {"layers": 4, "hidden": 30, "heads": 10, "positions": 64},
]
SIZES = [71, 130, 64, 515]
"""Shapes and vocabularies, none of them round."""
UNLIKE = [{"intermediate": width, "memory_length": 0} for width in (20, 33, 7, 90)]
"""What only some families have."""
OWN = {
    Bert: [{"activation": "gelu_tanh"}, {"segments": 3}, {"pooler": False}, {"activation": "relu"}],
    Roberta: [{}, {}, {}, {}],
    Ernie: [{}, {"segments": 4, "task_types": 16}, {"activation": "gelu"}, {"segments": 4, "task_types": 3}],
    Albert: [
        {"embedding": 5},
        {"embedding": 24, "layers": 4, "groups": 2},
        {"embedding": 7, "inner_groups": 2},
        {"embedding": 3, "activation": "relu"},
    ],
    Gpt: [{}, {}, {}, {}],
    Gpt2: [{}, {}, {}, {}],
    Xlnet: [{"head_width": 4}, {"head_width": 6, "activation": "relu"}, {"head_width": 40, "clamp_length": 4}, {"head_width": 3}],
}
"""What is special about each family, one variant a shape."""


def variants() -> list[tuple[object, int]]:
    """Return every family in every odd shape, with a size of vocabulary."""
    found = []
    for family, own in OWN.items():
        for number, (shape, more) in enumerate(zip(ODD, own, strict=True)):
            common = {name: value for name, value in (shape | UNLIKE[number]).items() if name in family.model_fields}
            found.append((family(**(common | more)), SIZES[number]))
    return found


def name_of(value: object) -> str | None:
    """Return how a test names a variant."""
    return f"{value.kind}-{value.layers}x{value.hidden}" if hasattr(value, "kind") else None


def vocabulary_of(size: int) -> Vocabulary:
    return Vocabulary(size, begin=0, pad=1, end=2, unknown=3, mask=size - 1)


def heads_of(settings: object) -> dict[str, HeadSpec]:
    """Return the heads that transformers has for this variant."""
    heads = dict(LAYOUTS[settings.kind].heads)
    if not getattr(settings, "pooler", True):
        heads.pop("sequence")
    return heads


def build(settings: object, size: int, heads: dict[str, HeadSpec] | None = None) -> nn.ModuleDict:
    """Return backbone and heads, named as in the pretraining module."""
    vocabulary = vocabulary_of(size)
    backbone = settings.backbone(vocabulary)
    specs = heads_of(settings) if heads is None else heads
    made = nn.ModuleDict({name: settings.head(spec, backbone, vocabulary) for name, spec in specs.items()})
    return nn.ModuleDict({"backbone": backbone, "heads": made}).eval()


@torch.no_grad()
def randomise(model: nn.Module, std: float = 0.2) -> None:
    """Every number counts: biases are not zero, LayerNorms not the identity, padded rows not empty."""
    for name, weight in model.named_parameters():
        norm = any(part in name.lower() for part in ("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
        weight.normal_(mean=1.0 if norm else 0.0, std=std)


def stored(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights as a checkpoint has them."""
    return {name: weight.detach()[: getattr(weight, "stored_rows", None)] for name, weight in model.named_parameters()}


@torch.no_grad()
def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    assert weights.keys() == dict(model.named_parameters()).keys()
    for name, weight in weights.items():
        model.get_parameter(name)[: weight.shape[0]].copy_(weight)


def rows_of(settings: object, size: int, rows: int = 5) -> tuple[dict[str, Tensor], Tensor]:
    """Return random rows, the first as long as the tables allow, the others padded, with all inputs that the family looks up."""
    length = getattr(settings, "positions", 15)
    lengths = torch.randint(1, length + 1, (rows,))
    lengths[0] = length
    inputs = {"tokens": torch.randint(4, size, (rows, length)).masked_fill(~real(lengths, length), 1)}
    for name, number in getattr(settings, "tables", {}).items():
        inputs[name] = torch.randint(number, (rows, length))
    return inputs, lengths


def real(lengths: Tensor, length: int) -> Tensor:
    """Return bool [R, L], true at real tokens."""
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def outputs_of(model: nn.ModuleDict, inputs: dict[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
    """Return states and logits of all heads at valid positions, of sequence heads at the first."""
    hidden, _ = model.backbone(inputs, lengths)
    length = hidden.shape[1]
    valid = real(lengths, length)
    everywhere, first = valid.flatten().nonzero().squeeze(1), torch.arange(len(lengths), device=lengths.device) * length
    logits = {name: head(hidden, first if name == "sequence" else everywhere) for name, head in model.heads.items()}
    return {"states": hidden[valid]} | logits


def reference_of(config: dict, tensors: dict[str, Tensor] | None = None) -> nn.Module:
    """Return the model of transformers that a config names, with these tensors: all of them, and nothing but copies left out."""
    kind = getattr(transformers, config["architectures"][0])
    reference = kind(transformers.AutoConfig.for_model(**config)).eval()
    if tensors is not None:
        reference = reference.to(next(iter(tensors.values())).dtype)
        missing, extra = reference.load_state_dict(tensors, strict=False)
        assert set(missing) <= set(LAYOUTS_BY_TYPE[config["model_type"]].copies)
        assert not extra
    return reference


LAYOUTS_BY_TYPE = {layout.model_type: layout for layout in LAYOUTS.values()}
INPUT_NAMES = {"tokens": "input_ids", "segments": "token_type_ids", "task_types": "task_type_ids"}


def reference_outputs(reference: nn.Module, inputs: dict[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
    """Return the same from transformers."""
    valid = real(lengths, inputs["tokens"].shape[1])
    named = {INPUT_NAMES[name]: values for name, values in inputs.items()}
    found = reference(attention_mask=valid.long(), output_hidden_states=True, **named)
    outputs = {"states": found.hidden_states[-1][valid]}
    for name, ours in (("logits", "lm"), ("prediction_logits", "lm"), ("seq_relationship_logits", "sequence"), ("sop_logits", "sequence")):
        if getattr(found, name, None) is not None:
            outputs[ours] = found[name][valid] if ours == "lm" else found[name]
    return outputs


def worst(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Return the largest difference of any output that both have; heads of language models go by one name in transformers."""
    named = {name if name in {"states", "sequence"} else "lm": values for name, values in found.items()}
    assert named.keys() == wanted.keys()
    return max((named[name] - wanted[name]).abs().max().item() for name in named)
