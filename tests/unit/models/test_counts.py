"""Every published parameter count, exact, on the meta device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.albert import Albert
from ptm_dist.models.bert import Bert
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.roberta import Roberta
from ptm_dist.models.xlnet import Xlnet

MLM, PAIR, CAUSAL = HeadSpec("masked_lm"), HeadSpec("sequence", 2), HeadSpec("causal_lm")
PERMUTED = HeadSpec("permutation_lm")
CAPITAL, REORDER, DISCOURSE = HeadSpec("tokens", 2), HeadSpec("sequence", 33), HeadSpec("sequence", 174)

LARGE = {"layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096}
XLARGE = {"layers": 24, "hidden": 2048, "heads": 16, "intermediate": 8192}
XXLARGE = {"layers": 12, "hidden": 4096, "heads": 64, "intermediate": 16384}
TINY, MINI, SMALL, MEDIUM = (
    {"layers": layers, "hidden": hidden, "heads": hidden // 64, "intermediate": 4 * hidden}
    for layers, hidden in ((2, 128), (4, 256), (4, 512), (8, 512))
)
ZH_TINY = {"layers": 4, "hidden": 312, "heads": 12, "intermediate": 1248}
ZH_SMALL = {"layers": 6, "hidden": 384, "heads": 12, "intermediate": 1536}
ENGLISH = {"positions": 512, "activation": "gelu", "segments": 4}
LARGE_ZH = LARGE | {"positions": 512, "segments": 4}
BARE = {"pooler": False}


def count(settings: object, size: int, *specs: HeadSpec) -> int:
    """Return the parameters of backbone and heads, shared ones once, rows that only fill a table up not at all."""
    vocabulary = Vocabulary(size, begin=0, pad=1, end=2, unknown=3, mask=4)
    with torch.device("meta"):
        backbone = settings.backbone(vocabulary)
        heads = [settings.head(spec, backbone, vocabulary) for spec in specs]
    parameters = nn.ModuleList([backbone, *heads]).parameters()
    return sum(getattr(weight, "stored_rows", len(weight)) * weight[0].numel() for weight in parameters)


BERT = [
    ("base uncased", {}, 30522, [109_482_240, 108_891_648, 110_106_428, 109_514_298]),
    ("base cased", {}, 28996, [108_310_272, 107_719_680, 108_932_934, 108_340_804]),
    ("large uncased", LARGE, 30522, [335_141_888, 334_092_288, 336_226_108, 335_174_458]),
    ("large cased", LARGE, 28996, [333_579_264, 332_529_664, 334_661_958, 333_610_308]),
    ("tiny", TINY, 30522, [4_385_920, None, 4_433_468, None]),
    ("mini", MINI, 30522, [11_170_560, None, 11_267_900, None]),
    ("small", SMALL, 30522, [28_763_648, None, 29_058_876, None]),
    ("medium", MEDIUM, 30522, [41_373_184, None, 41_668_412, None]),
    ("wwm, wwm-ext, RoBERTa-wwm-ext", {}, 21128, [102_267_648, None, 102_882_442, 102_290_312]),
    ("RoBERTa-wwm-ext-large", LARGE, 21128, [325_522_432, None, 326_597_258, 325_545_608]),
    ("RBT3", {"layers": 3}, 21128, [38_476_800, None, 39_091_594, None]),
    ("RBTL3", LARGE | {"layers": 3}, 21128, [61_001_728, None, 62_076_554, None]),
]
ERNIE = [
    ("1.0", {}, 18000, [99_866_112, None, 100_477_778, 99_885_648]),
    ("2.0 base zh", {"segments": 4}, 18000, [99_867_648, None, 100_479_314, 99_887_184]),
    ("2.0 large zh", LARGE_ZH, 12800, [316_996_608, None, 318_063_106, 317_011_456]),
    ("2.0 large zh with tasks", LARGE_ZH | {"task_types": 16}, 12800, [317_012_992, None, 318_079_490, 317_027_840]),
    ("2.0 base en", ENGLISH, 30522, [109_483_776, None, 110_107_964, 109_515_834]),
    ("2.0 base en with tasks", ENGLISH | {"task_types": 16}, 30522, [109_496_064, None, 110_120_252, 109_528_122]),
    ("2.0 large en", LARGE | ENGLISH, 30522, [335_143_936, None, 336_228_156, 335_176_506]),
    ("2.0 large en with tasks", LARGE | ENGLISH | {"task_types": 16}, 30522, [335_160_320, None, 336_244_540, 335_192_890]),
]
ALBERT = [
    ("base", {}, 30000, [11_683_584, None, 11_813_810, 11_221_680]),
    ("large", LARGE, 30000, [17_683_968, None, 17_847_474, 16_795_824]),
    ("xlarge", XLARGE, 30000, [58_724_864, None, 59_021_490, 54_821_040]),
    ("xxlarge", XXLARGE, 30000, [222_595_584, None, 223_158_450, 206_368_944]),
    ("zh base", {}, 21128, [10_547_968, None, 10_669_322, None]),
    ("zh large", LARGE, 21128, [16_548_352, None, 16_702_986, None]),
    ("zh xlarge", XLARGE, 21128, [57_589_248, None, 57_877_002, None]),
    ("zh xxlarge", XXLARGE, 21128, [221_459_968, None, 222_013_962, None]),
    ("zh tiny", ZH_TINY, 21128, [4_080_520, None, 4_142_594, None]),
    ("zh small", ZH_SMALL, 21128, [4_742_272, None, 4_813_706, None]),
]


@pytest.mark.parametrize(
    ("family", "more", "size", "counts"),
    [
        pytest.param(family, more, size, counts, id=f"{family.__name__} {name}")
        for family, table in ((Bert, BERT), (Ernie, ERNIE), (Albert, ALBERT))
        for name, more, size, counts in table
    ],
)
def test_encoders_with_pooler(family, more, size, counts):
    """With pooler, without, with masked-LM and pair head, with masked-LM head and no pooler."""
    found = [
        count(family(**more), size),
        count(family(**more, **BARE), size),
        count(family(**more), size, MLM, PAIR),
        count(family(**more, **BARE), size, MLM),
    ]
    assert [number for number, wanted in zip(found, counts, strict=True) if wanted] == [wanted for wanted in counts if wanted]


@pytest.mark.parametrize(
    ("settings", "size", "heads", "wanted"),
    [
        # Hugging Face's class has a row of segments more: 124,697,433 and 355,412,057.
        pytest.param(Roberta(), 50265, [MLM], 124_696_665, id="RoBERTa base"),
        pytest.param(Roberta(**LARGE), 50265, [MLM], 355_411_033, id="RoBERTa large"),
        pytest.param(Roberta(), 50265, [], 124_055_040 - 768, id="RoBERTa base, backbone"),
        pytest.param(Roberta(**LARGE), 50265, [], 354_310_144 - 1024, id="RoBERTa large, backbone"),
        pytest.param(Bert(**BARE), 30522, [HeadSpec("tokens", 2)], 108_893_186, id="BERT base with a span head"),
        pytest.param(Bert(**LARGE, **BARE), 30522, [HeadSpec("tokens", 2)], 334_094_338, id="BERT large with a span head"),
        pytest.param(
            Ernie(**ENGLISH, task_types=16),
            30522,
            [MLM, CAPITAL, CAPITAL, REORDER, DISCOURSE],
            110_280_973,
            id="ERNIE 2.0 base en with all heads of pretraining",
        ),
        pytest.param(Gpt(), 40478, [CAUSAL], 116_534_784, id="GPT"),
        pytest.param(Gpt(), 40481, [CAUSAL], 116_537_088, id="GPT with three special tokens"),
        pytest.param(Gpt2(), 50257, [CAUSAL], 124_439_808, id="GPT-2 124M"),
        pytest.param(Gpt2(layers=24, hidden=1024, heads=16), 50257, [CAUSAL], 354_823_168, id="GPT-2 355M"),
        pytest.param(Gpt2(layers=36, hidden=1280, heads=20), 50257, [CAUSAL], 774_030_080, id="GPT-2 774M"),
        pytest.param(Elmo(), 793_471, [], 93_600_864, id="ELMo, original and 5.5B"),
        pytest.param(Elmo(), 793_471, [HeadSpec("bidirectional_lm")], 500_651_471 + 16, id="ELMo in training, with the row of no word"),
        pytest.param(Elmo(cell=2048, projection=256, highways=1), 793_471, [], 28_027_744, id="ELMo medium"),
        pytest.param(Elmo(cell=1024, projection=128, highways=1), 793_471, [], 13_593_312, id="ELMo small"),
        pytest.param(Xlnet(), 32000, [], 116_718_336, id="XLNet base, backbone"),
        pytest.param(Xlnet(), 32000, [PERMUTED], 116_750_336, id="XLNet base"),
        pytest.param(Xlnet(**LARGE), 32000, [PERMUTED], 360_300_800, id="XLNet large"),
        pytest.param(Xlnet(), 32000, [PAIR], 117_310_466, id="XLNet base with summary and two classes"),
        pytest.param(Xlnet(**LARGE), 32000, [PAIR], 361_320_450, id="XLNet large with summary and two classes"),
        pytest.param(Gpt2(layers=48, hidden=1600, heads=25), 50257, [CAUSAL], 1_557_611_200, id="GPT-2 1558M"),
    ],
)
def test_others(settings, size, heads, wanted):
    assert count(settings, size, *heads) == wanted


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (64, [9_681_408, 61_645_056, 35_684_352, 87_648_000]),
        (128, [11_683_584, 63_647_232, 37_686_528, 89_650_176]),
        (256, [15_687_936, 67_651_584, 41_690_880, 93_654_528]),
        (768, [31_114_752, 83_078_400, 57_117_696, 109_081_344]),
    ],
)
def test_albert_by_what_it_shares(width, wanted):
    kinds = ("all", "attention", "ffn", "none")
    assert [count(Albert(embedding=width, sharing=kind), 30000) for kind in kinds] == wanted


def test_a_group_more_is_a_block_more_and_depth_costs_nothing():
    base = count(Albert(), 30000)
    assert count(Albert(layers=24), 30000) == base
    assert count(Albert(groups=2), 30000) == base + 7_087_872
    assert count(Albert(inner_groups=2), 30000) == base + 7_087_872
