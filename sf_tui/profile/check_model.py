"""Rules of `[model]`: which source goes with which other keys. Opens no model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sf_tui.profile.builtin import STARTER_PREFIX, starter_hint, starters
from sf_tui.profile.describe import toml_value
from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.profile.packages import is_package_source, is_well_formed, package_hint
from sf_tui.profile.paths import is_missing, missing_hint
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile

# "starter:x" and "biography:x" are ours; a URL is not.
SCHEME = re.compile(r"^[A-Za-z_-]+:(?!//)")


def check_model(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find what doesn't go together in `[model]`."""
    model = profile.model
    source = ("model", "source")
    if model.source == RANDOM_MODEL:
        yield from _check_random(profile)
    elif "config" in origin.raw.get("model", {}):
        yield Problem(
            ("model", "config"),
            "config goes with a random model only",
            f'take it away, or set source = "{RANDOM_MODEL}"',
        )
    if model.source.startswith(STARTER_PREFIX):
        name = model.source.removeprefix(STARTER_PREFIX)
        known = starters()
        if name not in known:
            yield Problem(source, f"no starter model is named '{name}'", starter_hint(name, known))
    elif is_package_source(model.source):
        if not is_well_formed(model.source):
            yield Problem(
                source,
                f"source = {toml_value(model.source)}: names no file of a package",
                'write "package:NAME/FILE.gguf", NAME as one imports it',
            )
    elif SCHEME.match(model.source):
        yield Problem(
            source,
            f"source = {toml_value(model.source)}: no kind of source goes by this name",
            "write starter:NAME, package:NAME/FILE, a directory, a Hugging Face id, a .gguf file "
            "or random",
        )


def _check_random(profile: Profile) -> Iterator[Problem]:
    model = profile.model
    kind = model.config.get("model_type")
    if not isinstance(kind, str) or not kind:
        yield Problem(
            ("model", "config" if model.config else "source"),
            "a random model needs [model.config] with a model_type",
            'for example model_type = "gpt_neox", with hidden_size, num_hidden_layers, …',
        )
    biography_only = all(task.data.startswith("biography:") for task in profile.tasks)
    if model.tokenizer is None and not biography_only:
        yield Problem(
            ("model", "source"),
            "a random model has no tokenizer of its own",
            "add tokenizer = a directory or a Hugging Face id",
        )


def model_files(profile: Profile) -> Iterator[Problem]:
    """Find the model's and tokenizer's places that aren't there."""
    for key, value in (("source", profile.model.source), ("tokenizer", profile.model.tokenizer)):
        if value is not None and is_package_source(value):
            # One that is installed has become a path.
            yield Problem(("model", key), f"{key}: there is no {value}", package_hint(value))
        elif is_missing(value):
            yield Problem(("model", key), f"{key}: there is no {value}", missing_hint(value))
