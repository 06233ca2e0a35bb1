"""How a task reads a model of several layers: as one vector a token.

Shape letters: R rows, J layers, L length, H hidden.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from ptm_dist.models.attention import real

NORM_EPS: Final = 1e-12


class ScalarMix(nn.Module):
    """A weighted mean of layers times a factor, both learned with the task: gamma * sum_j softmax(weights)_j * h_j.

    With `normalise`, each layer is first brought to mean 0 and variance 1 over all features of all real tokens of the batch at once,
    which is no LayerNorm. Weight decay on `weights` pulls them towards the plain mean.

    Source: Peters et al. 2018, section 3.2; allennlp, modules/scalar_mix.py.
    """

    def __init__(self, layers: int, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(1))  # DeepSpeed broadcasts no 0-D parameter

    def forward(self, states_RJLH: Tensor, lengths_R: Tensor) -> Tensor:
        """Return [R, L, H]; positions at or after a row's length have no influence on others."""
        if self.normalise:
            states_RJLH = _normalise(states_RJLH, lengths_R)
        return self.gamma * torch.einsum("j,rjlh->rlh", self.weights.softmax(0), states_RJLH)


def _normalise(states_RJLH: Tensor, lengths_R: Tensor) -> Tensor:
    real_R1L1 = real(lengths_R, states_RJLH.shape[2])[:, None, :, None]
    count = lengths_R.sum() * states_RJLH.shape[-1]
    mean_J = (states_RJLH * real_R1L1).sum((0, 2, 3), keepdim=True) / count
    centred = states_RJLH - mean_J
    variance_J = (centred * real_R1L1).square().sum((0, 2, 3), keepdim=True) / count
    return centred * (variance_J + NORM_EPS).rsqrt()
