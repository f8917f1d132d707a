"""Whatever is wrong with a profile, a data file or a model: one message, exit 2, nothing left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fork_client import ForkHost

PROFILE = """
name = "mine"

[model]
source = "{model}"

[[tasks]]
name = "old"
data = "{old}"

[[tasks]]
name = "new"
data = "{new}"

[train]
steps = 2
batch_size = 2
"""

# What is changed in a profile that is sound, and what the message must name.
PROFILES = {
    "unknown key": (("steps = 2", "steps = 2\nlerning_rate = 1e-4"), ":17:", "learning_rate"),
    "unknown table": (("[train]", "[trian]"), ":15:", "train"),
    "wrong type": (("steps = 2", 'steps = "two"'), ":16:", "steps"),
    "negative": (("batch_size = 2", "batch_size = -2"), ":17:", "batch_size"),
    "missing key": (('data = "{new}"', ""), ":11:", "data"),
    "task named twice": (('name = "new"', 'name = "old"'), ":12:", "old"),
    "no such metric": (('name = "new"', 'name = "new"\nmetric = "exakt"'), ":13:", "exact_match"),
    "no such strategy": (("[train]", '[train]\nstrategy = "lamol"'), ":16:", "lamol"),
    "freeze without table": (("[train]", '[train]\nstrategy = "freeze"'), ":16:", "freeze"),
    "unknown op": (("[train]", '[actions.x]\nop = "recovr"\n[train]'), ":16:", "recover"),
    "rule without action": (
        (
            "[train]",
            '[[rules]]\nname = "r"\nmetric = "drop"\nabove = 0.1\naction = "freze"\n[train]',
        ),
        ":19:",
        "freeze",
    ),
    "rule without bound": (
        ("[train]", '[[rules]]\nname = "r"\nmetric = "drop"\naction = "freeze"\n[train]'),
        ":15:",
        "above",
    ),
    "rule that rolls back for ever": (
        (
            "[train]",
            '[[rules]]\nname = "r"\nmetric = "loss"\nabove = 9\naction = "rollback"\n'
            "once = false\n[train]",
        ),
        ":20:",
        "once",
    ),
    "broken TOML": (("[train]", "[train"), ":15:", "TOML"),
    "key given twice": (("steps = 2", "steps = 2\nsteps = 3"), ":17:", "TOML"),
    "no such data file": (('data = "{new}"', 'data = "nwe.jsonl"'), ":13:", "new.jsonl"),
    "no such starter": (
        ('source = "{model}"', 'source = "starter:biography-mni"'),
        ":5:",
        "biography-mini",
    ),
}

GOOD_ROWS = [{"question": f"What is {n}?", "answer": f"{n}"} for n in range(20)]


def _lines(rows: list[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


DATA: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("new.jsonl",)),
    "blank lines only": (b"\n\n\n", ("new.jsonl",)),
    "not JSON": (_lines(GOOD_ROWS) + b"{oops\n", ("new.jsonl:21", "skip")),
    "torn last line": (_lines(GOOD_ROWS) + b'{"question": "wh', ("new.jsonl:21",)),
    "a list a row": (_lines([*GOOD_ROWS, [1, 2]]), ("new.jsonl:21",)),
    "answer missing": (_lines([*GOOD_ROWS, {"question": "x"}]), ("new.jsonl:21", "answer")),
    "answer null": (_lines([*GOOD_ROWS, {"question": "x", "answer": None}]), ("new.jsonl:21",)),
    "answer empty": (_lines([*GOOD_ROWS, {"question": "x", "answer": ""}]), ("new.jsonl:21",)),
    "answer a number list": (_lines([*GOOD_ROWS, {"question": "x", "answer": [1]}]), (":21",)),
    "unknown schema": (_lines([{"frage": "x", "antwort": "y"}] * 4), ("frage", "fields")),
    "not UTF-8": (_lines(GOOD_ROWS) + b'{"question": "\xff", "answer": "x"}\n', (":21",)),
    "unknown role": (
        _lines([{"messages": [{"role": "wizard", "content": "x"}]}]),
        ("new.jsonl:1", "wizard"),
    ),
    "no answer turn": (
        _lines([{"messages": [{"role": "user", "content": "x"}]}] * 3),
        ("new.jsonl:1",),
    ),
    "one row": (_lines(GOOD_ROWS[:1]), ("new.jsonl",)),
}


def _drop(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


def _write(name: str, content: str) -> Callable[[Path], None]:
    return lambda model: (model / name).write_text(content) and None


def _change_config(**fields: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | fields))

    return change


def _truncate_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def _pickle_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (_drop("config.json"), "config.json"),
    "broken config": (_write("config.json", "{"), "config.json"),
    "config a list": (_write("config.json", "[]"), "config.json"),
    "no weights": (_drop("model.safetensors"), "safetensors"),
    "pickled weights": (_pickle_weights, "pickle"),
    "truncated weights": (_truncate_weights, "model"),
    "unknown architecture": (_change_config(model_type="lama"), "model"),
    "another width": (_change_config(hidden_size=64), "model"),
    "more layers than weights": (_change_config(num_hidden_layers=5), "missing"),
    "quantized": (_change_config(quantization_config={"quant_method": "gptq"}), "quantized"),
    "no tokenizer": (_drop("tokenizer.json"), "tokenizer"),
    "broken tokenizer": (_write("tokenizer.json", "{"), "tokenizer"),
    "smaller vocabulary": (_change_config(vocab_size=5), "model"),
}


class Trial:
    """A sound profile with its files, to break one thing at a time."""

    def __init__(self, folder: Path, model: Path, host: ForkHost) -> None:
        self.folder = folder
        self.model = folder / "model"
        shutil.copytree(model, self.model)
        self.text = PROFILE
        self.new = folder / "new.jsonl"
        self.new.write_bytes(_lines(list(GOOD_ROWS)))
        (folder / "old.jsonl").write_bytes(_lines(list(GOOD_ROWS)))
        self._host = host

    def refuse(self) -> str:
        """Run it, check that it is refused as it should be, and return the message."""
        profile = self.folder / "mine.toml"
        text = self.text.replace("{model}", "model")
        profile.write_text(text.replace("{old}", "old.jsonl").replace("{new}", "new.jsonl"))
        place = self.folder / "run"
        done = self._host.run("run", profile, "--no-ui", "--run-dir", place)
        assert done.poll() == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert not place.exists()
        assert not [entry for entry in self.folder.iterdir() if ".making" in entry.name]
        told = done.stderr[done.stderr.index("sf: ") :]
        assert "\n  " in told, f"no remedy: {told}"
        return told


@pytest.fixture
def trial(tmp_path: Path, llama_directory: Path, fork_host: ForkHost) -> Trial:
    return Trial(tmp_path, llama_directory, fork_host)


@pytest.mark.parametrize("name", PROFILES)
def test_malformed_profile_is_refused_with_line_and_remedy(trial: Trial, name: str) -> None:
    (sound, broken), line, word = PROFILES[name]
    assert sound in trial.text
    trial.text = trial.text.replace(sound, broken)
    told = trial.refuse()
    assert f"mine.toml{line}" in told
    assert word in told


@pytest.mark.parametrize("name", DATA)
def test_malformed_data_is_refused_with_line_and_remedy(trial: Trial, name: str) -> None:
    content, words = DATA[name]
    trial.new.write_bytes(content)
    told = trial.refuse()
    assert all(word in told for word in words), told


@pytest.mark.parametrize("name", MODELS)
def test_malformed_model_is_refused_with_name_and_remedy(trial: Trial, name: str) -> None:
    damage, word = MODELS[name]
    damage(trial.model)
    told = trial.refuse()
    assert "model" in told
    assert word in told


def test_the_sound_profile_is_played(trial: Trial) -> None:
    with pytest.raises(AssertionError):
        trial.refuse()
    assert (trial.folder / "run" / "model" / "model.safetensors").is_file()
