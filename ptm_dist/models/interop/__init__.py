"""Hugging Face import and export, one table a family."""

from __future__ import annotations

from typing import Final

from ptm_dist.models.interop.albert import AlbertLayout
from ptm_dist.models.interop.bert import BertLayout
from ptm_dist.models.interop.decoder import Gpt2Layout, GptLayout
from ptm_dist.models.interop.ernie import ErnieLayout
from ptm_dist.models.interop.layout import Layout
from ptm_dist.models.interop.roberta import RobertaLayout

LAYOUTS: Final[dict[str, Layout]] = {
    "albert": AlbertLayout(),
    "bert": BertLayout(),
    "ernie": ErnieLayout(),
    "gpt": GptLayout(),
    "gpt2": Gpt2Layout(),
    "roberta": RobertaLayout(),
}
