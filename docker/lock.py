"""Turns pip's report into a lock file, each line a version and the hash of the file that was chosen.

For each target, on the platform and with the Python of the image:

    python -m pip install --dry-run --ignore-installed --quiet --report - --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu . | python docker/lock.py > docker/requirements-cpu.lock
    python -m pip install --dry-run --ignore-installed --quiet --report - --constraint constraints.txt . \
        | python docker/lock.py > docker/requirements-gpu.lock
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any


def lock_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a requirement with its hash for each package that came from an index; what came from a folder has none."""
    for item in sorted(report["install"], key=lambda item: item["metadata"]["name"].lower()):
        hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
        if "sha256" in hashes:
            yield f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:{hashes['sha256']}"


if __name__ == "__main__":
    print("\n".join(lock_lines(json.load(sys.stdin))))
