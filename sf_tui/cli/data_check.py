"""`sf data check`: show how a data file is read, before training on it.

Knows options and output. The tasks package reads and encodes rows.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sf_tui.cli.complete import one_of
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import drawing_console, write_json_text, write_line
from sf_tui.errors import DataError, UsageError
from sf_tui.home import expand_home
from sf_tui.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import PreTrainedTokenizerBase

    from sf_tui.tasks.encoded_examples import EncodedExamples
    from sf_tui.tasks.loaded_rows import LoadedExamples
    from sf_tui.tasks.task import Example
    from sf_tui.tasks.text_tokens import ControlTokens

# English text in the vocabularies of today's models; only used where no tokenizer is given.
CHARACTERS_PER_TOKEN = 4

# A table may have any number of columns.
MOST_UNUSED_FIELDS = 100

# In characters: a screen and a half, and two lines for each piece if there are many.
LONGEST_SAMPLE = 3000
SHORTEST_PIECE = 160

# Mark the text that carries loss; a color alone would be lost in a pipe.
OPENS, CLOSES = "⟦", "⟧"

Piece = tuple[str, bool]
"""A piece of a sample, and whether it carries loss."""


@dataclass(frozen=True)
class Findings:
    """The result of a check; `--json` prints these fields."""

    file: str
    schema: str
    rows: int
    bad_rows: dict[str, Any]
    unit: str
    """`tokens`, or `characters` without a model."""
    lengths: dict[str, float]
    answer_lengths: dict[str, float]
    max_length: int | None
    too_long: int
    metric: str
    metric_estimated: bool
    sample: dict[str, Any]
    notes: list[str]
    unused_fields: dict[str, Any]
    """Fields and turn keys that are not read: their counts, and the first ones with their rows."""


def check(
    file: Annotated[str, typer.Argument(help="Read this data file, folder or `datasets` id.")],
    model: Annotated[
        str | None,
        typer.Option(help="Use the tokenizer of a directory, hub id, GGUF file or starter:NAME."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=FIELD",
            help='Map a field, or a text: prompt=FIELD, prompt="Capital of {name}:".',
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Read this split of a `datasets` id.")] = None,
    subset: Annotated[str | None, typer.Option(help="Read this subset of a `datasets` id.")] = None,
    group: Annotated[str | None, typer.Option(help="Group the rows by this field.")] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Count the rows with more tokens than this.")
    ] = None,
    on_bad_row: Annotated[
        str,
        typer.Option(
            autocompletion=one_of("error", "skip"),
            help="Handle a bad row: error, or skip (omit and count it).",
        ),
    ] = "error",
    control_tokens: Annotated[
        str,
        typer.Option(
            autocompletion=one_of("text", "keep", "error"),
            help="Encode control tokens in texts: text, keep, or error (a bad row).",
        ),
    ] = "text",
    as_json: AsJsonObject = False,
) -> None:
    """Show how a data file is read: schema, bad rows, a sample, lengths."""
    if on_bad_row not in ("error", "skip"):
        raise UsageError(f"--on-bad-row {on_bad_row}: unknown value", "choose from error and skip")
    if control_tokens not in ("text", "keep", "error"):
        raise UsageError(
            f"--control-tokens {control_tokens}: unknown value", "choose from text, keep and error"
        )
    if max_length is not None and model is None:
        raise UsageError(
            f"--max-length {max_length}: tokens can only be counted with a tokenizer",
            "add --model with the directory or id of the model",
        )
    # Deferred: only this command needs the readers.
    from sf_tui.tasks.loaded_rows import load_examples

    with _option_named():
        loaded = load_examples(
            expand_home(file),
            Path.cwd(),
            fields=_fields(field or []),
            on_bad_row=on_bad_row,
            group=group,
            split=split,
            subset=subset,
        )
        if model is None:
            findings, pieces = _in_characters(loaded)
        else:
            findings, pieces = _in_tokens(
                loaded, model, max_length, on_bad_row, cast("ControlTokens", control_tokens)
            )
    if as_json:
        write_json_text(json.dumps(vars(findings), ensure_ascii=False))
        return
    _show(findings, pieces, drawing_console(soft_wrap=True))


@contextmanager
def _option_named() -> Iterator[None]:
    """Name the option here where a hint names the profile's key."""
    try:
        yield
    except DataError as error:
        error.hint = error.hint.replace('on_bad_row = "skip"', "--on-bad-row skip")
        raise


