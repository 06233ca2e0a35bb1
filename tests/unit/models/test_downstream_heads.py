"""Heads of labelled tasks: those of transformers with equal weights, and losses as they are written down."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import XLNetModel

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.example import ENDS, STARTS
from ptm_dist.models.albert import Albert
from ptm_dist.models.bert import Bert
from ptm_dist.models.downstream import ChoiceHead, LabelHead, SpanHead, StartThenEndHead, Still, TaskEncoder, ValueHead, span_loss
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.heads import TiedLMHead
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.roberta import Roberta
from ptm_dist.models.xlnet import Xlnet, next_token_inputs
from ptm_dist.train.module import fold, unfold
from tests.unit.models.kit import randomise, stored, vocabulary_of
from tests.unit.models.test_xlnet import exact_positions

SIZE, LENGTH, ROWS, CHOICES = 71, 9, 4, 3
SHAPE = {"layers": 2, "hidden": 12, "heads": 3}
CLOSE = 1e-10

BERT_LIKE = {"text": "SequenceClassification", "value": "SequenceClassification", "choice": "MultipleChoice"}
BERT_LIKE |= {"tags": "TokenClassification", "span": "QuestionAnswering"}
CLASSIFIER = {"classify": "classifier"}
SUMMARY = {"summary.dense": "sequence_summary.summary", "classify": "logits_proj"}
CASES = [
    *((Bert(**SHAPE, intermediate=20, activation="gelu_tanh"), f"BertFor{name}", kind, CLASSIFIER) for kind, name in BERT_LIKE.items()),
    *((Ernie(**SHAPE, intermediate=20), f"ErnieFor{name}", kind, CLASSIFIER) for kind, name in BERT_LIKE.items()),
    *((Albert(**SHAPE, intermediate=20, embedding=5), f"AlbertFor{name}", kind, CLASSIFIER) for kind, name in BERT_LIKE.items()),
    *(
        (Roberta(**SHAPE, intermediate=20), f"RobertaFor{BERT_LIKE[kind]}", kind, names)
        for kind, names in [
            ("text", {"summary.dense": "classifier.dense", "classify": "classifier.out_proj"}),
            ("value", {"summary.dense": "classifier.dense", "classify": "classifier.out_proj"}),
            ("tags", CLASSIFIER),
            ("span", CLASSIFIER),
        ]
    ),
    (Xlnet(**SHAPE, head_width=4, intermediate=20), "XLNetForSequenceClassification", "text", SUMMARY),
    (Xlnet(**SHAPE, head_width=4, intermediate=20), "XLNetForSequenceClassification", "value", SUMMARY),
    (Xlnet(**SHAPE, head_width=4, intermediate=20), "XLNetForMultipleChoice", "choice", SUMMARY),
    (Xlnet(**SHAPE, head_width=4, intermediate=20), "XLNetForTokenClassification", "tags", CLASSIFIER),
    *(
        (settings(**SHAPE), f"{name}ForSequenceClassification", "text", {"classify": "score"})
        for settings, name in [(Gpt, "OpenAIGPT"), (Gpt2, "GPT2")]
    ),
    *(
        (settings(**SHAPE), f"{name}DoubleHeadsModel", "choice", {"classify": "multiple_choice_head.summary"})
        for settings, name in [(Gpt, "OpenAIGPT"), (Gpt2, "GPT2")]
    ),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pair_of(settings, architecture, spec, names):
    """Return backbone and head of ours, and the model of transformers with the same weights, in fp64."""
    vocabulary = vocabulary_of(SIZE)
    backbone = settings.backbone(vocabulary)
    head = settings.head(spec, backbone, vocabulary)
    ours = nn.ModuleDict({"backbone": backbone, "head": head}).double().eval()
    randomise(ours)
    if "score" in names.values():  # It has no bias there.
        nn.init.zeros_(head.classify.bias)
    body = stored(nn.ModuleDict({"backbone": backbone}))
    config, tensors = LAYOUTS[settings.kind].to_hugging_face(body, settings, vocabulary)
    more = {"num_labels": spec.classes or (2 if spec.kind == "span" else 1), "classifier_dropout_prob": 0.0}
    reference = getattr(transformers, architecture)(transformers.AutoConfig.for_model(**config | more)).double().eval()
    names = {"classify": "qa_outputs"} if spec.kind == "span" and "classify" in names else names
    tensors = {
        **tensors,
        **{f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in head.named_parameters() if _own(k, names)},
    }
    wanted = reference.state_dict()
    missing = wanted.keys() - tensors.keys() - {"lm_head.weight"}
    assert not missing, missing
    reference.load_state_dict({name: tensor for name, tensor in tensors.items() if name in wanted}, strict=False)
    return backbone, head, reference


def _own(name, names):
    return name.rpartition(".")[0] in names


def inputs_of(settings, rows):
    """Return random full rows, and what transformers calls the inputs."""
    tokens = torch.randint(4, SIZE - 1, (rows, LENGTH))
    inputs, named = {"tokens": tokens}, {"input_ids": tokens}
    if settings.kind not in {"gpt", "gpt2", "roberta"}:
        inputs["segments"] = torch.randint(2, (rows, LENGTH))
        named["token_type_ids"] = inputs["segments"]
    return inputs, named, torch.full((rows,), LENGTH)


def asked(settings, kind):
    """Return positions and labels, and what transformers calls the labels."""
    summary = settings.joining.place(LENGTH)
    if kind in {"text", "value"}:
        labels = torch.randint(3, (ROWS,)) if kind == "text" else torch.randn(ROWS, dtype=torch.float64)
        return torch.arange(ROWS) * LENGTH + summary, labels, {"labels": labels}
    if kind == "choice":
        right = torch.randint(CHOICES, (ROWS,))
        positions = torch.arange(ROWS)[:, None] * LENGTH * CHOICES + summary * CHOICES + torch.arange(CHOICES)
        return positions.flatten(), F.one_hot(right, CHOICES).flatten(), {"labels": right}
    positions = torch.arange(ROWS * LENGTH)
    if kind == "tags":
        labels = torch.randint(5, (ROWS * LENGTH,))
        return positions, labels, {"labels": labels.view(ROWS, LENGTH)}
    start, end = torch.randint(LENGTH, (2, ROWS))
    labels = (F.one_hot(start, LENGTH) * STARTS + F.one_hot(end, LENGTH) * ENDS).flatten()
    return positions, labels, {"start_positions": start, "end_positions": end}


@pytest.mark.parametrize(("settings", "architecture", "kind", "names"), CASES, ids=[f"{case[1]}-{case[2]}" for case in CASES])
@torch.no_grad()
def test_transformers_computes_the_same(settings, architecture, kind, names, monkeypatch):
    monkeypatch.setattr(XLNetModel, "positional_embedding", staticmethod(exact_positions))
    spec = HeadSpec(kind, {"text": 3, "tags": 5}.get(kind, 0))
    backbone, head, reference = pair_of(settings, architecture, spec, names)
    several = CHOICES if kind == "choice" else 1
    inputs, named, lengths = inputs_of(settings, ROWS * several)
    positions, labels, told = asked(settings, kind)
    if kind == "choice":
        named, lengths = {name: values.view(ROWS, several, LENGTH) for name, values in named.items()}, lengths.view(ROWS, several)
    if architecture.endswith("DoubleHeadsModel"):
        told = {"mc_labels": told["labels"], "mc_token_ids": torch.full((ROWS, several), LENGTH - 1)}
    hidden = unfold(head.encode(backbone.read(inputs, lengths.flatten()), lengths.flatten()), lengths)
    logits, loss, found = head(hidden, positions), head.loss(hidden, positions, labels), reference(**named, **told)
    if kind == "span":
        theirs = torch.stack([found.start_logits, found.end_logits], -1).flatten(0, 1)
    else:
        theirs = (found.mc_logits if "mc_labels" in told else found.logits).reshape(logits.shape)
    assert (logits - theirs).abs().max() < CLOSE
    wanted = found.mc_loss if "mc_labels" in told else found.loss
    assert abs(loss.sum / loss.targets - wanted) < CLOSE
    assert loss.targets == (ROWS * LENGTH if kind == "tags" else ROWS)


class TestStartsThenEnds:
    """XLNet's ends, which follow a start."""

    NAMES = {"start": "start_logits.dense", "dense": "end_logits.dense_0", "norm": "end_logits.LayerNorm", "end": "end_logits.dense_1"}

    @pytest.fixture
    def models(self, monkeypatch):
        monkeypatch.setattr(XLNetModel, "positional_embedding", staticmethod(exact_positions))
        settings = Xlnet(**SHAPE, head_width=4, intermediate=20)
        backbone, head = settings.backbone(vocabulary_of(SIZE)), settings.head(HeadSpec("span"), None, vocabulary_of(SIZE))
        randomise(nn.ModuleDict({"backbone": backbone, "head": head}).double().eval(), 0.5)
        config, tensors = LAYOUTS["xlnet"].to_hugging_face(stored(nn.ModuleDict({"backbone": backbone})), settings, vocabulary_of(SIZE))
        more = {"start_n_top": 4, "end_n_top": LENGTH, "layer_norm_eps": settings.norm_eps}
        reference = transformers.XLNetForQuestionAnswering(transformers.XLNetConfig(**config | more)).double().eval()
        named = {f"{self.NAMES[k.partition('.')[0]]}.{k.partition('.')[2]}": v for k, v in head.named_parameters()}
        missing, extra = reference.load_state_dict({**tensors, **named}, strict=False)
        assert not extra
        assert all(name.startswith("answer_class") for name in missing)
        inputs, theirs, lengths = inputs_of(settings, ROWS)
        return head, backbone.read(inputs, lengths).detach(), reference, theirs

    @torch.no_grad()
    def test_the_loss_has_ends_after_the_right_start(self, models):
        head, hidden, reference, named = models
        may = torch.rand(ROWS, LENGTH) < 0.7
        start, end = may.double().multinomial(2).unbind(1)
        labels = F.one_hot(start, LENGTH) * STARTS + F.one_hot(end, LENGTH) * ENDS
        found = head.loss(hidden, may.flatten().nonzero().squeeze(1), labels[may])
        wanted = reference(**named, start_positions=start, end_positions=end, p_mask=(~may).double()).loss
        assert found.sum.item() / ROWS == pytest.approx(wanted.item(), rel=1e-10)

    @torch.no_grad()
    def test_beams_are_the_likeliest_starts_with_ends_for_each(self, models):
        head, hidden, reference, named = models
        positions = torch.arange(ROWS * LENGTH)
        starts, tops, ends = head.beams(hidden, positions, 4)
        found = reference(**named, p_mask=torch.zeros(ROWS, LENGTH).double(), cls_index=torch.zeros(ROWS, dtype=torch.int64))
        assert torch.equal(tops % LENGTH, found.start_top_index)
        assert torch.equal(tops // LENGTH, torch.arange(ROWS)[:, None].expand(-1, 4))
        shares = starts.view(ROWS, LENGTH).softmax(-1).gather(1, tops % LENGTH)
        assert torch.allclose(shares, found.start_top_log_probs, rtol=1e-9)
        # Theirs are the shares, sorted, of all ends for each of four starts.
        theirs = found.end_top_log_probs.view(ROWS, LENGTH, 4)
        assert torch.allclose(ends.view(ROWS, LENGTH, 4).softmax(1).sort(1, descending=True).values, theirs, rtol=1e-9)

    @torch.no_grad()
    def test_without_labels_ends_follow_the_likeliest_start(self, models):
        head, hidden, _, _ = models
        positions = torch.tensor([2, 3, 5, 9, 10, 30, 31, 33])  # of rows 0, 1 and 3
        found = head(hidden, positions)
        starts, tops, ends = head.beams(hidden, positions, 1)
        assert torch.equal(found, torch.stack([starts, ends[:, 0]], -1))
        assert set(tops[[0, 1, 3], 0].tolist()) <= set(positions.tolist())


@given(st.lists(st.tuples(st.integers(2, 8), st.integers(0, 10**6)), min_size=1, max_size=4), st.integers(0, 2))
def test_the_loss_of_answers_is_the_mean_of_two_softmaxes_a_row(rows, fillers):
    """Only tokens that may be picked have a share in them; rows that fill up have none."""
    length, positions, labels, scores, wanted, right = 11, [], [], [], 0.0, 0
    for number, (count, seed) in enumerate(rows):
        generator = torch.Generator().manual_seed(seed)
        places = torch.randperm(length, generator=generator)[:count].sort().values
        own = torch.randn(count, 2, generator=generator, dtype=torch.float64) * 4
        start, end = torch.randint(count, (2,), generator=generator).tolist()
        told = torch.zeros(count, dtype=torch.int64)
        told[start] |= STARTS
        told[end] |= ENDS
        wanted -= (own[:, 0].log_softmax(0)[start] + own[:, 1].log_softmax(0)[end]).item() / 2
        right += own[:, 0].argmax() == start and own[:, 1].argmax() == end
        positions.append(number * length + places)
        labels.append(told)
        scores.append(own)
    found = span_loss(torch.cat(scores), torch.cat(positions), torch.cat(labels), (len(rows) + fillers, length))
    assert found.sum.item() == pytest.approx(wanted, rel=1e-10, abs=1e-10)
    assert (found.targets, int(found.correct)) == (len(rows), right)


def head_of(kind, classes=0, views=1, width=6):
    spec = HeadSpec(kind, classes, views=views)
    made = {"value": ValueHead, "choice": ChoiceHead}.get(kind, LabelHead)(spec, width).double()
    randomise(made, 0.7)
    return made


def test_a_value_costs_its_squared_error_and_is_never_right():
    head, hidden = head_of("value"), torch.randn(3, 5, 6, dtype=torch.float64)
    labels = torch.tensor([1.5, -2.0], dtype=torch.float32)
    found = head.loss(hidden, torch.tensor([0, 10]), labels)
    by_hand = sum((hidden[row, 0] @ head.classify.weight[0] + head.classify.bias[0] - label) ** 2 for row, label in ((0, 1.5), (2, -2.0)))
    assert found.sum.item() == pytest.approx(by_hand.item(), rel=1e-12)
    assert (found.targets, int(found.correct)) == (2, 0)


@pytest.mark.parametrize("kind", ["text", "value"])
def test_views_are_added_before_the_last_map_and_their_order_is_nothing(kind):
    head, hidden = head_of(kind, 3 if kind == "text" else 0, views=2), torch.randn(2, 8, 6, dtype=torch.float64)
    positions = torch.tensor([6, 7, 12, 15])
    found = head(hidden, positions)
    x = hidden.flatten(0, 1)
    wanted = F.linear(torch.stack([x[6] + x[7], x[12] + x[15]]), head.classify.weight, head.classify.bias)
    assert torch.allclose(found, wanted.squeeze(-1) if kind == "value" else wanted, atol=1e-12)
    assert torch.equal(found, head(hidden, positions[[1, 0, 3, 2]]))
    labels = torch.tensor([2, 2, 0, 0]) if kind == "text" else torch.tensor([0.5, 0.5, 2.0, 2.0])
    loss = head.loss(hidden, positions, labels)
    assert loss.targets == 2
    by_hand = F.cross_entropy(found, labels[::2], reduction="sum") if kind == "text" else (found - labels[::2]).square().sum()
    assert torch.allclose(loss.sum, by_hand)


def test_a_choice_costs_the_cross_entropy_over_its_row():
    head, hidden = head_of("choice"), torch.randn(3, 8, 6, dtype=torch.float64)
    positions, labels = torch.tensor([0, 1, 2, 9, 12, 15]), torch.tensor([0, 0, 1, 1, 0, 0])
    scores = head(hidden, positions)
    found = head.loss(hidden, positions, labels)
    first, second = scores[:3].log_softmax(0), scores[3:].log_softmax(0)
    assert found.sum.item() == pytest.approx(-(first[2] + second[0]).item(), rel=1e-12)
    assert (found.targets, int(found.correct)) == (2, int(first.argmax() == 2) + int(second.argmax() == 0))


def test_half_precision_scores_are_compared_in_fp32():
    """-1e30, what hides a token, is none of fp16."""
    scores = torch.randn(6, 2).half()
    found = span_loss(scores, torch.arange(6), torch.tensor([3, 0, 0, 0, 1, 2]), (2, 3))
    assert found.sum.dtype == torch.float32
    assert torch.isfinite(found.sum)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 10**6))
