"""Softmax over large vocabularies: against the full one, against simulation, against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptm_dist.models import softmax
from ptm_dist.models.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax, draw_distinct, expected_counts, in_second_half
from tests.unit.models.kit import randomise, stored

WORDS, HIDDEN, CPU = 70, 16, torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def heads() -> list[nn.Module]:
    found = [FullSoftmax(HIDDEN, WORDS), SampledSoftmax(HIDDEN, WORDS, 20), AdaptiveSoftmax(HIDDEN, WORDS, [10, 30])]
    for head in found:
        randomise(head, 0.5)
    return found


EACH = pytest.mark.parametrize("number", range(3), ids=["full", "sampled", "adaptive"])


def targets(count: int = 12, rows: int = 3, length: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(rows, length, HIDDEN, dtype=torch.float64, requires_grad=True)
    return hidden, torch.randperm(rows * length)[:count], torch.randint(WORDS, (count,))


def probabilities(words: int) -> np.ndarray:
    """Return P of each word."""
    return np.array([math.log((word + 2) / (word + 1)) / math.log(words + 1) for word in range(words)])


def test_published_size():
    with torch.device("meta"):
        head = SampledSoftmax(512, 793_471, 8192)
    assert sum(weight[: weight.stored_rows].numel() for weight in head.parameters()) == 407_050_623
    assert len(head.weight) == len(head.bias) == 793_472


def test_initial_weights_and_loss():
    head = FullSoftmax(64, 5000)
    assert head.weight[:5000].std().item() == pytest.approx(1 / 8, rel=0.02)
    assert not head.bias.any()
    loss = head.loss(0.3 * torch.randn(2, 64, 64), torch.arange(128), torch.randint(5000, (128,)))
    assert -0.1 < loss.sum.item() / 128 - math.log(5000) < 0.4


@EACH
@torch.no_grad()
def test_evaluation_is_the_cross_entropy_of_the_logits(number):
    head = heads()[number].double().eval()
    hidden, positions, labels = targets()
    logits = head(hidden, positions)
    assert logits.shape == (12, WORDS)
    loss = head.loss(hidden, positions, labels)
    assert loss.sum.item() == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), abs=1e-10)
    assert (loss.targets, int(loss.correct)) == (12, int((logits.argmax(1) == labels).sum()))
    best = head.loss(hidden, positions, logits.argmax(1))
    assert int(best.correct) == 12


@EACH
def test_no_target_costs_nothing_and_has_a_gradient(number):
    for head in (heads()[number].double().train(), heads()[number].double().eval()):
        hidden, positions, labels = targets()
        loss = head.loss(hidden, positions[:0], labels[:0])
        assert (loss.sum.item(), loss.targets, int(loss.correct)) == (0.0, 0, 0)
        loss.sum.backward()
        assert all(weight.grad is not None and not weight.grad.any() for weight in head.parameters())
        assert head(hidden, positions[:0]).shape == (0, WORDS)


@EACH
@pytest.mark.parametrize("training", [True, False])
def test_every_weight_takes_part_in_every_loss(number, training):
    head = heads()[number].double().train(training)
    hidden, positions, _ = targets()
    head.loss(hidden, positions, torch.zeros(12, dtype=torch.int64)).sum.backward()
    assert all(weight.grad is not None for weight in head.parameters())
    assert torch.isfinite(hidden.grad).all()


@EACH
def test_half_precision_is_summed_in_fp32(number):
    head = heads()[number].train()
    hidden, positions, labels = targets()
    torch.manual_seed(1)
    wanted = head.loss(hidden.float(), positions, labels).sum
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = head.loss(hidden.float(), positions, labels).sum
    torch.manual_seed(1)
    low = head.bfloat16().loss(hidden.bfloat16(), positions, labels).sum
    assert mixed.dtype == low.dtype == torch.float32
    assert wanted.item() == pytest.approx(mixed.item(), rel=0.02)
    assert wanted.item() == pytest.approx(low.item(), rel=0.02)
    low.backward()


@pytest.mark.parametrize("training", [True, False])
def test_rows_that_fill_up_are_neither_drawn_nor_counted(training):
    hidden, positions, labels = targets()
    for head in heads()[:2]:
        head.double().train(training)
        losses = []
        for value in (0.0, 1e6):
            torch.manual_seed(1)
            with torch.no_grad():
                head.weight[WORDS:], head.bias[WORDS:] = value, value
            losses.append(head.loss(hidden, positions, labels).sum)
        assert losses[0] == losses[1]
        losses[1].backward()
        assert not head.weight.grad[WORDS:].any()
        assert not head.bias.grad[WORDS:].any()
        assert stored(head)["weight"].shape == (WORDS, HIDDEN)


def test_pieces_make_no_difference(monkeypatch):
    head = heads()[0].double()
    hidden, positions, labels = targets()
    whole = head.loss(hidden, positions, labels)
    monkeypatch.setattr(softmax, "MOST_LOGITS", 5 * WORDS)
    sizes = []
    head.register_forward_hook(lambda _, __, logits: sizes.append(len(logits)))
    pieces = head.loss(hidden, positions, labels)
    assert sizes == [5, 5, 2]
    assert pieces.sum.item() == pytest.approx(whole.sum.item(), abs=1e-10)
    assert (pieces.targets, pieces.correct) == (whole.targets, whole.correct)


# The draw


def test_log_uniform_distribution():
    for words in (2, 70, 793_471):
        found = expected_counts(torch.arange(words), words, tries=1)
        assert found.sum().item() == pytest.approx(1.0, abs=1e-9)
    assert found[0].item() == pytest.approx(0.05103, abs=1e-5)
    np.testing.assert_allclose(expected_counts(torch.arange(70), 70, 1).numpy(), probabilities(70), rtol=1e-12)


def test_published_draw():
    tries = [draw_distinct(8192, 793_471, CPU)[1] for _ in range(10)]
    assert np.mean(tries) == pytest.approx(16_050, rel=0.03)


@pytest.mark.parametrize(("count", "words"), [(1, 1), (1, 9), (5, 9), (9, 9), (64, 64), (300, 515), (515, 515)])
def test_draws_are_those_of_one_by_one(count, words):
    torch.manual_seed(3)
    drawn, tries = draw_distinct(count, words, CPU)
    torch.manual_seed(3)
    stream, size = [], 4 * count
    while len(set(stream)) < count:
        stream += [min(int(math.exp(u * math.log(words + 1))) - 1, words - 1) for u in torch.rand(size, dtype=torch.float64).tolist()]
        size = max(4 * count, len(stream))
    seen: list[int] = []
    needed = 0
    while len(seen) < count:
        seen += [stream[needed]] if stream[needed] not in seen else []
        needed += 1
    assert drawn.tolist() == seen
    assert tries == needed
    assert len(set(seen)) == count
    assert 0 <= min(seen) <= max(seen) < words


def test_frequencies_of_draws_without_replacement():
    words, count, rounds = 6, 3, 6000
    p = probabilities(words)
    wanted = np.zeros(words)
    for order in itertools.permutations(range(words), count):
        left, chance = 1.0, 1.0
        for word in order:
            chance, left = chance * p[word] / left, left - p[word]
        wanted[list(order)] += chance
    found = np.zeros(words)
    for _ in range(rounds):
        found[draw_distinct(count, words, CPU)[0].numpy()] += 1
    np.testing.assert_allclose(found / rounds, wanted, atol=4 * 0.5 / math.sqrt(rounds))


def test_expected_counts_against_simulation():
    words, tries, rounds = 30, 25, 20_000
    draws = np.random.default_rng(0).choice(words, (rounds, tries), p=probabilities(words))
    share = np.array([(draws == word).any(1).mean() for word in range(words)])
    np.testing.assert_allclose(expected_counts(torch.arange(words), words, tries).numpy(), share, atol=4 * 0.5 / math.sqrt(rounds))


# The sampled loss


def test_all_words_drawn_and_expected_once_is_the_full_softmax(monkeypatch):
    head = SampledSoftmax(HIDDEN, WORDS, WORDS).double().train()
    randomise(head)
    monkeypatch.setattr(softmax, "expected_counts", lambda ids, *_: torch.ones(len(ids), dtype=torch.float64))
    hidden, positions, labels = targets()
    sampled = head.loss(hidden, positions, labels)
    full = head.eval().loss(hidden, positions, labels)
    assert sampled.sum.item() == pytest.approx(full.sum.item(), abs=1e-10)
    assert sampled.correct == full.correct
    names = [hidden, head.weight, head.bias]
    for one, other in zip(torch.autograd.grad(sampled.sum, names), torch.autograd.grad(full.sum, names), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_sampled_loss_word_by_word(monkeypatch):
    """Each direction meets its own draw; the log of the expected count is taken off; a label does not meet itself."""
    head = heads()[1].double().train()
    draws = [(torch.tensor([3, 0, 41, 7]), 9), (torch.tensor([69, 5, 1, 2]), 14)]
    given = iter(draws)
    monkeypatch.setattr(softmax, "draw_distinct", lambda *_: next(given))
    hidden, _, _ = targets()
    positions, labels = torch.tensor([0, 1, 2, 3, 8, 9, 16, 17]), torch.tensor([3, 1, 69, 0, 41, 69, 7, 2])
    second = [False, False, True, True, False, True, False, True]
    weight, bias, states = (x.detach().numpy() for x in (head.weight, head.bias, hidden.flatten(0, 1)))
    p, wanted, wins = probabilities(WORDS), 0.0, 0
    for position, label, backward in zip(positions.tolist(), labels.tolist(), second, strict=True):
        drawn, tries = draws[backward]

        def score(word, position=position, tries=tries):
            return weight[word] @ states[position] + bias[word] - math.log(1 - (1 - p[word]) ** tries)

        others = [score(word) for word in drawn.tolist() if word != label]
        wanted += math.log(sum(map(math.exp, [score(label), *others]))) - score(label)
        wins += score(label) > max(others)
    loss = head.loss(hidden, positions, labels)
    assert loss.sum.item() == pytest.approx(wanted, abs=1e-10)
    assert (loss.targets, int(loss.correct)) == (8, wins)


def test_halves_of_rows_end_with_their_targets():
    positions = torch.tensor([5, 0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 17, 16])
    assert in_second_half(positions, 4, 8).int().tolist() == [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    assert in_second_half(positions[:0], 4, 8).tolist() == []


def test_each_forward_draws_anew_from_the_generator():
    head = heads()[1].double().train()
    batch = targets()
    losses = [head.loss(*batch).sum for _ in range(2)]
    torch.manual_seed(5)
    again = head.loss(*batch).sum
    torch.manual_seed(5)
    assert losses[0] != losses[1]
    assert again == head.loss(*batch).sum
    state = torch.get_rng_state()
    head.eval().loss(*batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_sampled_gradient_points_where_the_full_one_does():
    words = 400
    head = SampledSoftmax(HIDDEN, words, 100).double()
    randomise(head, 0.3)
    hidden, positions, _ = targets(24)
    labels = torch.randint(words, (24,))
    (full,) = torch.autograd.grad(head.eval().loss(hidden, positions, labels).sum, hidden)
    head.train()
    mean = sum(torch.autograd.grad(head.loss(hidden, positions, labels).sum, hidden)[0] for _ in range(200)) / 200
    assert F.cosine_similarity(mean.flatten(), full.flatten(), dim=0) > 0.99
    assert mean.norm().item() == pytest.approx(full.norm().item(), rel=0.1)


# The adaptive softmax


@torch.no_grad()
def test_adaptive_probabilities_sum_to_one():
    head = heads()[2].double()
    hidden, positions, _ = targets()
    torch.testing.assert_close(head(hidden, positions).exp().sum(1), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cutoffs", [[1], [10, 30], [69], [5, 6]])
def test_adaptive_loss_is_that_of_torch(cutoffs):
    head = AdaptiveSoftmax(HIDDEN, WORDS, cutoffs).double()
    randomise(head, 0.5)
    hidden, positions, _ = targets(24)
    labels = torch.randint(WORDS, (24,))
    labels[:4] = torch.tensor([0, cutoffs[0] - 1, cutoffs[-1], WORDS - 1])
    found, wanted = head.loss(hidden, positions, labels), head.softmax(hidden.flatten(0, 1)[positions], labels)
    assert found.sum.item() == pytest.approx(-wanted.output.sum().item(), abs=1e-10)
    assert found.correct == (head.softmax.predict(hidden.flatten(0, 1)[positions]) == labels).sum()
    one, other = (torch.autograd.grad(total, hidden)[0] for total in (found.sum, -wanted.output.sum()))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [FullSoftmax, SampledSoftmax, AdaptiveSoftmax])
def test_a_batch_can_be_learned_by_heart(kind):
    head = kind(HIDDEN, WORDS, *{SampledSoftmax: [20], AdaptiveSoftmax: [[30]]}.get(kind, []))
    hidden, positions, labels = targets()
    hidden = hidden.detach().float()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = head.loss(hidden, positions, labels)
        loss.sum.backward()
        optimizer.step()
    learned = head.eval().loss(hidden, positions, labels)
    assert learned.sum / 12 < (0.5 if kind is SampledSoftmax else 0.05)
    assert learned.correct == 12
