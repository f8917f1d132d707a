"""`sf rename` and `sf note`: what people call a run, and why they made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import RunError, UsageError

if TYPE_CHECKING:
    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.labels import Labels

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Label this run: an id, a name, a prefix, `last` or a directory.",
        autocompletion=complete_run,
    ),
]


def rename(
    run: Run,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Give it this name; '' takes its name away.")
    ],
) -> None:
    """Give a run a name that every command takes in place of its id.

    The id and the directory stay as they are, so it can be done while the run trains. For
    example: `sf rename last baseline`, then `sf compare baseline last`.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import replace

    from sf_tui.run.directory import find_run
    from sf_tui.run.labels import write_labels

    found = find_run(run)
    if name:
        _check_name(found, name)
    write_labels(found.path, replace(_labels_of(found), name=name))
    write_line(f"{found.id}: {f'named {name}' if name else 'has no name now'}", err=True)


def note(
    run: Run,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="Write this note; '' deletes it; omit to print it."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Add this tag; repeatable.")
    ] = None,
    untag: Annotated[
        list[str] | None, typer.Option("--untag", help="Remove this tag; repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the labels as JSON.")] = False,
) -> None:
    """Write a note on a run, or tag it; without either, print what it has.

    For example: `sf note last "rate halved" --tag sweep`, then `sf runs --tag sweep`.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict, replace

    from sf_tui.run.directory import find_run
    from sf_tui.run.labels import check_note, check_word, write_labels

    found = find_run(run)
    labels = _labels_of(found)
    for word in tag or ():
        check_word(word, "tag")
    if text is not None:
        check_note(text)
        labels = replace(labels, note=text)
    labels = labels.tagged(tuple(tag or ()), tuple(untag or ()))
    if text is not None or tag or untag:
        write_labels(found.path, labels)
    if json:
        write_json({"run": found.id, **asdict(labels)})
    elif text is None and not tag and not untag:
        for key, value in (
            ("name", labels.name),
            ("tags", ", ".join(labels.tags)),
            ("note", labels.note),
        ):
            write_line(f"{key}\t{value}")


def _labels_of(run: RunDirectory) -> Labels:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.labels import read_labels

    labels, damage = read_labels(run.path)
    if damage:
        # To write over it would lose what it holds.
        raise RunError(damage[0], "mend the file, or delete it: it holds labels only")
    return labels


def _check_name(run: RunDirectory, name: str) -> None:
    """Refuse a name that means another run, a path or an option.

    Raises:
        UsageError: it does.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import list_runs
    from sf_tui.run.labels import check_word, read_labels

    check_word(name, "name")
    if name == "last":
        raise UsageError("'last' means the newest run, so it can't be a name", "choose another")
    for other in list_runs():
        if other.path == run.path:
            continue
        if name in (other.id, read_labels(other.path)[0].name):
            kind = "id" if other.id == name else "name"
            raise UsageError(
                f"'{name}' is the {kind} of {other.id} already",
                "choose another" if kind == "id" else f"`sf rename {other.id} ''` frees it",
            )
