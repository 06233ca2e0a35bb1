"""Two hosts of our own on this machine: network namespaces with addresses of their own, joined by a wire, and a Ray node in each."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

WIRE = "ptm0"
START_SECONDS = 180
ATTEMPTS = 3


def can_be_made() -> bool:
    """Is this machine one that lets us make hosts?"""
    return os.geteuid() == 0 and shutil.which("ip") is not None and _ip("netns", "list").returncode == 0


def _ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


class Hosts:
    """A head (a) and a second host (b), with one worker's core each; what is started in them ends with them."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"ptm{os.getpid() % 100000}"
        self.net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.addresses = {"a": f"{self.net}.1", "b": f"{self.net}.2"}
        self.dashboard = f"http://{self.addresses['a']}:8265"
        self.folder = folder
        self.token = secrets.token_hex(32)
        self.token_file = folder / "token"
        self.token_file.write_text(self.token)
        self.token_file.chmod(0o600)
        self.temporary = Path(tempfile.mkdtemp(prefix="ptm-ray-"))
        for host in self.addresses:
            self._must("netns", "add", self.space(host))
            self._must("-n", self.space(host), "link", "set", "lo", "up")
        self._must("link", "add", WIRE, "netns", self.space("a"), "type", "veth", "peer", "name", WIRE, "netns", self.space("b"))
        for host, address in self.addresses.items():
            self._must("-n", self.space(host), "address", "add", f"{address}/24", "dev", WIRE)
            self._must("-n", self.space(host), "link", "set", WIRE, "up")

    @staticmethod
    def _must(*words: str) -> None:
        done = _ip(*words)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")

    def space(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"{self.mark}-{host}"

    def words(self, host: str, *words: str) -> list[str]:
        """Return the words that run a program on a host."""
        return ["ip", "netns", "exec", self.space(host), *words]

    def environment(self) -> dict[str, str]:
        """Return the variables of programs there."""
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file), "OMP_NUM_THREADS": "1"}
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own

    def start(self, host: str) -> None:
        """Start the Ray node of a host and wait until it serves."""
        for _ in range(ATTEMPTS):  # Ray gives a node 30 seconds to come up, which a busy machine does not always keep.
            if self._starts(host):
                return
            self.kill(host)
        raise RuntimeError(f"{host}: Ray did not start: {self._log(host).read_text()[-2000:]}")

    def _log(self, host: str) -> Path:
        return self.folder / f"ray-{host}.log"

    def _starts(self, host: str) -> bool:
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--object-store-memory=80000000"]
        words += [f"--node-ip-address={self.addresses[host]}", "--disable-usage-stats"]
        if host == "a":
            words += ["--head", "--port=6379", f"--dashboard-host={self.addresses['a']}", "--dashboard-port=8265"]
            words += [f"--temp-dir={self.temporary}"]
        else:
            words += [f"--address={self.addresses['a']}:6379"]
        with self._log(host).open("wb") as file:
            process = subprocess.Popen(self.words(host, *words), env=self.environment(), stdout=file, stderr=file, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if "Ray runtime started" in self._log(host).read_text() and (host == "b" or self.asked("/api/jobs/") == 200):
                return True
            time.sleep(0.3)
        return False

    def asked(self, path: str) -> int | None:
        """Return the status that the head's dashboard answers with, seen from the head; None if nobody answers."""
        asking = "requests.get(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.argv[2]}, timeout=5)"
        script = f"import sys, requests; print({asking}.status_code)"
        words = self.words("a", sys.executable, "-c", script, self.dashboard + path, self.token)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return int(done.stdout) if done.returncode == 0 else None

    def kill(self, host: str) -> None:
        """End every process of a host at once, as if its power failed."""
        deadline = time.monotonic() + 30
        while (pids := _ip("netns", "pids", self.space(host)).stdout.split()) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.2)

    def close(self) -> None:
        """End what runs, and remove the hosts."""
        for host in self.addresses:
            self.kill(host)
            _ip("netns", "delete", self.space(host))
        shutil.rmtree(self.temporary, ignore_errors=True)
