"""Looks at every node before an attempt: are matrix products right and as fast as elsewhere, do sums cross the network as fast?

A product of small whole numbers is exact in every precision, so that one wrong bit shows. Sums are exchanged in pairs, twice with other
partners: a node that is slow both times is slow itself, and not only its partner is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from ptm_dist.faults import reached

SLOW: Final = 1.5
"""Times the median of all nodes from which a node counts as slow."""
SIZE: Final = 512
"""Rows and columns of the matrices on a CPU; eight times that on a GPU."""
SUM_NUMBERS: Final = 4 << 20
"""Numbers in a sum: 16 MB."""
SLACK_SECONDS: Final = 60.0
"""What starting processes may take beside the check itself."""


@dataclass(frozen=True)
class NodeReport:
    """What was found of one node."""

    node: str
    """Its id in Ray."""
    name: str
    matmul_seconds: float | None
    """Of one product; None if the node did not answer."""
    allreduce_seconds: float | None
    """Of one sum with the better of its two partners; None where there was no partner."""
    reason: str = ""
    """Why it is left out; "" if it is fine."""

    @property
    def fine(self) -> bool:
        """Is it fit for work?"""
        return not self.reason

    def event(self) -> dict[str, Any]:
        """Return what the log says of it."""
        said = asdict(self)
        return said | {"id": self.node, "node": said.pop("name"), "fine": self.fine}


@dataclass(frozen=True)
class Measured:
    """Raw figures of a node."""

    name: str
    matmul_seconds: float | None = None
    is_right: bool = True
    allreduce_seconds: float | None = None
    failure: str = ""


def judge(found: Mapping[str, Measured]) -> list[NodeReport]:
    """Return a report of each node; beside the median of all, since nobody knows how fast it should be."""
    products = [one.matmul_seconds for one in found.values() if one.matmul_seconds]
    sums = [one.allreduce_seconds for one in found.values() if one.allreduce_seconds]
    usual = (statistics.median_low(products) if products else 0.0, statistics.median_low(sums) if sums else 0.0)
    return [
        NodeReport(node, one.name, one.matmul_seconds, one.allreduce_seconds, _fault(one, *usual)) for node, one in sorted(found.items())
    ]


def _fault(one: Measured, usual_product: float, usual_sum: float) -> str:
    if one.failure:
        return one.failure
    if not one.is_right:
        return "a matrix product was wrong"
    if one.matmul_seconds and one.matmul_seconds > SLOW * usual_product:
        return f"matrix products take {one.matmul_seconds / usual_product:.1f} times as long as elsewhere"
    if one.allreduce_seconds and one.allreduce_seconds > SLOW * usual_sum:
        return f"sums over the network take {one.allreduce_seconds / usual_sum:.1f} times as long as elsewhere"
    return ""


def check_nodes(seconds: float, threads: int) -> list[NodeReport]:
    """Spend about `seconds` on all live nodes side by side and return what was found; a node that does not answer is reported too."""
    import ray

    nodes = {node["NodeID"]: node["NodeName"] for node in ray.nodes() if node["Alive"] and _has_work(node["Resources"])}
    probes = {node: _on(node, threads) for node in nodes}
    found = _ask_all(
        {node: probe.multiply.remote(seconds / 2) for node, probe in probes.items()},
        seconds / 2 + SLACK_SECONDS,
        lambda node, value: Measured(nodes[node], *value),
        lambda node, why: Measured(nodes[node], failure=why),
    )
    sums: dict[str, list[float]] = {}
    answering = [node for node, one in found.items() if not one.failure]
    for round_number in range(2):
        for node, value in _exchange(probes, pairs(answering, round_number), seconds / 4).items():
            sums.setdefault(node, []).append(value)
    for probe in probes.values():
        ray.kill(probe)
    return judge({node: _with_sum(one, sums.get(node)) for node, one in found.items()})


def pairs(nodes: Sequence[str], round_number: int) -> list[tuple[str, str]]:
    """Return who exchanges sums with whom; in the second round everybody has another partner, where there are more than two."""
    order = list(nodes)
    order = order[round_number:] + order[:round_number]
    found = list(zip(order[::2], order[1::2], strict=False))
    if len(order) % 2 and len(order) > 1:
        found.append((order[-1], order[0]))
    return found


def _with_sum(one: Measured, sums: list[float] | None) -> Measured:
    return one if not sums else Measured(one.name, one.matmul_seconds, one.is_right, min(sums), one.failure)


def _has_work(resources: Mapping[str, float]) -> bool:
    return resources.get("CPU", 0) > 0 or resources.get("GPU", 0) > 0


def _on(node: str, threads: int) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    gpus = next(one["Resources"].get("GPU", 0) for one in ray.nodes() if one["NodeID"] == node)
    options = {"num_cpus": 0, "num_gpus": gpus, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
    return ray.remote(**options)(Probe).remote(threads)


def _ask_all(
    asked: Mapping[str, Any], seconds: float, answer: Callable[[str, Any], Measured], silence: Callable[[str, str], Measured]
) -> dict[str, Measured]:
    """Wait for all answers; whoever fails or stays silent is reported so."""
    import ray
    from ray import exceptions

    found, deadline = {}, time.monotonic() + seconds
    for node, reference in asked.items():
        try:
            found[node] = answer(node, ray.get(reference, timeout=max(0.1, deadline - time.monotonic())))
        except exceptions.GetTimeoutError:
            found[node] = silence(node, f"it did not answer within {seconds:.0f} s")
        except exceptions.RayError as error:
            found[node] = silence(node, f"the check failed there: {str(error).strip().splitlines()[-1]}")
    return found


def _exchange(probes: Mapping[str, Any], partners: Sequence[tuple[str, str]], seconds: float) -> dict[str, float]:
    """Let pairs of nodes add up numbers side by side; return the seconds of one sum by node, the longest wait where a pair fails."""
    import ray
    from ray import exceptions

    places = ray.get([probes[first].meet.remote() for first, _ in partners])
    asked = [
        [probes[node].add_up.remote(place, rank, seconds) for rank, node in enumerate(pair)]
        for pair, place in zip(partners, places, strict=True)
    ]
    found: dict[str, float] = {}
    for pair, answers in zip(partners, asked, strict=True):
        try:
            taken = ray.get(answers, timeout=seconds + SLACK_SECONDS)
        except (exceptions.GetTimeoutError, exceptions.RayError):
            taken = [SLACK_SECONDS, SLACK_SECONDS]
        found |= dict(zip(pair, taken, strict=True))
    return found


class Probe:
    """Works on one node."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        self._devices = gpus or [torch.device("cpu")]
        self._listener: Any = None

    def multiply(self, seconds: float) -> tuple[float, bool]:
        """Multiply for so long on each device in turn; return the seconds of a product on the slowest, and whether all were right."""
        reached("check.multiply")
        found = [_multiply(device, seconds / len(self._devices)) for device in self._devices]
        return max(taken for taken, _ in found), all(right for _, right in found)

    def meet(self) -> tuple[str, int]:
        """Listen at this node and return where."""
        import ray
        import torch.distributed as dist

        host = ray.util.get_node_ip_address()
        store: Any = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
        self._listener = store(host, 0, is_master=True, wait_for_workers=False)
        return host, self._listener.port

    def add_up(self, address: tuple[str, int], rank: int, seconds: float) -> float:
        """Add numbers up with a partner for so long; return the seconds of the fastest sum."""
        import torch
        import torch.distributed as dist

        tensor = torch.ones(SUM_NUMBERS)
        kind: Any = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
        store = self._listener if rank == 0 else kind(address[0], address[1], is_master=False)
        # Over gloo also between GPUs: it is the network between nodes that is looked at.
        dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=seconds + SLACK_SECONDS))
        try:
            fastest, going = float("inf"), torch.ones(1)
            deadline = time.monotonic() + seconds
            while going.item():
                started_at = time.perf_counter()
                dist.all_reduce(tensor.fill_(1.0))
                fastest = min(fastest, time.perf_counter() - started_at)
                going.fill_(float(time.monotonic() < deadline))
                dist.all_reduce(going, op=dist.ReduceOp.MIN)
            return fastest
        finally:
            dist.destroy_process_group()
            self._listener = None


def _multiply(device: Any, seconds: float) -> tuple[float, bool]:
    import torch

    size = SIZE * (8 if device.type == "cuda" else 1)
    numbers = torch.arange(size * size, device=device).remainder(7).reshape(size, size)
    left, ones = numbers.to(torch.float32), torch.ones(size, size, device=device)
    # Each number of row i is the sum of that row of whole numbers.
    expected = numbers.sum(1, keepdim=True).to(torch.float32).expand(size, size)
    fastest, right, deadline = float("inf"), True, time.monotonic() + seconds
    while right and time.monotonic() < deadline:
        started_at = time.perf_counter()
        right = torch.equal(left @ ones, expected)  # Waits for the device.
        fastest = min(fastest, time.perf_counter() - started_at)
    return fastest, right
