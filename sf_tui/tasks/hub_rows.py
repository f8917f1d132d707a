"""Rows of a data set that the `datasets` library finds by its id.

Knows what goes wrong on the way to the Hub and what to do about it. Knows nothing of schemas.
"""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.errors import DataError
from sf_tui.tasks.rows import BadRow, Row

DEFAULT_SPLIT = "train"


def hub_rows(identifier: str, split: str | None, subset: str | None) -> Iterator[Row | BadRow]:
    """Yield the rows of one split of a data set, numbered from 1.

    Args:
        identifier: `owner/name` or `name` on the Hub, or what `datasets.load_dataset` takes.
        split: `train` when None.
        subset: the configuration, for data sets that have several.

    Raises:
        DataError: if the data set can't be reached, does not exist or has no such part.
    """
    # Heavy (seconds), and local files do without it.
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    # The base of all that its HTTP client raises, whichever client a version of it is built on.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    # They steer the terminal, and the names in them are the data set's.
    datasets.disable_progress_bars()
    wanted = split or DEFAULT_SPLIT
    shown = f"{identifier} ({f'{subset}, ' if subset else ''}{wanted})"
    try:
        loaded = datasets.load_dataset(identifier, name=subset, split=wanted)
    except DatasetNotFoundError as error:
        raise DataError(
            f"{identifier}: no such file, and no such data set on the Hub: {_line(error)}",
            "give a file's path, or check the id; a private data set needs `hf auth login`",
        ) from error
    except (ConnectionError, HTTPError) as error:
        raise _unreachable(identifier, error) from error
    except ValueError as error:
        raise DataError(
            f"{shown}: {' '.join(str(error).split())}",
            'name the part that is meant with split = "..." and subset = "..."',
        ) from error
    except (OSError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"{shown}: the data set can't be loaded: {_line(error)}",
            "download its files and give one of them (JSONL, JSON, CSV or parquet)",
        ) from error
    for number, values in enumerate(loaded, 1):
        yield Row(f"{shown} row {number}", values)


def _unreachable(identifier: str, error: Exception) -> DataError:
    return DataError(
        f"{identifier}: no such file, and the Hub can't be reached for a data set: {_line(error)}",
        f"download it where there is a network (`hf download --repo-type dataset {identifier}`) "
        "and use its files here, or unset HF_HUB_OFFLINE; a file's path needs no network",
    )


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
