"""From raw text to pretrained language models: eleven published systems, from a laptop to a cluster of GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptm_dist.report import load_run as load_run

__all__ = ["load_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing the package must stay cheap: the command line answers --help without torch.
    if name == "load_run":
        from ptm_dist.report import load_run

        return load_run
    raise AttributeError(f"module 'ptm_dist' has no attribute {name!r}")
