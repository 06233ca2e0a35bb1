"""What a rank runs on: node, GPU, memory held, and how much arithmetic the device can do at best."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path
from typing import Final

import torch

PEAK_FLOPS: Final[dict[str, tuple[float, float]]] = {
    "H200": (989e12, 67e12),
    "H100": (989e12, 67e12),
    "H800": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "A800": (312e12, 19.5e12),
    "V100": (125e12, 15.7e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "T4": (65e12, 8.1e12),
    "A10": (125e12, 31.2e12),
    "RTX 4090": (165e12, 82.6e12),
    "RTX 3090": (71e12, 35.6e12),
}
"""Dense products a second of 16 bits (tensor cores, sums in fp32) and of 32 bits, by a part of the device's name, from data sheets."""


def node_name() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def reachable(url: str) -> str:
    """Return host and port of a metrics URL as another machine would write them."""
    where = url.removeprefix("http://").removesuffix("/metrics")
    return where.replace("0.0.0.0:", f"{node_name()}:")


def gpu_of(device: torch.device) -> str:
    """Return the UUID of a GPU, "" of a CPU."""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", "")) if device.type == "cuda" else ""


def peak_flops(device: torch.device, precision: str) -> float:
    """Return the most FLOP a second that a device can do in a precision; 0 where it is not known, as of CPUs."""
    if device.type != "cuda":
        return 0.0
    name = torch.cuda.get_device_name(device)
    found = next((peaks for part, peaks in PEAK_FLOPS.items() if part in name), (0.0, 0.0))
    return found[1] if precision == "fp32" else found[0]


def held_bytes(device: torch.device) -> int:
    """Return the memory that this process holds now: on its GPU, or in all."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held: on its GPU, or in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
