"""English that is on every machine: docstrings and Python's own help topics, read from source files without importing them."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from ptm_dist.data.document import Document
from ptm_dist.errors import DataUnavailableError

LEAST_CHARACTERS: Final = 200
"""Docstrings up to this long say little; they are no documents."""

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def version_of(package: str) -> str:
    """Return the version of an installed package, or of Python for "python".

    Raises:
        DataUnavailableError: it is not installed.

    """
    if package == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise DataUnavailableError(f"packages: {package!r} is not installed. Install it, or take it off the list.") from error


def source_files(package: str) -> list[tuple[str, int]]:
    """Return ("package/path.py", bytes) of every source file of a package, sorted."""
    root = _root(package)
    files = [(file.relative_to(root).as_posix(), file.stat().st_size) for file in root.rglob("*.py")]
    return [(f"{package}/{name}", size) for name, size in sorted(files) if "site-packages" not in name]


def topics() -> Iterator[Document]:
    """Yield the help topics of Python, what help("FOR") shows."""
    from pydoc_data.topics import topics as texts

    for name, text in sorted(texts.items()):
        yield Document(f"topics/{name}", text)


def docstrings_of(name: str) -> Iterator[Document | str]:
    """Yield the long docstrings of "package/path.py" in the order of their lines, or `not_python` if it does not parse."""
    package, _, path = name.partition("/")
    try:
        source = (_root(package) / path).read_bytes()
    except OSError as error:
        raise DataUnavailableError(f"{_root(package) / path}: {error.strerror}. Reinstall the package {package}.") from error
    if b'"""' not in source and b"'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield "not_python"
        return
    for node in _documented(module):
        text = ast.get_docstring(node)
        if text and len(text) > LEAST_CHARACTERS:
            yield Document(f"{name}:{getattr(node, 'lineno', 0)}", text)


def _documented(node: ast.AST) -> Iterator[_Documented]:
    """Yield what may have a docstring, walking statements only: nine tenths of a tree are expressions."""
    if isinstance(node, _Documented):
        yield node
    for block in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, block, ()):
            yield from _documented(child)


@lru_cache
def _root(package: str) -> Path:
    if package == "python":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataUnavailableError(f"packages: {package!r} is not an installed package with source files. Take it off the list.")
    return Path(next(iter(spec.submodule_search_locations)))
