"""Optimizers: settings in a recipe that build an update of flat tensors. A new one is a file here and a line below."""

from typing import Final

from ptm_dist.optimizers.adagrad import Adagrad
from ptm_dist.optimizers.adam import AdamW, BertAdam
from ptm_dist.optimizers.lamb import Lamb

OPTIMIZERS: Final = {"adamw": AdamW, "bert_adam": BertAdam, "lamb": Lamb, "adagrad": Adagrad}
