"""Text from left to right."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.batch import HeadSpec
from ptm_dist.errors import ConfigError
from ptm_dist.models.generate import Sampling, generate
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.roberta import Roberta
from ptm_dist.models.xlnet import Xlnet, next_token_inputs
from tests.unit.models.kit import build, randomise, reference_of, stored, vocabulary_of

SIZE = 50
GREEDY = Sampling(temperature=0)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(family):
    model = build(family(layers=2, hidden=24, heads=2, positions=32), SIZE).double()
    randomise(model, 0.5)
    return model


def taken(model, prompt, count, sampling, seed=1):
    head = next(iter(model.heads.values()))
    return list(islice(generate(model.backbone, head, prompt, sampling, torch.Generator().manual_seed(seed)), count))


@pytest.mark.parametrize("family", [Gpt, Gpt2])
def test_greedy_text_is_that_of_transformers(family):
    model = small(family)
    settings = family(layers=2, hidden=24, heads=2, positions=32)
    config, tensors = LAYOUTS[settings.kind].to_hugging_face(stored(model), settings, vocabulary_of(SIZE))
    reference = reference_of(config, tensors)
    wanted = reference.generate(torch.tensor([[5, 9, 7]]), max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=1)
    assert taken(model, [5, 9, 7], 20, GREEDY) == wanted[0, 3:].tolist()


@torch.no_grad()
def test_xlnet_goes_on_from_a_memory_of_filled_segments():
    """By hand: the full segments one after the other, then a position that is asked for."""
    settings = Xlnet(layers=2, hidden=24, heads=2, head_width=12, intermediate=20, memory_length=4, reuse_length=4)
    backbone = settings.backbone(vocabulary_of(SIZE)).double().eval()
    head = settings.head(HeadSpec("permutation_lm"), backbone, vocabulary_of(SIZE)).double()
    randomise(backbone, 0.5)
    text = [5, 9, 7, 8, 6, 10]
    found = list(islice(generate(backbone, head, text, GREEDY, torch.Generator()), 8))
    for wanted in found:
        memory, rest = None, text
        while len(rest) > 4:
            _, memory = backbone({"tokens": torch.tensor([rest[:4]])}, torch.tensor([4]), memory)
            rest = rest[4:]
        hidden, _ = backbone(next_token_inputs(torch.tensor([rest])), torch.tensor([len(rest) + 1]), memory)
        assert int(head(hidden, torch.tensor([len(rest)])).argmax()) == wanted
        text = [*text, wanted]


def test_equal_seeds_give_equal_texts_and_others_do_not():
    model = small(Gpt2)
    assert taken(model, [5], 20, Sampling(), 1) == taken(model, [5], 20, Sampling(), 1)
    assert taken(model, [5], 20, Sampling(), 1) != taken(model, [5], 20, Sampling(), 2)


logits = st.lists(st.floats(-5, 5), min_size=2, max_size=12).map(lambda values: torch.tensor(values, dtype=torch.float64))


@given(logits, st.floats(0.1, 3), st.integers(0, 12), st.floats(0.05, 1))
def test_kept_tokens_are_the_fewest_likeliest(values, temperature, top_k, top_p):
    found = Sampling(temperature, top_k, top_p).kept(values)
    shares = (values / temperature).softmax(-1)
    order = sorted(range(len(values)), key=lambda token: (-shares[token], token))[: top_k or None]

    def fewest(mass: float) -> int:
        reached = [count for count in range(1, len(order)) if sum(float(shares[token]) for token in order[:count]) >= mass]
        return min(reached, default=len(order))

    # Where the sum lies on top_p itself, rounding decides whether one more is kept; where it is nearly 1, whether the tail is.
    assert fewest(top_p - 1e-12) <= (found > 0).sum() <= fewest(top_p + 1e-12)
    assert found.sum().item() == pytest.approx(1.0)
    assert found.argmax() == values.argmax() or shares[found.argmax()] == shares.max()
    inside = found > 0
    assert shares[inside].min() >= shares[~inside].max() - 1e-12 if (~inside).any() else True
    assert torch.allclose(found[inside], shares[inside] / shares[inside].sum())


def test_top_p_keeps_the_token_that_crosses_it():
    values = torch.tensor([0.5, 0.3, 0.2]).log()
    assert Sampling(top_p=0.5).kept(values).tolist() == [1.0, 0.0, 0.0]
    assert Sampling(top_p=0.6).kept(values) == pytest.approx([0.625, 0.375, 0.0])
    assert Sampling(top_k=1).kept(values).tolist() == [1.0, 0.0, 0.0]


def test_draws_have_the_probabilities_of_the_model():
    values = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([Sampling().draw(values, generator) for _ in range(4000)])
    assert drawn.bincount(minlength=4) / 4000 == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="temperature and top_k are at least 0"):
        Sampling(**wrong)


def test_who_sees_both_sides_generates_nothing():
    settings = Roberta(layers=1, hidden=12, heads=3)
    backbone = settings.backbone(vocabulary_of(SIZE))
    with pytest.raises(ConfigError, match="sees both sides"):
        next(generate(backbone, backbone, [5], GREEDY, torch.Generator()))
    with pytest.raises(ConfigError, match="nothing to begin with"):
        next(generate(backbone, backbone, [], GREEDY, torch.Generator()))
