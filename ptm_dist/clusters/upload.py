"""What a submission sends along: recipe and cluster file, plug-ins from outside the package, and the paths that the cluster file lists."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final

from ptm_dist.clusters.base import Cluster, Job, cluster_json
from ptm_dist.clusters.ignore import Pattern, leaves_out, read_patterns
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import recipe_to_json

RECIPE: Final = "recipe.json"
CLUSTER: Final = "cluster.json"
IGNORE: Final = ".ptmignore"
LIMIT_BYTES: Final = 500 << 20
"""What Ray takes at most."""

_NAMES: Final = {
    "a folder of git's": ".git/ .git .hg/ .svn/",
    "may hold secrets": ".env* *.env .netrc .pgpass .npmrc .pypirc .ssh/ .aws/ .azure/ .gcloud/ .kube/ .docker/ kubeconfig* .gnupg/",
    "is named like a key or a token": "*.pem *.key *.p12 *.pfx *.jks *.keystore *.kdbx id_rsa* id_dsa* id_ecdsa* id_ed25519* *credentials*"
    " *secret* *.token token token.* auth_token* *_token *_token.* *-token *-token.*"
    " !*.py",
    "made by programs": "__pycache__/ *.pyc .venv/ .pytest_cache/ .hypothesis/ .ruff_cache/ *.egg-info/ .DS_Store",
    "belongs to ptm": ".ptm/ .ptmignore",
}
"""Why files of these names, at any depth, never leave this machine."""
_TOP: Final = {"runs and prepared data lie on storage that the cluster sees": "/runs/ /data/"}

_SECRETS: Final = {
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a key of AWS": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|aws_secret_access_key\s*[=:]\s*[\"']?[A-Za-z0-9/+=]{40}",
    "a key of Google Cloud": rb"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,}",
    "a token of GitHub": rb"\bgh[pousr]_[0-9A-Za-z]{36}|\bgithub_pat_[0-9A-Za-z_]{22,}",
    "a token of GitLab": rb"\bglpat-[0-9A-Za-z_-]{20}",
    "a token of Hugging Face": rb"\bhf_[A-Za-z0-9]{30,}",
    "a token of Slack": rb"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "the address of a webhook": rb"hooks\.slack\.com/services/T[0-9A-Z]+/B|oapi\.dingtalk\.com/robot/send\?access_token=[0-9a-f]{20}"
    rb"|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/[0-9a-f-]{20}",
    "an API key": rb"\bsk-[A-Za-z0-9_-]{32,}",
    "a web token": rb"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{15,}",
}
_FIND_SECRET: Final = [(what, re.compile(pattern)) for what, pattern in _SECRETS.items()]
_BLOCK_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 1 << 10


@dataclass(frozen=True)
class File:
    """A file that is sent: its name there, and where its bytes are."""

    name: str
    size: int
    content: Path | bytes


@dataclass(frozen=True)
class Upload:
    """All that is sent, and what was found and is not: (name, why)."""

    files: tuple[File, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def gather(job: Job, cluster: Cluster, listed: Sequence[str], root: Path) -> Upload:
    """Collect what a submission sends; `listed` are paths below `root`, the directory in which ptm was started.

    Raises:
        ConfigError: a file holds a secret, leaves its folder or is not there, or all together are too large.

    """
    try:
        return _gathered(job, cluster, listed, root.resolve())
    except OSError as error:
        raise ConfigError(
            f"upload: {error.filename}: cannot be read ({error.strerror}). Name it in {IGNORE}, or make it readable."
        ) from error


def _gathered(job: Job, cluster: Cluster, listed: Sequence[str], root: Path) -> Upload:
    files: dict[str, File] = {}
    left_out: dict[str, str] = {}
    texts = {RECIPE: recipe_to_json(job.recipe), CLUSTER: cluster_json(cluster)}
    for name, value in texts.items():
        text = json_text(value).encode()
        files[name] = File(name, len(text), text)
    rules = _Rules.of(root)
    for entry in listed:
        _add(files, left_out, _walked(_place(entry, root), root, rules.at_top(), left_out))
    for path, folder in map(_module, sorted(plugins(recipe_to_json(job.recipe)))):
        _add(files, left_out, _walked(path, folder, rules if folder == root else _Rules.of(None), left_out))
    upload = Upload(tuple(files[name] for name in sorted(files)), tuple(sorted(left_out.items())))
    _require_small(upload)
    for file in upload.files:
        _require_no_secret(file)
    return upload


def pack(upload: Upload, path: Path) -> None:
    """Write the files as a zip; equal files give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in upload.files:
            about = zipfile.ZipInfo(file.name, date_time=(1980, 1, 1, 0, 0, 0))
            about.external_attr, about.compress_type = (stat.S_IFREG | 0o644) << 16, zipfile.ZIP_DEFLATED
            archive.writestr(about, file.content if isinstance(file.content, bytes) else file.content.read_bytes())


