"""Secrets on a command line are not kept, and what only resembles one is."""

from __future__ import annotations

import pytest

from sf_tui.errors import ProfileError, SfError
from sf_tui.masking import has_url_login, mask_argv, mask_text
from sf_tui.profile import load_profile

# Made up, and put together here so that no scanner takes them for real ones.
SHAPES = [
    "hf_" + "aBcDeFgHiJkLmNoPqRsT",
    "sk-" + "proj-abcdEFGH12345678",
    "ghp_" + "abcdefghijklmnopqrst123456",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "Zm9vYmFyMTIzNDU2Nzg5MHF3ZXJ0eXVpb3A=",
]


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize("form", ["{}", "--set=model.revision={}", "model.revision='{}'"])
def test_value_with_the_shape_of_a_secret_is_masked(secret: str, form: str) -> None:
    [masked] = mask_argv([form.format(secret)])
    assert secret not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    ("argv", "masked"),
    [
        (["--set", "model.token=abc"], ["--set", "model.token=***"]),
        (["--set=model.config.api_key=a=b"], ["--set=model.config.api_key=***"]),
        (["--set", "x.PASSWORD='open sesame'"], ["--set", "x.PASSWORD=***"]),
        (["--hf-token", "abc", "--json"], ["--hf-token", "***", "--json"]),
        (["--hf-token", "--json"], ["--hf-token", "--json"]),
        (["model.config.authorization=me"], ["model.config.authorization=***"]),
        (["https://me:pw@host/x"], ["https://***@host/x"]),
        (["tasks.new.data=s3://key:pw@bucket/f"], ["tasks.new.data=s3://***@bucket/f"]),
    ],
)
def test_argument_is_masked(argv: list[str], masked: list[str]) -> None:
    assert mask_argv(argv) == masked


@pytest.mark.parametrize(
    "argument",
    [
        "run",
        "--set",
        "train.steps=30",
        "anchor.answer_tokens=12",
        "neighbors.kinds.tokens=2",
        "model.tokenizer=/models/my-tokenizer",
        "tasks.new.data=/data/2026-01-31/customer-support-questions-final.jsonl",
        "--run-dir=/runs/20261129-073610-biography-mini-a1b2",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "https://example.org/a/b",
    ],
)
def test_ordinary_argument_stays(argument: str) -> None:
    assert mask_argv([argument]) == [argument]
    assert mask_text(argument) == argument


def test_login_in_a_url_is_seen() -> None:
    assert has_url_login("https://u:p@h/x")
    assert not has_url_login("https://h/x@y")


LONG = 1_000_000


def test_a_long_argument_takes_no_time() -> None:
    # In time that grows with the square, each of these would take longer than a test may.
    for text in ("x" * LONG, "a_" * LONG, "x" * LONG + "://", "a:" * LONG + "=b"):
        mask_argv(["--set", text])
        mask_text(text)


def test_no_message_shows_a_login() -> None:
    error = SfError("can't reach https://u:secret@h/x", "try https://u:secret@h/y")
    assert "secret" not in str(error)
    assert "https://***@h/x" in str(error)


@pytest.mark.parametrize(
    "key", ["model.source", "tasks.new.data", "diagnose.control", "train.steps", "no.key"]
)
def test_profile_with_a_login_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("biography-mini", [f"{key}=https://u:secret@host/x.jsonl"])
    assert "secret" not in str(caught.value)
    assert key.rpartition(".")[2] in str(caught.value)