def _fields(options: Sequence[str]) -> dict[str, str]:
    table = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--field {option}: not KEY=FIELD",
                "for example --field prompt=question --field completion=answer",
            )
        table[key] = value
    return table


def _in_tokens(
    loaded: LoadedExamples,
    model: str,
    max_length: int | None,
    on_bad_row: str,
    control_tokens: ControlTokens,
) -> tuple[Findings, list[Piece]]:
    # Deferred: the tokenizer imports transformers, which takes seconds.
    from sf_tui.tasks.encoded_examples import choose_metric, encode_all
    from sf_tui.tasks.encoding import NO_LOSS
    from sf_tui.tasks.model_source import load_tokenizer

    write_line(f"reading {loaded.shown} with the tokenizer of {model}", err=True)
    tokenizer = load_tokenizer(expand_home(model), Path.cwd())
    encoded = encode_all(loaded.examples, tokenizer, None, on_bad_row, control_tokens)
    first = encoded.rows[0]
    pieces: list[Piece] = []
    text, start = "", 0
    for end in range(1, len(first.labels) + 1):
        learned = first.labels[start] != NO_LOSS
        if end < len(first.labels) and (first.labels[end] != NO_LOSS) == learned:
            continue
        # How a token decodes may depend on those before it, so the whole prefix is decoded.
        upto = str(tokenizer.decode(first.input_ids[:end], clean_up_tokenization_spaces=False))
        pieces.append((upto[len(text) :], learned))
        text, start = upto, end
    sample = {
        "place": first.place,
        "input_ids": first.input_ids,
        "labels": first.labels,
    }
    lengths = [len(row.input_ids) for row in encoded.rows]
    findings = _findings(
        loaded,
        "tokens",
        lengths,
        [row.answer_tokens for row in encoded.rows],
        max_length or _own_limit(tokenizer.model_max_length),
        choose_metric(encoded.rows),
        sample | {"pieces": _named(pieces)},
        encoded,
    )
    findings.notes.extend(
        note for note in (_end_note(tokenizer, model, encoded.ends), encoded.template_note) if note
    )
    return findings, pieces


def _end_note(tokenizer: PreTrainedTokenizerBase, model: str, ends: frozenset[int]) -> str:
    """Return a note on trained end tokens that generation doesn't stop at; empty if unknown."""
    # Deferred: generation configs import transformers, which takes seconds.
    from sf_tui.engine.generation_end import end_note, stops_of_source
    from sf_tui.tasks.model_source import STARTER

    name = model
    if model.startswith(STARTER):
        # Deferred: only starters need the profile package.
        from sf_tui.profile import starter_directory

        name = str(starter_directory(model.removeprefix(STARTER)))
    elif model.lower().endswith(".gguf") or model == "biography":
        return ""
    stops = stops_of_source(str(Path(name).expanduser()))
    if stops is None:
        return ""
    return end_note(tokenizer, sorted(ends - set(stops)), stops)


def _own_limit(model_max_length: float) -> int | None:
    # Tokenizers without a limit report a number of thirty digits.
    return int(model_max_length) if model_max_length < 10**9 else None


def _in_characters(loaded: LoadedExamples) -> tuple[Findings, list[Piece]]:
    texts = [_plain_pieces(example) for example in loaded.examples]
    answers = [sum(len(text) for text, learned in pieces if learned) for pieces in texts]
    short = statistics.median(answers) / CHARACTERS_PER_TOKEN <= _longest_exact_answer()
    findings = _findings(
        loaded,
        "characters",
        [sum(len(text) for text, _ in pieces) for pieces in texts],
        answers,
        None,
        "exact_match" if short else "token_accuracy",
        {"place": loaded.examples[0].place, "pieces": _named(texts[0])},
    )
    return findings, texts[0]


def _longest_exact_answer() -> int:
    # Deferred: only this command needs the readers.
    from sf_tui.tasks.encoded_examples import LONGEST_EXACT_ANSWER

    return LONGEST_EXACT_ANSWER