def json_text(value: Any) -> str:
    """Return JSON that reads the same as YAML, in which some characters would end a line."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" or char > "\uffff" else f"\\u{ord(char):04x}" for char in text) + "\n"


def plugins(value: Any) -> set[str]:
    """Return the top-level modules of the classes outside the package that a recipe names as package.module:Class."""
    if isinstance(value, list):
        return {name for item in value for name in plugins(item)}
    if not isinstance(value, dict):
        return set()
    kind = value.get("kind")
    here = {kind.partition(":")[0].partition(".")[0]} if isinstance(kind, str) and ":" in kind else set()
    return (here | {name for item in value.values() for name in plugins(item)}) - {"ptm_dist"}


def human(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size:,} bytes" if size < 10_000 else f"{size / 2**10:,.1f} KiB" if size < 10 << 20 else f"{size / 2**20:,.1f} MiB"


class _Rules:
    """Which names are left out, and why; the first that fits counts, and no later one brings a file back."""

    def __init__(self, groups: dict[str, tuple[Pattern, ...]]) -> None:
        self._groups = groups

    @classmethod
    def of(cls, root: Path | None) -> _Rules:
        groups = {why: read_patterns(names.split()) for why, names in _NAMES.items()}
        own = root / IGNORE if root else None
        if own is not None and own.is_file():
            groups[f"as {IGNORE} says"] = read_patterns(own.read_text(encoding="utf-8-sig").splitlines())
        return cls(groups)

    def at_top(self) -> _Rules:
        return _Rules(self._groups | {why: read_patterns(names.split()) for why, names in _TOP.items()})

    def against(self, name: str, *, is_folder: bool) -> str | None:
        return next((why for why, patterns in self._groups.items() if leaves_out(patterns, name, is_folder)), None)

    def against_any(self, path: PurePath, root: Path) -> str | None:
        """Return why a path below the root, or a folder that it lies in, is left out."""
        steps = [*reversed(path.parents), path][1:]
        return next((why for step in steps if (why := self.against(step.as_posix(), is_folder=(root / step).is_dir()))), None)


def _place(entry: str, root: Path) -> Path:
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts or not entry:
        raise ConfigError(f"upload: {entry}: write a path below the directory in which ptm is started, without '..'.")
    if not os.path.lexists(root / path):
        raise ConfigError(f"upload: {root / path}: there is no such file or folder.")
    return root / path


def _walked(path: Path, root: Path, rules: _Rules, left_out: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield (name below root, path) of the files at and below `path`.

    Raises:
        ConfigError: a link leaves the root, or `path` itself may not be sent.

    """
    if why := rules.against_any(path.relative_to(root), root):
        raise ConfigError(f"upload: {path.relative_to(root)}: is not sent: {why}. Remove it from the list.")
    waiting = [path]
    while waiting:
        at = waiting.pop()
        name = at.relative_to(root).as_posix()
        if at != root and (why := rules.against(name, is_folder=at.is_dir())):
            left_out[name + ("/" if at.is_dir() else "")] = why
            continue
        _require_inside(at, root, rules)
        if at.is_symlink() and at.is_dir():
            left_out[name] = "a link to a folder; list the folder itself"
        elif at.is_dir() and _is_run(at):
            left_out[f"{name}/"] = "a run directory"
        elif at.is_dir():
            waiting += at.iterdir()
        elif at.is_file():
            yield name, at
        else:
            left_out[name] = "no file (a pipe, a socket or a device)"


def _is_run(folder: Path) -> bool:
    return (folder / RECIPE).is_file() and (folder / "checkpoints").is_dir()


def _require_inside(path: Path, root: Path, rules: _Rules) -> None:
    if not path.is_symlink():
        return
    target = path.resolve()
    if not target.exists():
        raise ConfigError(f"upload: {path}: this link leads nowhere. Remove it, or name it in {IGNORE}.")
    if not target.is_relative_to(root):
        raise ConfigError(f"upload: {path}: this link leaves {root} (to {target}). Put a copy in its place, or name it in {IGNORE}.")
    if why := rules.against_any(target.relative_to(root), root):
        raise ConfigError(f"upload: {path}: this link leads to what is not sent: {why}. Remove it, or name it in {IGNORE}.")


def _add(files: dict[str, File], left_out: dict[str, str], found: Iterable[tuple[str, Path]]) -> None:
    for name, path in found:
        if name in (RECIPE, CLUSTER):
            raise ConfigError(f"upload: {path}: {name} is the name of a file that every submission has. Give it another name.")
        known = files.get(name)
        if known is not None and isinstance(known.content, Path) and known.content.resolve() != path.resolve():
            raise ConfigError(f"upload: {path} and {known.content} would both be {name} there. Give one of them another name.")
        files[name] = File(name, path.stat().st_size, path)
        left_out.pop(name, None)


def _module(name: str) -> tuple[Path, Path]:
    """Return the file or folder of a top-level module, and the folder that it lies in."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    places = list(found.submodule_search_locations or []) if found else []
    path = Path(places[0]) if places else Path(found.origin) if found and found.origin and found.has_location else None
    if path is None:
        raise ConfigError(f"kind: {name}: the plug-in is not found here, so it cannot be sent. Add its folder to PYTHONPATH.")
    return path.resolve(), path.resolve().parent


def _require_small(upload: Upload) -> None:
    if upload.size <= LIMIT_BYTES:
        return
    largest = sorted(upload.files, key=lambda file: -file.size)[:5]
    told = ", ".join(f"{file.name} {human(file.size)}" for file in largest)
    raise ConfigError(
        f"upload: {human(upload.size)} in {len(upload.files):,} files, more than the {LIMIT_BYTES >> 20} MiB that Ray takes. The largest: "
        f"{told}. Name what is not needed in {IGNORE}, or put it on storage that the cluster sees."
    )


def _require_no_secret(file: File) -> None:
    for block in _blocks(file.content):
        for what, pattern in _FIND_SECRET:
            if pattern.search(block):
                raise ConfigError(
                    f"upload: {file.name}: this file holds {what}, and whoever may see the cluster can read what is sent. Take it out, or "
                    f"name the file in {IGNORE}; put the secret into a file on the nodes that only you can read."
                )


def _blocks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        end = b""
        while block := file.read(_BLOCK_BYTES):
            yield end + block
            end = block[-_OVERLAP_BYTES:]
