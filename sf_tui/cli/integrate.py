"""`sf integrate HOST`: print what makes another program's training one that `sf` watches.

For ms-swift it is the path of a file, alone, to be used within a command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import sf_tui
from sf_tui.cli.complete import one_of
from sf_tui.cli.output import write_line
from sf_tui.errors import UsageError, did_you_mean

_SWIFT_FILE = Path(sf_tui.__file__).parent / "integrations" / "ms_swift.py"

_TRAINER = """\
from sf_tui.integrations import SfCallback
trainer.add_callback(SfCallback(old="old.jsonl"))"""

HOSTS = {
    "axolotl": """\
plugins:
  - sf_tui.integrations.axolotl.SfPlugin
sf_old: old.jsonl""",
    "lightning": """\
from sf_tui.integrations.lightning import SfLightning
trainer = Trainer(callbacks=[SfLightning(old="old.jsonl", tokenizer=tokenizer)])""",
    "llama-factory": "sf exec --old old.jsonl -- llamafactory-cli train config.yaml",
    "ms-swift": str(_SWIFT_FILE),
    "transformers": _TRAINER,
    "trl": _TRAINER,
}
"""By host: what is to be copied."""

_NOTES = {
    "axolotl": "add it to axolotl's YAML; sf_old, sf_profile and sf_run_dir are optional",
    "lightning": "or, with no line: SF_LIGHTNING=1 SF_OLD=old.jsonl python train.py",
    "llama-factory": "it takes no callbacks, so use the prefix",
    "ms-swift": "SF_OLD=old.jsonl swift sft --external_plugins FILE --callbacks sf",
    "transformers": "or, with no line: sf exec --old old.jsonl -- python train.py",
    "trl": "or, with no line: sf exec --old old.jsonl -- trl sft",
}


def integrate(
    host: Annotated[
        str,
        typer.Argument(
            help=f"The program that trains: {', '.join(HOSTS)}.", autocompletion=one_of(*HOSTS)
        ),
    ],
) -> None:
    """Print the lines, or the file, by which a program's training is watched."""
    if host not in HOSTS:
        raise UsageError(f"'{host}': unknown program", did_you_mean(host, HOSTS, "known"))
    write_line(HOSTS[host])
    write_line(f"{_NOTES[host]}; more: `sf guide own-training`", err=True)
