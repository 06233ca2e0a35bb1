"""Learning-rate schedules as published: the share of the peak rate that each update gets. Pure functions of the step."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.changes import Change

Steps = Annotated[int, Field(ge=0)]
Percent = Annotated[str, Field(pattern=r"^\d{1,2}(\.\d+)? ?%$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Rate(BaseModel):
    """Linear warm-up to the peak over `warmup_steps`, or a share of all such as `6 %`; what comes then is the kind's."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
    change: ClassVar[Change] = "reason"

    warmup_steps: Steps | Percent = 0
    first_update: Literal["moves", "rests"] = "moves"
    """Fairseq gives update 0 the rate of update 1; the code of Google, OpenAI and Hugging Face gives it 0."""
    restart: Literal["never", "stage"] = "never"
    """Whether every stage has a warm-up and a decay of its own."""

    def factor(self, step: int, total_steps: int) -> float:
        """Return the share of the peak rate for update `step` of `total_steps`, both counted from where the schedule starts."""
        time, warmup = max(step, 1) if self.first_update == "moves" else step, self.warmup(total_steps)
        return time / warmup if time < warmup else self._after(time, total_steps)

    def warmup(self, total_steps: int) -> int:
        """Return the updates of the warm-up; a share of them is rounded down, as in Google's code."""
        if isinstance(self.warmup_steps, int):
            return self.warmup_steps
        return int(total_steps * float(self.warmup_steps.rstrip(" %")) / 100)

    def _after(self, time: int, total_steps: int) -> float:
        raise NotImplementedError


class Constant(Rate):
    """Linear warm-up to the peak, which then stays."""

    kind: Literal["constant"] = "constant"

    def _after(self, time: int, total_steps: int) -> float:
        return 1.0


class _Decay(Rate):
    counted_from: Literal["warmup_end", "start"] = "warmup_end"
    """Where the decay is at its beginning. Counted from the start, as Google's and Baidu's code does, it has gone on during the
    warm-up, so the rate falls by a jump when that ends."""
    floor: Share = 0.0
    """What is left of the peak at the last step."""

    def _after(self, time: int, total_steps: int) -> float:
        start = self.warmup(total_steps) if self.counted_from == "warmup_end" else 0
        done = min(1.0, (time - start) / max(1, total_steps - start))
        return self.floor + (1.0 - self.floor) * self._left(done)

    def _left(self, done: float) -> float:
        raise NotImplementedError


class Linear(_Decay):
    """Linear warm-up to the peak, then linear decay.

    Source: RoBERTa (Liu et al. 2019, section 2.5) and fairseq, continuous; BERT, ERNIE 1.0 and ALBERT with `counted_from: start`
    and `first_update: rests`; XLNet with `floor: 0.001` and `first_update: rests`.
    """

    kind: Literal["linear"] = "linear"

    def _left(self, done: float) -> float:
        return 1.0 - done


class Polynomial(_Decay):
    """Linear warm-up to the peak, then decay by a power of what is left."""

    kind: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(gt=0)] = 1.0

    def _left(self, done: float) -> float:
        return (1.0 - done) ** self.power


class Cosine(_Decay):
    """Linear warm-up to the peak, then half a cosine.

    Source: GPT (Radford et al. 2018, section 4.1; its code with `counted_from: start` and `first_update: rests`).
    """

    kind: Literal["cosine"] = "cosine"

    def _left(self, done: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * done))


class InverseSqrt(Rate):
    """Linear warm-up to the peak, then decay with the inverse square root of the update. Source: fairseq's `inverse_sqrt`."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup_steps: Annotated[int, Field(gt=0)] | Percent = 4000

    def _after(self, time: int, total_steps: int) -> float:
        return math.sqrt(max(1, self.warmup(total_steps)) / time)


class Noam(Rate):
    """The schedule of the Transformer with its peak given: share(t) = sqrt(w) min(t^-0.5, t w^-1.5), t counted from 1.

    Source: Vaswani et al. 2017, section 5.3; ERNIE 2.0 (Sun et al. 2019, section 4.2.1) with `restart: stage`. Update `step` has
    t = step + 1, as in Paddle, whatever `first_update` says.
    """

    kind: Literal["noam"] = "noam"
    warmup_steps: Annotated[int, Field(gt=0)] | Percent = 4000

    def factor(self, step: int, total_steps: int) -> float:
        """Return the share of the peak rate for update `step`; `total_steps` plays a part only where the warm-up is a share of them."""
        time, warmup = step + 1, max(1, self.warmup(total_steps))
        return time / warmup if time < warmup else math.sqrt(warmup / time)


class WarmupStableDecay(Rate):
    """Warm-up, a plateau at the peak, and decay over the last `decay_steps`. Source: Hu et al. 2024 (MiniCPM); ModernBERT."""

    kind: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    decay_steps: Steps = 0
    shape: Literal["linear", "one_minus_sqrt"] = "one_minus_sqrt"
    """Of the decay; the second is ModernBERT's (Warner et al. 2024, section 3.2)."""
    floor: Share = 0.0
    """What is left of the peak at the last step."""

    def _after(self, time: int, total_steps: int) -> float:
        done = max(0.0, (time - (total_steps - self.decay_steps)) / max(1, self.decay_steps))
        left = 1.0 - (min(done, 1.0) if self.shape == "linear" else math.sqrt(min(done, 1.0)))
        return self.floor + (1.0 - self.floor) * left


RATES: Final = {
    "linear": Linear,
    "polynomial": Polynomial,
    "cosine": Cosine,
    "inverse_sqrt": InverseSqrt,
    "noam": Noam,
    "warmup_stable_decay": WarmupStableDecay,
    "constant": Constant,
}
