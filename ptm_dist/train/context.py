"""What a worker knows about itself, and how workers agree. The training function sees nothing else of its launcher."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist

from ptm_dist.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerContext:
    """One rank of an attempt. It is also the `Peers` of the checkpoint protocol."""

    rank: int
    world: int
    local_rank: int
    attempt: int
    device: torch.device
    control: Any = None
    """A gloo group for decisions, when the main group cannot carry plain values (NCCL)."""

    def gather(self, value: T) -> list[T]:
        """Give every rank the values of all ranks, in rank order."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def sum(self, values: list[float]) -> list[float]:
        """Return the sum over ranks of each value, in float64 and in a fixed order."""
        table = torch.tensor(values, dtype=torch.float64)
        if self.world > 1:
            dist.all_reduce(table, group=self.control)
        return table.tolist()


def listen() -> socket.socket:
    """Return a listening socket of the loopback interface, at which ranks of this machine can meet.

    It is handed to the ranks open: a port that is only found free may be taken before the first rank listens on it.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def meet_at(listener: socket.socket, rank: int, world: int) -> Any:
    """Set what `join` reads, for ranks of one machine that meet at `listener`.

    Returns:
        For rank 0 the store in which they meet, which serves as long as it is kept.

    """
    host, port = listener.getsockname()
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # The store serves already: every rank, the first too, is its client.
    }
    if rank == 0:
        store = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
        return store(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    listener.close()
    return None


COLLECTIVES: Final = 2
"""How much longer a collective waits than the watchdog: stacks come first, and then the end of the rank."""


def join(attempt: int, timeout_seconds: int) -> WorkerContext:
    """Join the process group that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe, unless it exists.

    Raises:
        ConfigError: one of the variables is missing.

    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set. Start workers with ptm train, or with torchrun -m ptm_dist.train.")
    on_gpu = torch.cuda.is_available()
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
    timeout = timedelta(seconds=timeout_seconds)
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=timeout) if on_gpu else None
    return WorkerContext(dist.get_rank(), dist.get_world_size(), local_rank, attempt, device, control)


def leave() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
