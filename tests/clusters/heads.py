"""A Ray head of our own, with its own ports, folder and token."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

START_SECONDS = 180
ATTEMPTS = 3


class Head:
    """A head that runs until `end`; beside it no other Ray of this machine is touched."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        # A socket's path may have 107 letters, so pytest's own folders are too deep.
        self.temporary = Path(tempfile.mkdtemp(prefix="ptm-ray-"))
        self.token = secrets.token_hex(32)
        self.token_file = folder / "token"
        self.token_file.write_text(self.token)
        self.token_file.chmod(0o600)
        self.log = folder / "head.log"
        # Ray gives a node 30 seconds to come up, which a machine with much to do does not always keep.
        if not any(self._starts(cpus) for _ in range(ATTEMPTS)):
            raise RuntimeError(f"the head did not start: {self.log.read_text()[-2000:]}")

    def _starts(self, cpus: int) -> bool:
        self.dashboard, *ports = _free_ports(5)
        self.address = f"http://127.0.0.1:{self.dashboard}"
        words = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
            *(f"--port={ports[0]}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}", f"--num-cpus={cpus}"),
            *(f"--ray-client-server-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}", f"--metrics-export-port={ports[3]}"),
            *("--object-store-memory=100000000", f"--temp-dir={self.temporary}", "--disable-usage-stats"),
        ]
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file), "OMP_NUM_THREADS": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(words, env=environment, stdout=file, stderr=file, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.2)
        self.end()
        return False

    def _answers(self) -> bool:
        if "Ray runtime started" not in self.log.read_text():
            return False
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            return requests.get(f"{self.address}/api/jobs/", headers=headers, timeout=5).status_code == 200
        except requests.exceptions.RequestException:
            return False

    def end(self) -> None:
        """End the processes of this head, and no others."""
        known = [self.process.pid] if self.process.poll() is None else []
        ours = [process for pid in known for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]]
        for process in ours:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(ours, timeout=20)
        self.process.wait(timeout=20)
        shutil.rmtree(self.temporary, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports
