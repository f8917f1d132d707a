"""Fields that decide whether a row or a turn may be learned, under the names that data sets use.

Knows names and values of such marks. Knows nothing of schemas, files or tokens.

Sources of the names: OpenAI fine-tuning (`weight`), axolotl (`train`, `train_detail`), ShareGPT
and ms-swift (`loss`, `loss_scale`), Megatron and NeMo (`loss_mask`, `mask`), TRL's KTO (`label`),
LLaMA-Factory (`kto_tag`, `chosen`, `rejected`, `images`), OpenAssistant (`deleted`).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from enum import Enum
from typing import Any

from sf_tui.tasks.task import RowError, kind_of


class Mark(Enum):
    """How the value of a mark is read."""

    LEARN = "learn"
    """0 or false: don't learn. 1 or true: learn."""
    OMIT = "omit"
    """1 or true: don't learn. 0 or false: learn."""
    LEARN_FLAG = "learn flag"
    """Like LEARN, but only true and false count: a number has another meaning."""
    OMIT_FLAG = "omit flag"
    """Like OMIT, but only true and false count."""
    UNCLEAR = "unclear"
    """Data sets use it in both meanings, or for parts of a text: any value is refused."""


_ANYWHERE = {
    **dict.fromkeys(
        (
            *("train", "trainable", "is_trainable", "is_trained", "train_on", "should_train"),
            *("train_turn", "train_on_turn", "training", "do_train"),
            *("learn", "learnable", "learnt", "learned", "supervised"),
            *("loss", "loss_mask", "loss_weight", "loss_scale", "loss_multiplier", "loss_factor"),
            *("has_loss", "with_loss", "use_loss", "compute_loss", "calculate_loss", "weight"),
        ),
        Mark.LEARN,
    ),
    **dict.fromkeys(
        (
            *("masked", "is_masked", "mask_loss", "loss_masked", "no_loss", "ignore_loss"),
            *("no_train", "do_not_train", "dont_train", "skip_loss", "skip_train"),
        ),
        Mark.OMIT,
    ),
    **dict.fromkeys(("ignore", "ignored", "skip"), Mark.OMIT_FLAG),
}

TURN_MARKS: Mapping[str, Mark] = {
    **_ANYWHERE,
    **dict.fromkeys(("mask", "train_detail", "training_detail", "token_mask"), Mark.UNCLEAR),
}
"""Marks of a turn; an assistant's turn that is marked as not learned carries no loss."""

ROW_MARKS: Mapping[str, Mark] = {
    **_ANYWHERE,
    **dict.fromkeys(
        (
            *("label", "kto_tag", "kto_label", "accepted", "is_accepted", "is_chosen", "preferred"),
            *("is_preferred", "desirable", "is_desirable", "is_good", "is_correct", "correct"),
            *("keep", "include", "valid", "is_valid", "chosen"),
        ),
        Mark.LEARN_FLAG,
    ),
    **dict.fromkeys(
        (
            *("rejected", "is_rejected", "undesirable", "exclude", "excluded"),
            *("discard", "discarded", "deleted", "is_deleted"),
        ),
        Mark.OMIT_FLAG,
    ),
    **dict.fromkeys(("train_detail", "training_detail", "token_mask"), Mark.UNCLEAR),
}
"""Marks of a row; a row that is marked as not learned is a bad row."""

# In rows these names are just as often quantities: a sample's weight in kilograms, a model's loss.
# Only values from 0 to 1 can be marks.
_ALSO_QUANTITIES = frozenset({"weight", "loss", "training"})

MEDIA: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("image", "images", "image_path", "image_paths", "image_url", "image_urls", "img"),
            *("imgs", "image_file", "image_files", "image_bytes", "image_base64", "picture"),
            *("pictures", "pixel_values", "input_image"),
        ),
        "an image",
    ),
    **dict.fromkeys(
        ("video", "videos", "video_path", "video_paths", "video_url", "video_urls", "video_file"),
        "a video",
    ),
    **dict.fromkeys(
        (
            *("audio", "audios", "audio_path", "audio_paths", "audio_url", "audio_urls"),
            *("audio_file", "input_audio", "sound", "wav", "speech"),
        ),
        "audio",
    ),
}
"""Fields and part types that a text model can't read, and what they contain."""

PREFERENCES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_messages", "rejected_messages"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred_output", "non_preferred_output"),
    ("preferred_output", "rejected_output"),
)
"""Fields with the better and the worse of two answers."""

_WORDS = {"true": True, "false": False, "yes": True, "no": False}