def test_the_mean_of_each_row_counts_once(sizes, seed):
    torch.manual_seed(seed)
    head = TiedLMHead(nn.Parameter(torch.randn(64, 4, dtype=torch.float64)), 50, bias=False)
    hidden = torch.randn(5, 7, 4, dtype=torch.float64)
    positions = torch.cat([row * 7 + torch.randperm(7)[:size] for row, size in enumerate(sizes)])
    labels = torch.randint(50, (len(positions),))
    found = head.loss_by_row(hidden, positions, labels, positions // 7)
    logits = head(hidden, positions)
    means = [F.cross_entropy(logits[positions // 7 == row], labels[positions // 7 == row]) for row in range(len(sizes))]
    right = [(logits.argmax(-1) == labels)[positions // 7 == row].double().mean() for row in range(len(sizes))]
    assert found.sum.item() == pytest.approx(sum(means).item(), rel=1e-10)
    assert found.correct.item() == pytest.approx(sum(right).item(), rel=1e-10)
    assert found.targets == len(sizes)


def test_sequences_side_by_side_come_back_as_positions_count():
    lengths = torch.full((2, 3), 5)
    states = torch.arange(2 * 3 * 5).view(6, 5, 1).float()  # of sequence n, token t: 5 n + t
    found = unfold(states, lengths)
    assert found.shape == (2, 15, 1)
    for row in range(2):
        for t in range(5):
            for k in range(3):
                assert found[row, t * 3 + k] == 5 * (row * 3 + k) + t
    tokens = torch.arange(2 * 5 * 3).view(2, 5, 3)
    assert torch.equal(unfold(fold(tokens)[..., None], lengths).squeeze(-1), tokens.flatten(1))


def test_a_still_part_gives_its_values_and_a_gradient_of_zero():
    part = nn.Linear(3, 3)
    still, x = Still(part), torch.randn(2, 3, requires_grad=True)
    assert torch.equal(still(x), part(x))
    still(x).sum().backward()
    assert not part.weight.grad.any()
    assert not x.grad.any()


class TestElmo:
    """A model of the task over a mix of layers."""

    SETTINGS = Elmo(layers=2, cell=12, projection=8, filters=((1, 3), (2, 4)), word_length=9, dropout=0.0)

    def read(self):
        backbone = self.SETTINGS.backbone(vocabulary_of(SIZE)).double().eval()
        lengths = torch.tensor([7, 3, 1])
        characters = torch.randint(1, 262, (3, 7, 9))
        return backbone, {"tokens": torch.zeros(3, 7, dtype=torch.int64), "characters": characters}, lengths

    def test_it_reads_all_layers_and_words_twice(self):
        backbone, inputs, lengths = self.read()
        found = backbone.read(inputs, lengths)
        layers = backbone.representations(inputs["characters"], lengths)[0]
        assert found.shape == (3, 7, 3 * 16)
        assert all(torch.equal(found[..., 16 * layer : 16 * layer + 16], layers[:, layer]) for layer in range(3))
        assert torch.equal(found[..., :8], found[..., 8:16])

    def test_the_mix_begins_with_the_mean_of_layers(self):
        backbone, inputs, lengths = self.read()
        found = backbone.read(inputs, lengths)
        encoder = TaskEncoder(3, 16, 8, 0.0, pooled=False).double()
        mixed = encoder.mix(found.unflatten(-1, (3, 16)).transpose(1, 2), lengths)
        assert torch.allclose(mixed, found.unflatten(-1, (3, 16)).mean(2), atol=1e-12)

    @pytest.mark.parametrize("pooled", [False, True])
    def test_sequences_are_read_as_if_each_were_alone(self, pooled):
        backbone, inputs, lengths = self.read()
        encoder = TaskEncoder(3, 16, 5, 0.3, pooled).double().eval()
        randomise(encoder, 0.5)
        read = backbone.read(inputs, lengths)
        found = encoder(read, lengths)
        assert found.shape == (3, 7, encoder.width)
        for number, length in enumerate(lengths.tolist()):
            layers = read[number, :length].unflatten(-1, (3, 16))
            mixed = encoder.mix.gamma * (encoder.mix.weights.softmax(0)[:, None] * layers).sum(1)
            states = encoder.lstm(mixed[None])[0][0]
            wanted = torch.cat([states.amax(0), states.mean(0)]).expand(length, -1) if pooled else states
            assert torch.allclose(found[number, :length], wanted, atol=1e-12)

    @pytest.mark.parametrize("kind", ["text", "value", "choice", "tags", "span"])
    def test_which_token_is_asked_is_nothing_to_a_whole_row(self, kind):
        backbone, inputs, lengths = self.read()
        head = self.SETTINGS.head(HeadSpec(kind, 4 if kind in {"text", "tags"} else 0), backbone, vocabulary_of(SIZE)).double().eval()
        hidden = head.encode(backbone.read(inputs, lengths), lengths)
        first, last = head(hidden, torch.tensor([0, 7])), head(hidden, torch.tensor([6, 9]))
        assert torch.equal(first, last) == (kind in {"text", "value", "choice"})


def test_fine_tuning_sees_what_the_content_stream_sees():
    """XLNet without targets gives the states that the tokens have beside a target which nobody sees."""
    settings = Xlnet(**SHAPE, head_width=4, intermediate=20)
    backbone = settings.backbone(vocabulary_of(SIZE)).double().eval()
    randomise(backbone)
    tokens = torch.randint(4, SIZE, (3, 8))
    asked_too = backbone(next_token_inputs(tokens), torch.full((3,), 9))[0]
    assert torch.allclose(backbone.read({"tokens": tokens}, torch.full((3,), 8)), asked_too[:, :8], atol=1e-6)
    assert not torch.allclose(asked_too[:, 8], backbone.read({"tokens": F.pad(tokens, (0, 1))}, torch.full((3,), 9))[:, 8], atol=1e-3)


@pytest.mark.parametrize("pooler", [True, False])
def test_dropout_of_the_head_is_where_the_references_have_it(pooler):
    """BERT drops what the pooler gives; fairseq drops before and after its own."""
    settings = Bert(**SHAPE, intermediate=20, pooler=pooler)
    backbone = settings.backbone(vocabulary_of(SIZE))
    head = settings.head(HeadSpec("text", 2, dropout=0.5), backbone, vocabulary_of(SIZE))
    assert [part.p for part in head.modules() if isinstance(part, nn.Dropout)] == ([0.5, 0.0] if pooler else [0.5, 0.5])
    assert (head.summary is backbone.get_submodule("pooler")) if pooler else not hasattr(backbone, "pooler")
    frozen = settings.head(HeadSpec("text", 2, frozen=True), backbone, vocabulary_of(SIZE))
    assert isinstance(frozen.summary, Still) == pooler, "a fresh part learns, what the backbone has does not"


def test_fresh_weights_are_drawn_as_those_of_the_family():
    settings = Bert(layers=1, hidden=96, heads=3, intermediate=20)
    for kind in ("text", "span"):
        head = settings.head(HeadSpec(kind, 90 if kind == "text" else 0), settings.backbone(vocabulary_of(SIZE)), vocabulary_of(SIZE))
        assert head.classify.weight.abs().max() <= 0.04
        assert not head.classify.bias.any()
    assert isinstance(Xlnet(**SHAPE).head(HeadSpec("span"), None, vocabulary_of(SIZE)), StartThenEndHead)
    assert isinstance(Gpt(**SHAPE).head(HeadSpec("span"), None, vocabulary_of(SIZE)), SpanHead)