def _plain_pieces(example: Example) -> list[Piece]:
    # Deferred: only this command needs the readers.
    from sf_tui.tasks.encoding import plain_segments

    if example.messages:
        return [(segment.text, segment.learnt) for segment in plain_segments(example.messages)]
    return [(example.prompt, False), (example.completion, True)]


def _named(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    return [{"text": text, "loss": learned} for text, learned in pieces if text]


def _findings(
    loaded: LoadedExamples,
    unit: str,
    lengths: Sequence[int],
    answer_lengths: Sequence[int],
    max_length: int | None,
    metric: str,
    sample: dict[str, Any],
    encoded: EncodedExamples | None = None,
) -> Findings:
    refused = encoded.refused if encoded else ()
    bad = [*loaded.first_bad, *refused][:3]
    return Findings(
        file=loaded.shown,
        schema=loaded.schema.name,
        rows=loaded.rows,
        bad_rows={
            "count": loaded.bad + len(refused),
            "first": [{"place": row.place, "reason": row.reason} for row in bad],
        },
        unit=unit,
        lengths=_spread(lengths),
        answer_lengths=_spread(answer_lengths),
        max_length=max_length,
        too_long=sum(max_length is not None and length > max_length for length in lengths),
        metric=metric,
        metric_estimated=unit != "tokens",
        sample=sample,
        notes=[*loaded.notes, *(encoded.notes() if encoded else ())],
        unused_fields={
            "count": len(loaded.unused),
            "first": [
                {"field": name, "rows": rows} for name, rows in loaded.unused[:MOST_UNUSED_FIELDS]
            ],
        },
    )


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    ordered = sorted(lengths)
    return {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p95": ordered[-(-len(ordered) * 95 // 100) - 1],
        "max": ordered[-1],
    }


def _show(findings: Findings, pieces: Sequence[Piece], console: Console) -> None:
    # Deferred: --json doesn't need rich.
    from rich.text import Text

    bad = findings.bad_rows
    console.print(Text(findings.file, style="bold"))
    _line(console, "schema", findings.schema)
    _line(console, "rows", f"{findings.rows - bad['count']} good, {bad['count']} bad")
    for row in bad["first"]:
        _line(console, "", f"{row['place']}: {row['reason']}")
    if more := bad["count"] - len(bad["first"]):
        _line(console, "", f"and {more} more")
    about = f"estimated at {CHARACTERS_PER_TOKEN} characters a token; --model gives exact counts"
    why = about if findings.metric_estimated else "by the median answer"
    _line(console, "metric", f"{findings.metric} (auto; {why})")
    for name, spread in (("length", findings.lengths), ("answer", findings.answer_lengths)):
        numbers = " · ".join(
            f"{label} {spread[key]:g}"
            for label, key in (
                ("min", "min"),
                ("median", "median"),
                ("95 %", "p95"),
                ("max", "max"),
            )
        )
        _line(console, name, f"{numbers} {findings.unit}")
    if findings.max_length is not None:
        _line(console, "too long", f"{findings.too_long} (more than {findings.max_length} tokens)")
    for note in findings.notes:
        _line(console, "note", note.removeprefix(f"{findings.file}: "))
    place = findings.sample["place"]
    console.print(f"\nsample {place}, {OPENS}what carries loss{CLOSES}:")
    sample = Text()
    for text, learned in _shortened(pieces):
        # The width of a tab is undefined.
        shown = printable(text.expandtabs(4))
        if learned:
            sample.append(f"{OPENS}{shown}{CLOSES}", style="bold cyan")
        else:
            sample.append(shown)
    console.print(sample)


def _line(console: Console, name: str, text: str) -> None:
    console.print(f"  {name:<9} {text}")


def _shortened(pieces: Sequence[Piece]) -> list[Piece]:
    """Cut the middle of texts that would fill the screen."""
    if sum(len(text) for text, _ in pieces) <= LONGEST_SAMPLE:
        return [piece for piece in pieces if piece[0]]
    share = max(SHORTEST_PIECE, LONGEST_SAMPLE // len(pieces))
    shortened = []
    for text, learned in pieces:
        if len(text) > share:
            half = share // 2
            text = f"{text[:half]} … {len(text) - 2 * half} more … {text[-half:]}"
        shortened.append((text, learned))
    return [piece for piece in shortened if piece[0]]
