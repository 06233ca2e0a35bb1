"""Filled masks, continued texts and vectors, from an exported folder."""

import pytest
import torch
from torch import nn

from ptm_dist.corpus.tokenizer import ByteBPE, FolderTokenizer, load_tokenizer
from ptm_dist.corpus.word_list import WordList
from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.characters import character_ids
from ptm_dist.errors import ConfigError
from ptm_dist.inference import Model, continue_text, cosine, embed, fill_mask, open_model
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.generate import Sampling
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.interop import LAYOUTS, read_model
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.models.roberta import Roberta
from tests.tiny import ptm

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    text = "the cat sat on the mat and the other cat did not, naïve café 深度学习 " * 20
    for name, data in ByteBPE(vocab_size=320).train(iter([text])).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """Return an exported folder of a family."""

    def made(settings, kind):
        vocabulary = load_tokenizer(tokenizer).vocabulary
        torch.manual_seed(0)
        backbone = settings.backbone(vocabulary)
        heads = nn.ModuleDict({kind: settings.head(HeadSpec(kind), backbone, vocabulary)})
        model = nn.ModuleDict({"backbone": backbone, "heads": heads})
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3)
        weights = {name: weight.detach()[: getattr(weight, "stored_rows", None)] for name, weight in model.named_parameters()}
        target = tmp_path_factory.mktemp("model") / "export"
        write_folder(target, *LAYOUTS[settings.kind].to_hugging_face(weights, settings, vocabulary), tokenizer, "# A model\n")
        return str(target)

    return made


@pytest.fixture(scope="module")
def roberta(folder):
    return folder(Roberta(layers=2, hidden=24, heads=2, intermediate=40, positions=40), "masked_lm")


@pytest.fixture(scope="module")
def gpt2(folder):
    return folder(Gpt2(layers=2, hidden=24, heads=2, positions=40), "causal_lm")


@torch.no_grad()
def test_masks_are_filled_as_transformers_fills_them(roberta):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    theirs, tokenizer = AutoModelForMaskedLM.from_pretrained(roberta).eval(), AutoTokenizer.from_pretrained(roberta)
    text = "the <mask> sat on<mask> mat"
    inputs = tokenizer(text, return_tensors="pt")
    logits = theirs(**inputs).logits[0, inputs["input_ids"][0] == tokenizer.mask_token_id]
    logits[:, tokenizer.all_special_ids] = -torch.inf
    shares, ids = logits.softmax(-1).topk(4)
    for form in (text, text.replace("<mask>", "[MASK]")):
        found = fill_mask(open_model(roberta), form, 4)
        assert [[word for word, _ in guesses] for guesses in found] == [[tokenizer.decode(i).strip() for i in row] for row in ids]
        assert torch.allclose(torch.tensor([[share for _, share in guesses] for guesses in found]), shares, atol=1e-5)


def test_what_cannot_be_filled_is_said(roberta, gpt2):
    with pytest.raises(ConfigError, match="there is no mask to fill"):
        fill_mask(open_model(roberta), "the cat")
    with pytest.raises(ConfigError, match="was not trained with masked_lm; it has causal_lm"):
        fill_mask(open_model(gpt2), "the [MASK]")
    with pytest.raises(ConfigError, match="this model takes 40"):
        fill_mask(open_model(roberta), "[MASK]" + " cat" * 60)


def test_text_goes_on_as_far_as_the_model_does(gpt2):
    model = open_model(gpt2)
    texts = ["".join(continue_text(model, "the cat", count, GREEDY)) for count in (3, 10, 1000)]
    assert texts[1].startswith(texts[0])
    assert texts[2].startswith(texts[1])
    assert "".join(continue_text(model, "", 30, Sampling())), "without a prompt the token that begins a text is one"
    with pytest.raises(ConfigError, match="the prompt has"):
        list(continue_text(model, "cat " * 60, 3, GREEDY))


def test_pieces_never_show_half_a_character(gpt2):
    model = open_model(gpt2)
    for seed in range(5):
        pieces = list(continue_text(model, "naïve ", 30, Sampling(), seed))
        assert not any(piece.endswith("\ufffd") for piece in pieces)


