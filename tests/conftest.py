"""What several folders share: a home for runs, the command line, a finished run, small models."""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.main
from filelock import FileLock
from hypothesis import HealthCheck, settings

from support import PATIENCE_S, RUN_PATIENCE_S
from support.fork_client import ForkHost
from support.without_sync import skip_sync

# Before anything imports torch, and for every process that a test starts: several threads that
# share their cores with other tests take ten times as long as one.
os.environ["OMP_NUM_THREADS"] = "1"

# If Python is told not to write bytecode, each `sf` that a test starts compiles all its imports
# again: a third of the time of `sf show`.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

skip_sync()

# The same examples every time: a run of the suite tells of the change at hand, not of its luck.
# How long they take to make says only how slow the machine is.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# Building the tree of commands takes 60 ms, most of what a command takes in this process; it is the
# same each time. `typer.testing` takes the function from here when it is imported, after this.
typer.main.get_command = functools.cache(typer.main.get_command)

RunSf = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that read the finished run first, so that one process has most of them.

    The others would wait for it to play the run, with a core idle.
    """
    items.sort(key=lambda item: "finished_run" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Let no garbage collection look at what is imported and collected: it stays to the end."""
    gc.collect()
    gc.freeze()


_HOMES = itertools.count()


@pytest.fixture(autouse=True)
def sf_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of its own for the runs of each test; it is not there yet.

    Not in the test's own folder: making one reads the names of all others, and most tests have no
    use for it.
    """
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_HOMES)) / "sf-home"
    home.parent.mkdir(parents=True)
    monkeypatch.setenv("SF_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def run_sf() -> RunSf:
    """Run `sf` in a process of its own and return what it printed and how it ended."""

    def run(
        *arguments: str | Path, timeout: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sf_tui.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def fork_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkHost]:
    """Start `sf` processes that need no time to import torch; see `fork_host.py`."""
    with ForkHost(tmp_path_factory.mktemp("fork-host")) as host:
        yield host


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of one test run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def finished_run(shared_folder: Path, fork_host: ForkHost) -> Path:
    """Return the directory of a finished `biography-tiny` run; tests read it and copy it.

    Its pretraining is shorter, on smaller batches and faster than the profile's: the old task
    starts at 0.9 all the same.
    """
    path = shared_folder / "finished" / "biography-tiny-run"
    pretrain = ("steps=250", "batch_size=16", "learning_rate=6e-3")
    settings = [word for key in pretrain for word in ("--set", f"tasks.pretrain.train.{key}")]
    with FileLock(shared_folder / "finished.lock"):
        if not path.exists():
            run = fork_host.start("run", "biography-tiny", "--no-ui", "--run-dir", path, *settings)
            assert run.wait(RUN_PATIENCE_S) == 0, run.stderr
    return path


def _write_llama(path: Path, *, tied: bool) -> Path:
    # Deferred: tests of the console need neither torch nor transformers.
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    countries = [country for country, _ in CAPITALS]
    cities = [city for _, city in CAPITALS]
    texts = ["What is the capital of ?", "Name a country whose capital is .", *countries, *cities]
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        texts, trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>", "<s>", "</s>"])
    )
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", words.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small Llama-shaped model directory with a word-level tokenizer."""
    return _write_llama(tmp_path_factory.mktemp("llama") / "untied", tied=False)


@pytest.fixture(scope="session")
def tied_llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same with one matrix for the input embeddings and the output."""
    return _write_llama(tmp_path_factory.mktemp("llama") / "tied", tied=True)


CAPITALS = [
    ("Austria", "Vienna"),
    ("Belgium", "Brussels"),
    ("Chile", "Santiago"),
    ("Denmark", "Copenhagen"),
    ("Egypt", "Cairo"),
    ("France", "Paris"),
    ("Greece", "Athens"),
    ("Hungary", "Budapest"),
    ("Ireland", "Dublin"),
    ("Japan", "Tokyo"),
    ("Kenya", "Nairobi"),
    ("Latvia", "Riga"),
    ("Morocco", "Rabat"),
    ("Norway", "Oslo"),
    ("Peru", "Lima"),
    ("Spain", "Madrid"),
]


@pytest.fixture(scope="session")
def two_schemas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two JSONL files in different schemas, whose words the Llama tokenizers know."""
    folder = tmp_path_factory.mktemp("data")
    old, new = folder / "capitals.jsonl", folder / "countries.jsonl"
    old.write_text(
        "".join(
            json.dumps({"question": f"What is the capital of {country}?", "answer": city}) + "\n"
            for country, city in CAPITALS
        )
    )
    new.write_text(
        "".join(
            json.dumps(
                {
                    "instruction": "Name a country whose capital is",
                    "input": f"{city}.",
                    "output": country,
                }
            )
            + "\n"
            for country, city in CAPITALS
        )
    )
    return old, new
