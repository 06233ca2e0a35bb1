"""ELMo's LSTM: cells with a projection and clips.

Shape letters: R rows, D directions, T steps, S cell, P projection, G the four gates, X cell or projection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ptm_dist.models.elmo import Elmo

FORGET_BIAS: Final = 1.0
"""Added when the cell runs, not stored in the bias."""
DIRECTIONS: Final = 2


class LstmLayer(nn.Module):
    """LSTM cells with a projection, both directions side by side with weights of their own.

    `kernel` [D, 2 P, 4 S] takes the input, and below it the state before, to input gate, candidate, forget gate and output gate;
    `projection` [D, S, P] has no bias. Cell and state go on clipped. There are no peepholes. `bias` [D x 4 S] is flat, so that weight
    decay, which spares vectors, spares it.

    Source: Sak et al. 2014, in the form of TensorFlow's LSTMCell. Weights start as there, uniform by Glorot, biases zero.
    """

    def __init__(self, settings: Elmo) -> None:
        super().__init__()
        self.cell_clip, self.projection_clip = settings.cell_clip, settings.projection_clip
        self.kernel = nn.Parameter(torch.empty(DIRECTIONS, 2 * settings.projection, 4 * settings.cell))
        self.bias = nn.Parameter(torch.zeros(DIRECTIONS * 4 * settings.cell))
        self.projection = nn.Parameter(torch.empty(DIRECTIONS, settings.cell, settings.projection))
        for matrix in (*self.kernel, *self.projection):
            nn.init.xavier_uniform_(matrix)

    def forward(self, x_DTRP: Tensor, steps_R: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states of all steps [D, T, R, P], and cell [R, D, S] and state [R, D, P] after each row's last, without gradient."""
        cells, states = ([start] for start in self._start(x_DTRP, before))
        of_input, of_state = self.kernel.chunk(2, 1)
        bias_D1G = self.bias.view(DIRECTIONS, 1, -1)
        inputs_DTRG = torch.baddbmm(bias_D1G, x_DTRP.flatten(1, 2), of_input).unflatten(1, x_DTRP.shape[1:3])
        for input_DRG in inputs_DTRG.unbind(1):
            i, j, f, o = torch.baddbmm(input_DRG, states[-1], of_state).chunk(4, -1)
            kept_DRS = (f + FORGET_BIAS).sigmoid() * cells[-1]
            cells.append((kept_DRS + i.sigmoid() * j.tanh()).clamp(-self.cell_clip, self.cell_clip))
            shown_DRS = (o.sigmoid() * cells[-1].tanh()).to(self.projection.dtype)
            states.append(torch.bmm(shown_DRS, self.projection).clamp(-self.projection_clip, self.projection_clip))
        return torch.stack(states[1:], 1), _after(cells, steps_R), _after(states, steps_R)

    def _start(self, x_DTRP: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        if before is not None:
            return before[0].transpose(0, 1), before[1].transpose(0, 1)
        directions, _, rows, width = x_DTRP.shape
        # The cell adds up over a whole text: bf16 would lose small parts of the sum.
        exact = torch.promote_types(x_DTRP.dtype, torch.float32)
        return x_DTRP.new_zeros(directions, rows, self.projection.shape[1], dtype=exact), x_DTRP.new_zeros(directions, rows, width)


@torch.no_grad()
def _after(values_DRX: list[Tensor], steps_R: Tensor) -> Tensor:
    """Return the value of each row after its number of steps, [R, D, X]."""
    return torch.stack(values_DRX)[steps_R, :, torch.arange(len(steps_R), device=steps_R.device)]
