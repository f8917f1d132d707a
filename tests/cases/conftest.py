"""The short run that the worker's tests play is what cases are made of."""

from __future__ import annotations

from tests.worker.conftest import begin, profile_file, undisturbed

__all__ = ["begin", "profile_file", "undisturbed"]
