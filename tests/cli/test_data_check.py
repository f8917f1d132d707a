from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from sf_tui.cli.data_check import check
from sf_tui.errors import DataError, UsageError

app = typer.Typer()
app.command()(check)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def output(*arguments: str) -> str:
    result = run(*arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def findings(*arguments: str) -> dict[str, Any]:
    found = json.loads(output(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {n}?", "answer": "x" * n} for n in range(1, 21)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "a.jsonl"


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A directory with a tokenizer of single bytes and a ChatML template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate(alphabet)}
    byte = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte.decoder = ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "model")
    return "model"


def test_what_is_recognized_is_shown_on_stdout_alone(questions: str) -> None:
    result = run(questions)
    assert result.exit_code == 0
    assert "schema    question/answer" in result.stdout
    assert "20 good, 0 bad" in result.stdout
    assert "What is 1?\n⟦x⟧" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_json_holds_what_was_found(questions: str) -> None:
    found = findings(questions)
    assert (found["schema"], found["rows"], found["unit"]) == ("question/answer", 20, "characters")
    assert found["bad_rows"] == {"count": 0, "first": []}
    assert found["answer_lengths"] == {"min": 1, "median": 10.5, "p95": 19, "max": 20}
    assert (found["metric"], found["metric_estimated"]) == ("exact_match", True)
    assert found["sample"]["pieces"] == [
        {"text": "What is 1?\n", "loss": False},
        {"text": "x", "loss": True},
    ]


def test_with_a_model_the_sample_is_what_it_will_see(questions: str, model: str) -> None:
    found = findings(questions, "--model", model, "--max-length", "68")
    assert found["unit"] == "tokens"
    assert found["sample"]["pieces"] == [
        {
            "text": "<|im_start|>user\nWhat is 1?<|im_end|>\n<|im_start|>assistant\n",
            "loss": False,
        },
        {"text": "x<|im_end|>", "loss": True},
    ]
    labels = found["sample"]["labels"]
    assert labels[-2:] == found["sample"]["input_ids"][-2:]
    assert set(labels[:-2]) == {-100}
    assert found["answer_lengths"]["max"] == 21
    lengths = found["lengths"]
    assert (lengths["min"], lengths["max"]) == (31, 51)
    assert (found["metric"], found["metric_estimated"]) == ("exact_match", False)


def test_too_long_rows_are_counted(questions: str, model: str) -> None:
    found = findings(questions, "--model", model, "--max-length", "40")
    lengths = found["lengths"]
    assert lengths["max"] > 40
    assert 0 < found["too_long"] < 20
    shown = output(questions, "--model", model, "--max-length", "40")
    assert f"too long  {found['too_long']} (more than 40 tokens)" in shown


def test_long_answers_would_be_scored_by_their_tokens(tmp_path: Path, model: str) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "p", "completion": "x" * 200}) + "\n")
    assert findings(str(path))["metric"] == "token_accuracy"
    assert findings(str(path), "--model", str(tmp_path / model))["metric"] == "token_accuracy"


def test_bad_rows_are_an_error_or_counted(questions: str) -> None:
    with Path(questions).open("a") as file:
        file.write('{"question": "q"}\n')
    result = run(questions)
    assert isinstance(result.exception, DataError)
    assert "a.jsonl:21: 'answer' is missing" in result.exception.message
    assert result.stdout == ""
    assert "--on-bad-row skip" in result.exception.hint
    assert "on_bad_row" not in result.exception.hint
    shown = output(questions, "--on-bad-row", "skip")
    assert "20 good, 1 bad" in shown
    assert "a.jsonl:21: 'answer' is missing" in shown
    assert "more" not in shown
    with Path(questions).open("a") as file:
        file.write('{"question": "q"}\n' * 4)
    shown = output(questions, "--on-bad-row", "skip")
    assert "20 good, 5 bad" in shown
    assert "and 2 more" in shown


def test_fields_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("where,city\nItaly,Rome\n")
    arguments = ("a.csv", "--field", "prompt=Capital of {where}:", "--field", "completion= {city}")
    assert "Capital of Italy:⟦ Rome⟧" in output(*arguments)


def test_signs_that_steer_a_terminal_are_shown_as_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "a\x1b[31m[bold]b", "completion": "c\r\x9bd"}
    Path("a.jsonl").write_text(json.dumps(row) + "\n")
    assert "a\\x1b[31m[bold]b⟦c\\x0d\\x9bd⟧" in output("a.jsonl")


def test_a_long_sample_is_shortened_for_people_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(json.dumps({"prompt": "p", "completion": "x" * 9000}) + "\n")
    assert "x … 7500 more … x" in output("a.jsonl")
    assert len(findings("a.jsonl")["sample"]["pieces"][1]["text"]) == 9000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--field", "question"], "not KEY=FIELD"),
        (["--on-bad-row", "drop"], "unknown value"),
        (["--max-length", "10"], "only be counted with a tokenizer"),
    ],
)
def test_options_without_sense_are_refused(questions: str, arguments: list[str], says: str) -> None:
    result = run(questions, *arguments)
    assert isinstance(result.exception, UsageError)
    assert says in result.exception.message
    assert result.exception.exit_code == 2
