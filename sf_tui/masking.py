"""Masks likely secrets in command lines and texts before they are stored or shown.

Recognizes key names and the token formats that issuers document. A secret that looks like an
ordinary word is not recognized.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

MASK = "***"

_KEY = re.compile(
    r"(?i)(?<![a-z0-9])(?:[a-z0-9_-]{0,60}[_-])?"
    r"(?:token|secret|password|passwd|passphrase|pwd|api[_-]?key|apikey|access[_-]?key|"
    r"private[_-]?key|auth|authorization|credentials?|bearer)(?![a-z0-9])"
)
_SHAPES = re.compile(
    r"hf_[A-Za-z0-9]{8,}"
    r"|sk-[A-Za-z0-9_-]{8,}"
    r"|gh[pousr]_[A-Za-z0-9]{8,}"
    r"|github_pat_[A-Za-z0-9_]{8,}"
    r"|glpat-[A-Za-z0-9_-]{8,}"
    r"|xox[abprs]-[A-Za-z0-9-]{8,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|AIza[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/-]{8,}=*"
)
# The scheme's length is bounded; otherwise a text of 100,000 letters takes minutes.
_URL_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s@'\"]+@")
_WORD = re.compile(r"[A-Za-z0-9+]{24,}={0,2}")

# Bits per character: 32 random hexadecimal digits have about 3.6; run ids and paths have less.
_RANDOM_BITS = 3.5
# Key names that contain a word such as "token" but hold no secret: the profile's own keys.
_PLAIN_KEYS = re.compile(r"(?i)(?:^|\.)(?:\w+_tokens|tokens|tokenizer|kinds\.tokens)$")


def has_url_login(text: str) -> bool:
    """Return whether a text contains a URL with a user name or password."""
    return _URL_LOGIN.search(text) is not None


def mask_url_logins(text: str) -> str:
    """Return a text with the user names and passwords in its URLs masked."""
    return _URL_LOGIN.sub(rf"\g<scheme>{MASK}@", text) if "://" in text else text


def mask_text(text: str) -> str:
    """Return a text with everything masked that looks like a secret."""
    text = mask_url_logins(text)
    text = _SHAPES.sub(MASK, text)
    return _WORD.sub(lambda found: MASK if _looks_random(found[0]) else found[0], text)


def mask_argv(argv: Sequence[str]) -> list[str]:
    """Return a command line with secrets masked, recognized by key name or by format."""
    masked: list[str] = []
    hide_next = False
    for argument in argv:
        if hide_next and not argument.startswith("-"):
            masked.append(MASK)
            hide_next = False
            continue
        hide_next = False
        key, equals, value = _pair(argument)
        if equals and _names_secret(key):
            masked.append(f"{key}={MASK}")
            continue
        if not equals and argument.startswith("-") and _names_secret(argument):
            hide_next = True
        masked.append(f"{mask_text(key)}={mask_text(value)}" if equals else mask_text(argument))
    return masked


def _pair(argument: str) -> tuple[str, str, str]:
    """Split `key=value`, `--set=table.key=value` or `table.key=a=b` after the key."""
    if argument.count("=") < 2:
        key, equals, value = argument.partition("=")
        return key, equals, value
    head = 1 if argument.startswith("--") else 0
    parts = argument.split("=")
    return "=".join(parts[: head + 1]), "=", "=".join(parts[head + 1 :])


def _names_secret(key: str) -> bool:
    name = key.rpartition("=")[2].strip().lstrip("-").strip("'\"")
    return _PLAIN_KEYS.search(name) is None and _KEY.search(name) is not None


def _looks_random(word: str) -> bool:
    kinds = [any(map(test, word)) for test in (str.isdigit, str.islower, str.isupper)]
    if sum(kinds) < 2 or not kinds[0]:
        return False
    counts = Counter(word)
    bits = -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values())
    return bits >= _RANDOM_BITS