@torch.no_grad()
def test_vectors_are_means_of_states(roberta):
    model = open_model(roberta)
    found = embed(model, "the cat sat", "CAT")
    ids = [0, *model.tokenizer.encode(["the cat sat"])[0].tolist(), 2]
    states = model.states(ids)
    assert torch.allclose(found.mean, states.mean(0))
    inside = [number for number, token in enumerate(ids) if model.tokenizer.decode([token]) == " cat"]
    assert torch.allclose(found.word, states[inside].mean(0))
    assert cosine(found.word, found.word) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="does not stand in it"):
        embed(model, "the cat sat", "dog")


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no weights"):
        open_model(str(tmp_path))


def test_the_commands(roberta, gpt2):
    filled = ptm("model", "fill-mask", roberta, "the [MASK] sat", "--top", "2")
    assert filled.returncode == 0, filled.stderr
    assert filled.stdout.splitlines()[0] == "the [MASK] sat"
    assert filled.stdout.count("%") == 2
    once, again = (ptm("model", "generate", gpt2, "the cat", "--tokens", "8", "--top-p", "0.9").stdout for _ in range(2))
    assert once == again
    assert once.startswith("the cat")
    compared = ptm("model", "embed", roberta, "--word", "cat", "the cat sat", "the other cat did not")
    assert compared.stdout.rstrip().endswith("cat: the cat sat | the other cat did not")


@torch.no_grad()
def test_elmo_reads_words_by_their_letters_and_in_context():
    settings = Elmo(cell=12, projection=8, filters=((1, 4), (2, 6)), highways=1, softmax="full")
    opened = FolderTokenizer(WordList(least_count=1).train(iter(["the bank of my"])).__getitem__)
    backbone = settings.backbone(opened.vocabulary)
    head = settings.head(HeadSpec("bidirectional_lm"), backbone, opened.vocabulary)
    weights = nn.ModuleDict({"backbone": backbone, "heads": nn.ModuleDict({"bidirectional_lm": head})}).named_parameters()
    model = Model("elmo", settings, opened, {name: weight[: getattr(weight, "stored_rows", None)] for name, weight in weights})
    texts = ("the bank of a river.", "my bank gave me money", "the bank of a river.")
    river, money, again = (embed(model, text, "bank") for text in texts)
    assert torch.equal(river.word, again.word)
    assert cosine(river.word, money.word) < 0.999999
    characters = torch.from_numpy(character_ids(["<S>", "the", "bank", "of", "a", "river", ".", "</S>"]))[None]
    layers, _ = backbone.eval().representations(characters, torch.tensor([8]))
    assert torch.allclose(river.word, layers[0, :, 2].mean(0))
    assert torch.allclose(river.mean, layers[0].mean(0)[1:-1].mean(0))


def test_elmo_goes_out_and_comes_in(tokenizer, tmp_path):
    settings = Elmo(cell=12, projection=8, filters=((1, 4), (2, 6)), softmax="full", dropout=0.2)
    vocabulary = load_tokenizer(tokenizer).vocabulary
    heads = {"bidirectional_lm": settings.head(HeadSpec("bidirectional_lm"), settings.backbone(vocabulary), vocabulary)}
    parameters = nn.ModuleDict({"backbone": settings.backbone(vocabulary), "heads": nn.ModuleDict(heads)}).named_parameters()
    weights = {name: weight.detach()[: getattr(weight, "stored_rows", None)] for name, weight in parameters}
    config, tensors = LAYOUTS["elmo"].to_hugging_face(weights, settings, vocabulary)
    write_folder(tmp_path / "elmo", config, tensors, tokenizer, "# ELMo\n")
    read, back = read_model(tmp_path / "elmo")
    assert read == settings
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weight) for name, weight in weights.items())
    again = LAYOUTS["elmo"].to_hugging_face(back, read, vocabulary)
    assert again[0] == config
    with pytest.raises(ConfigError, match=r"backbone\.words\.project\.weight is missing"):
        LAYOUTS["elmo"].from_hugging_face(config, {name: tensor for name, tensor in tensors.items() if "words.project.weight" not in name})
