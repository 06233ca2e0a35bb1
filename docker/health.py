"""Is this container well? Where PTM_METRICS_PORT is set, its metrics answer; otherwise the Ray of RAY_ADDRESS does. Exit code 0 or 1."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request


def main() -> int:
    """Return 0 if it is."""
    port = os.environ.get("PTM_METRICS_PORT")
    if port:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{int(port)}/metrics", timeout=5) as answer:
                return 0 if answer.status == 200 else 1
        except (OSError, ValueError):
            return 1
    address = os.environ.get("RAY_ADDRESS", "127.0.0.1:6379")
    return subprocess.run(["ray", "health-check", "--address", address], capture_output=True, timeout=15, check=False).returncode and 1


if __name__ == "__main__":
    sys.exit(main())
