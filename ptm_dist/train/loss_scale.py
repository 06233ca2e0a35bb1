"""The scale that keeps small fp16 gradients from becoming zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROW_AFTER: Final = 2000
"""Steps without overflow after which a larger scale is tried."""
LARGEST: Final = 2.0**24


@dataclass
class LossScale:
    """A factor on the loss that halves at every overflow and doubles after GROW_AFTER good steps.

    It is kept here, not by DeepSpeed, so that checkpoints hold it and a resumed run has the same. Source: Micikevicius et al. 2018,
    section 3.2.
    """

    value: float = 2.0**16
    good_steps: int = 0

    def update(self, overflow: bool) -> None:
        """Take note of whether the gradient of a step was finite."""
        if overflow:
            self.value, self.good_steps = max(1.0, self.value / 2), 0
            return
        self.good_steps += 1
        if self.good_steps == GROW_AFTER:
            self.value, self.good_steps = min(LARGEST, self.value * 2), 0