def is_present(value: Any) -> bool:
    """Return whether a field has a value; null and empty texts, lists and objects don't count."""
    if value is None:
        return False
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(map(is_present, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(is_present, value))
    return True


def is_learnt(turn: Mapping[str, Any], role: str, where: str) -> bool:
    """Return whether a turn's marks let it be learned; only an assistant's turn can be.

    Args:
        turn: the turn as read from the row.
        role: its role, as in `Message.role`.
        where: the turn's name in messages.

    Raises:
        RowError: a mark asks for something impossible, or two marks contradict each other.
    """
    found: dict[bool, str] = {}
    for key, mark in _marks_in(turn, TURN_MARKS):
        learnt = _read(turn[key], mark)
        shown = f"{where} has {key} = {_shown(turn[key])}"
        if learnt is None:
            if mark in (Mark.LEARN_FLAG, Mark.OMIT_FLAG):
                continue
            raise RowError(
                f"{shown}: "
                + (
                    "its meaning differs between data sets"
                    if mark is Mark.UNCLEAR
                    else "a turn is learnt in full or not at all"
                ),
                "write train = true or train = false into the turn, or take the key out",
            )
        if learnt and role != "assistant":
            raise RowError(
                f"{shown}, but only assistant turns can carry loss, not the {role}'s",
                f"take out {key}, or the turn",
            )
        found[learnt] = key
    if len(found) == 2:
        raise RowError(f"{where}: {found[True]} and {found[False]} contradict each other")
    return False not in found


def check_row_marks(values: Mapping[str, Any], chosen: Container[str]) -> set[str]:
    """Refuse a row that must not be learned, or that needs more than its text.

    Args:
        values: the row's fields.
        chosen: fields that a `fields` table names: they are data, regardless of their names.

    Returns:
        Fields that were read as marks and let the row be learned.

    Raises:
        RowError: a field forbids learning the row, or holds an image or other media.
    """
    understood = set()
    for key, mark in _marks_in(values, ROW_MARKS):
        if key in chosen:
            continue
        value = values[key]
        learnt = _read(value, mark)
        if learnt:
            understood.add(key)
        elif learnt is False:
            raise RowError(
                f"'{key}' is {_shown(value)}: the row is not to be learnt",
                'leave such rows out with on_bad_row = "skip", or take the field out if it means '
                "something else",
            )
        elif mark in (Mark.LEARN, Mark.OMIT, Mark.UNCLEAR) and not _is_other(key, value):
            raise RowError(
                f"'{key}' is {_shown(value)}: a row is learnt in full or not at all",
                "take the field out, or the rows that must not be learnt",
            )
    for key in [key for key in values if key in MEDIA]:
        what = MEDIA[key]
        if key not in chosen and _holds_media(values[key], values):
            raise RowError(f"needs {what} ('{key}'), and only text can be learnt", MEDIA_HINT)
    return understood


MEDIA_HINT = (
    'leave such rows out with on_bad_row = "skip", or take the field out if the answers do '
    "without it"
)


def check_turn_media(turn: Mapping[str, Any], where: str) -> None:
    """Refuse a turn with an image or other media.

    Raises:
        RowError: if there is one.
    """
    for key in turn.keys() & MEDIA.keys():
        if _holds_media(turn[key], turn):
            raise RowError(
                f"{where} needs {MEDIA[key]} ('{key}'), and only text can be learnt", MEDIA_HINT
            )


def _marks_in(values: Mapping[str, Any], marks: Mapping[str, Mark]) -> Iterator[tuple[str, Mark]]:
    for key in values:
        mark = marks.get(str(key).lower())
        if mark is not None and values[key] not in (None, "", [], ()):
            yield key, mark


def _read(value: Any, mark: Mark) -> bool | None:
    """Return whether a mark lets its text be learned; None if the value is unclear."""
    if mark is Mark.UNCLEAR:
        return None
    stated: Any = value
    if isinstance(value, str):  # a table's cell
        word = value.strip().lower()
        stated = _WORDS.get(word)
        if stated is None and mark in (Mark.LEARN, Mark.OMIT):
            try:
                stated = float(word)
            except ValueError:
                return None
    if not isinstance(stated, bool):
        if mark in (Mark.LEARN_FLAG, Mark.OMIT_FLAG) or not isinstance(stated, (int, float)):
            return None
        if stated not in (0, 1):
            return None
    return bool(stated) == (mark in (Mark.LEARN, Mark.LEARN_FLAG))


def _is_other(key: str, value: Any) -> bool:
    """Return whether a row's field has a mark's name but another meaning."""
    if key.lower() in _ALSO_QUANTITIES:
        try:
            return key.lower() != "weight" or not 0 <= float(value) <= 1
        except (TypeError, ValueError):
            return True
    # A word is not a mark: `supervised: "by hand"`.
    return isinstance(value, str) and not value.strip().replace(".", "", 1).isdigit()


# Placeholders for media in a text: <image>, <|image_pad|>, <video>, [IMG].
_PLACE_OF_MEDIA = re.compile(r"<\W?(image|img|video|audio|sound)|\[(image|img)\]", re.IGNORECASE)

# Table cells that mean "no media".
_NO_MEDIA = frozenset({"0", "0.0", "false", "no", "none", "null", "nan", "n/a", "[]", "{}"})

# File names, addresses, ids and encoded bytes have digits or characters that words do not have.
_WORDS_ALONE = re.compile(r"[^\W\d_]{1,30}(?:[ ,.;:!?'\"()-]+[^\W\d_]{1,30})*[.!?]?")


def _holds_media(value: Any, values: Mapping[str, Any]) -> bool:
    """Return whether a field named after a medium holds one, or its path.

    Args:
        value: the field's.
        values: the row or turn; a placeholder in its texts shows that the field holds media.
    """
    if not is_present(value) or value is False or value == 0:
        return False
    if isinstance(value, str) and value.strip().lower() in _NO_MEDIA:
        return False
    if not isinstance(value, str) or _WORDS_ALONE.fullmatch(value.strip()) is None:
        return True
    if re.search(r"\w\.\w", value):
        return True  # cat.png
    texts = (text for text in values.values() if isinstance(text, str))
    return any(_PLACE_OF_MEDIA.search(text) for text in texts)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and len(repr(value)) <= 20:
        return repr(value)
    if isinstance(value, str) and len(value) <= 20:
        return f"'{value}'"
    return kind_of(value)
