"""Turns whatever a library raises over a model's files into one readable `ModelError`.

Knows nothing of any file. A model directory is input from outside: its faults reach the caller as
any exception that transformers, tokenizers, safetensors or torch can raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sf_tui.errors import ModelError, SfError

LONGEST = 300
"""Letters of a library's message that are quoted."""


def first_line(error: BaseException) -> str:
    """Return the line of an exception's message that says what is wrong."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "not enough memory"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # "Validation error for field 'hidden_size':" says what is wrong in its second line.
    said = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
    return said[:LONGEST]


@contextmanager
def model_faults(describe: Callable[[BaseException], ModelError]) -> Iterator[None]:
    """Raise a `ModelError` in place of any failure but sf's own and those that end the process.

    Args:
        describe: makes the error; it is given what was raised.

    Raises:
        ModelError: the block raised anything but an `SfError`.
    """
    try:
        yield
    except SfError:
        raise
    except Exception as error:
        raise describe(error) from error
    except BaseException as error:
        # A panic in Rust code (tokenizers, safetensors) derives from BaseException.
        if type(error).__name__ != "PanicException":
            raise
        raise describe(error) from error
