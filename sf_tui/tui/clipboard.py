"""Offering a text to the operator's clipboard, and reporting what really happened.

tmux drops the clipboard sequence of the programs inside it (`set-clipboard external`, its default),
so inside tmux the text goes through tmux itself. Elsewhere the sequence (OSC 52) is sent, which a
terminal may ignore without a word; nothing here can tell whether a clipboard took the text.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping

TIMEOUT_S = 2.0
"""A tmux server that does not answer for this long is treated as absent."""


def offer_to_clipboard(
    text: str, environ: Mapping[str, str], send_sequence: Callable[[str], None]
) -> str:
    """Offer a text to the clipboard and return what was done, as the rest of a sentence.

    Args:
        text: the text.
        environ: the environment.
        send_sequence: sends the clipboard sequence to the terminal.
    """
    if environ.get("TMUX"):
        # -w, since tmux 3.2: also offer it to the terminal that tmux runs in.
        if _load_buffer(text, environ, "-w"):
            return "put into tmux's buffer, and offered to the terminal's clipboard"
        if _load_buffer(text, environ):
            return "put into tmux's buffer (not the clipboard: this tmux can't)"
    send_sequence(text)
    return "and offered to the terminal's clipboard"


def _load_buffer(text: str, environ: Mapping[str, str], *options: str) -> bool:
    try:
        done = subprocess.run(
            ["tmux", "load-buffer", *options, "-"],
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
