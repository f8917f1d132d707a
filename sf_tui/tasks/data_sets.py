"""Data sets that are not single files: folders of shards, `save_to_disk` folders, ids on the Hub.

Chooses a folder's files by name and layout and does not open them. Knows nothing of schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from sf_tui.errors import DataError
from sf_tui.tasks.task import BadRow, Row, listed

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", ".arrow")

DEFAULT_SPLIT = "train"

# Folders in a data set's repository are `data/` or a subset's name; deeper ones are not data.
_DEEPEST = 3

# Files that describe a data set, not its rows.
_ABOUT = frozenset(
    {
        *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
        *("config.json", "metadata.json", "croissant.json"),
    }
)

_SPLITS = frozenset({"train", "training", "test", "validation", "valid", "val", "dev", "eval"})


def folder_files(
    folder: Path, shown: str, split: str | None = None, subset: str | None = None
) -> list[Path]:
    """Return the files of a folder's data set, in reading order.

    Args:
        folder: shards of one format (also in subfolders), or the output of `save_to_disk`.
        shown: the folder's name in messages.
        split: the split to read if there are several; None: `train`.
        subset: the subfolder to read.

    Raises:
        DataError: there is no data file, no such part, or several data sets.
    """
    if subset is not None:
        below = folder / subset
        if Path(subset).name != subset or not below.is_dir():
            folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            raise DataError(
                f'{shown}: subset = "{subset}": the folder has no folder of this name',
                f"it has {listed(folders) or 'none'}",
            )
        folder, shown = below, f"{shown}/{subset}"
    if (folder / "dataset_dict.json").is_file():
        return _saved_split(folder, shown, split)
    if (folder / "state.json").is_file():
        return _saved(folder, shown, split)
    return _shards(folder, shown, split)


def _saved_split(folder: Path, shown: str, split: str | None) -> list[Path]:
    splits = _json(folder / "dataset_dict.json", shown).get("splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
        raise DataError(f"{shown}/dataset_dict.json: names no splits", "save the data set again")
    wanted = split or (splits[0] if len(splits) == 1 else DEFAULT_SPLIT)
    if wanted not in splits or Path(wanted).name != wanted:
        raise DataError(
            f'{shown}: the data set has no split "{wanted}"',
            f'name one with split = "...": {listed(splits)}',
        )
    return _saved(folder / wanted, f"{shown}/{wanted}", None)


def _saved(folder: Path, shown: str, split: str | None) -> list[Path]:
    """Return the Arrow files of one data set written by `save_to_disk`."""
    state = _json(folder / "state.json", shown)
    own = state.get("_split")
    if split is not None and own is not None and split != own:
        raise DataError(
            f'{shown}: holds the split "{own}", not "{split}"', f'remove split, or write "{own}"'
        )
    entries = state.get("_data_files")
    names = [e.get("filename") for e in entries if isinstance(e, dict)] if entries else []
    files = []
    for name in names:
        # Only files in the same folder are accepted.
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise DataError(
                f"{shown}/state.json: names the file {name!r}, which the folder does not hold",
                "copy the whole folder, or save the data set again",
            )
        files.append(folder / name)
    if not files:
        raise DataError(f"{shown}/state.json: names no data files", "save the data set again")
    return files


def _json(path: Path, shown: str) -> dict[str, Any]:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(
            f"{shown}/{path.name}: can't be read: {error}", "save the data set again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{shown}/{path.name}: holds no object", "save the data set again")
    return value


def _shards(folder: Path, shown: str, split: str | None) -> list[Path]:
    files = _data_files(folder, 1)
    names = [str(file.relative_to(folder)) for file in files]
    if not files:
        raise DataError(
            f"{shown}: is a folder without data files",
            f"it must hold files of one format: {', '.join(DATA_SUFFIXES)} (each may be .gz)",
        )
    splits = [_split_of(name) for name in names]
    if split is not None or len({*splits}) > 1:
        wanted = split or DEFAULT_SPLIT
        chosen = [f for f, own in zip(files, splits, strict=True) if own == wanted]
        found = sorted({own for own in splits if own is not None})
        if not chosen or (split is None and None in splits):
            raise DataError(
                f'{shown}: is a folder without files of the split "{wanted}"'
                if not chosen
                else f"{shown}: is a folder of several data sets: {listed(names)}",
                f'name one with split = "...": {listed(found)}'
                if found
                else f"name one of its files: {listed(names, 5)}",
            )
        files = chosen
    patterns = {re.sub(r"\d+", "#", str(file.relative_to(folder))) for file in files}
    if len(patterns) > 1:
        raise DataError(
            f"{shown}: is a folder of several data sets: "
            f"{listed(str(file.relative_to(folder)) for file in files)}",
            "name one of its files; files that differ in more than a number are no shards",
        )
    _check_complete(files, shown)
    return files


def _check_complete(files: Sequence[Path], shown: str) -> None:
    """Refuse missing shards, if the names contain the total."""
    counted = [re.search(r"(\d+)-of-(\d+)", file.name) for file in files]
    if not all(counted):
        return
    totals = {int(found[2]) for found in counted if found}
    if len(totals) == 1 and (total := totals.pop()) != len(files):
        raise DataError(
            f"{shown}: holds {len(files)} of {total} shards ({files[0].name}, …)",
            "copy the missing ones",
        )


def _split_of(name: str) -> str | None:
    """Return the split that the name of a file or its folder starts with."""
    for part in reversed(Path(name).parts):
        first = re.split(r"[-_.]", part, maxsplit=1)[0].lower()
        if first in _SPLITS:
            return first
    return None


def _data_files(folder: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    for entry in sorted(folder.iterdir(), key=_natural):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            if depth < _DEEPEST:
                found += _data_files(entry, depth + 1)
        elif (
            entry.name.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)
            and entry.name not in _ABOUT
        ):
            found.append(entry)
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts shard 2 before shard 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(p), p) if p.isdecimal() and len(p) < 20 else (0, p) for p in parts]


def hub_rows(identifier: str, split: str | None, subset: str | None) -> Iterator[Row | BadRow]:
    """Yield the rows of one split of a data set, numbered from 1.

    Args:
        identifier: `owner/name` or `name` on the Hub, or another `datasets.load_dataset` path.
        split: `train` when None.
        subset: the configuration of a data set with several.

    Raises:
        DataError: the data set can't be reached, does not exist or has no such part.
    """
    # Deferred: takes seconds to import, and local files don't need it.
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    # The base class of HTTP errors, independent of the HTTP client that the version uses.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    # Progress bars write control codes and names from the data set to the terminal.
    datasets.disable_progress_bars()
    wanted = split or DEFAULT_SPLIT
    shown = f"{identifier} ({f'{subset}, ' if subset else ''}{wanted})"
    try:
        loaded = datasets.load_dataset(identifier, name=subset, split=wanted)
    except DatasetNotFoundError as error:
        raise DataError(
            f"{identifier}: no such file, and no such data set on the Hub: {_first_line(error)}",
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
            f"{shown}: the data set can't be loaded: {_first_line(error)}",
            "download its files and give one of them (JSONL, JSON, CSV or parquet)",
        ) from error
    for number, values in enumerate(loaded, 1):
        yield Row(f"{shown} row {number}", values)


def _unreachable(identifier: str, error: Exception) -> DataError:
    return DataError(
        f"{identifier}: no such file, and the Hub can't be reached for a data set: "
        f"{_first_line(error)}",
        f"download it where there is a network (`hf download --repo-type dataset {identifier}`) "
        "and use its files here, or unset HF_HUB_OFFLINE; a file's path needs no network",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
