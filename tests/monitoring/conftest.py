"""Runs as the end-to-end tests make them."""

from tests.e2e.conftest import make_run, tiny_data

__all__ = ["make_run", "tiny_data"]
