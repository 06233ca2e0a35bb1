"""How the rows of a micro-batch lie in memory, and attention over them.

`Padded` keeps them side by side, each filled up to the longest; `Packed` lays their real tokens end to end, so that no layer spends
anything on padding. Both give the same outputs. A model lays out its embeddings once, runs its layers, and restores the states.

Shape letters: R rows, L length of the longest row, N real tokens in all, A attention heads, D width of a head, H = A x D.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_WITH_FLASH: Final = (8, 0)
"""The oldest compute capability that torch's variable-length attention runs on."""


class Rows(Protocol):
    """A layout of rows."""

    def lay(self, x_RLH: Tensor) -> Tensor:
        """Return the values of all tokens in this layout, [.., tokens, H]."""
        ...

    def restore(self, x: Tensor) -> Tensor:
        """Return [R, L, H] from this layout; positions that hold no token are arbitrary."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
        """Attend within rows: q, k, v are [.., tokens, A, D] in this layout, so is the result."""
        ...


@dataclass(frozen=True)
class Padded:
    """Rows side by side: [R, L]."""

    lengths_R: Tensor
    length: int

    def lay(self, x_RLH: Tensor) -> Tensor:
        """Return them as they are."""
        return x_RLH

    def restore(self, x: Tensor) -> Tensor:
        """Return them as they are."""
        return x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
        """Attend over [R, L, A, D]. What is causal needs no mask: padding comes after every real token."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mask = None if causal else self._valid
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal).transpose(1, 2)

    @cached_property
    def _valid(self) -> Tensor | None:
        # Attention without a mask is faster.
        return None if bool((self.lengths_R == self.length).all()) else real(self.lengths_R, self.length)[:, None, None, :]


@dataclass(frozen=True)
class Packed:
    """Real tokens of all rows end to end: [1, N]."""

    lengths_R: Tensor
    length: int

    def lay(self, x_RLH: Tensor) -> Tensor:
        """Return [1, N, H]."""
        return x_RLH.flatten(0, 1)[self._kept][None]

    def restore(self, x: Tensor) -> Tensor:
        """Return [R, L, H], zero where there is no token."""
        spread = x.new_zeros(len(self.lengths_R) * self.length, x.shape[-1])
        return spread.index_copy(0, self._kept, x[0]).view(len(self.lengths_R), self.length, -1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
        """Attend over [1, N, A, D].

        Raises:
            ValueError: with dropout, which the variable-length kernels do not have.

        """
        if dropout:
            raise ValueError("packed rows have no attention dropout; set model.attention_dropout to 0 or keep rows padded")
        if q.is_cuda:
            return _varlen(q[0], k[0], v[0], self._starts, self._longest, causal)[None]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._blocks(causal)).transpose(1, 2)

    @cached_property
    def _kept(self) -> Tensor:
        return real(self.lengths_R, self.length).flatten().nonzero().squeeze(1)

    @cached_property
    def _starts(self) -> Tensor:
        return F.pad(self.lengths_R.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def _longest(self) -> int:
        return int(self.lengths_R.max())

    def _blocks(self, causal: bool) -> Tensor:
        """Return bool [N, N], true where two tokens are of one row. For machines without the kernels, and for their tests."""
        row_N = torch.arange(len(self.lengths_R), device=self.lengths_R.device).repeat_interleave(self.lengths_R)
        same = row_N[:, None] == row_N[None, :]
        return same.tril() if causal else same


def real(lengths_R: Tensor, length: int) -> Tensor:
    """Return bool [R, L], true at real tokens."""
    return torch.arange(length, device=lengths_R.device) < lengths_R[:, None]


def arrange(x_RLH: Tensor, lengths_R: Tensor, head_width: int, dropout: float) -> Rows:
    """Return the layout that is fastest where `x_RLH` lives: packed where a kernel for it exists, padded elsewhere."""
    kind = Packed if packs(x_RLH, head_width, dropout) else Padded
    return kind(lengths_R, x_RLH.shape[1])


def packs(x: Tensor, head_width: int, dropout: float) -> bool:
    """Return whether torch has variable-length attention for such values: half precision on a recent GPU, no dropout."""
    if not x.is_cuda or dropout or head_width % 8 or head_width > 256:
        return False
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    return dtype in {torch.bfloat16, torch.float16} and torch.cuda.get_device_capability(x.device) >= FIRST_WITH_FLASH


def _varlen(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int, causal: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    found: Any = varlen_attn(q, k, v, starts, starts, longest, longest, **_causal_argument(causal))
    return found


@cache
def _causal_argument(causal: bool) -> dict[str, Any]:
    # torch 2.11 says is_causal, later versions have windows instead.
    from torch.nn.attention.varlen import varlen_attn

    named = "is_causal" in inspect.signature(varlen_attn).parameters
    return {"is_causal": causal} if named else {"window_size": (-1, 0) if causal else (-1, -1)}
