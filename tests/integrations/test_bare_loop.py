"""A training loop of one's own, watched by three lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import sf_tui
from sf_tui.errors import UsageError
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from support.hosts import lines_of, rows_of

FEW = "[probe]\nexamples = 12\n[window]\nsteps = 4\n[neighbors]\nsurvey_budget = 0\n"


def loop(
    folder: Path,
    *,
    steps: int = 6,
    run: Path | None = None,
    profile: Path | None = None,
    asked: dict[int, str] | None = None,
) -> tuple[list[float], dict[str, torch.Tensor], int]:
    """Train a few rows; return the losses, the weights and the number of steps."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(0)
    model.train()
    data = []
    for row in rows_of(folder / "new.jsonl"):
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        data.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}

    loader = torch.utils.data.DataLoader(data, batch_size=1, shuffle=True, collate_fn=collate)
    losses: list[float] = []

    def train(watch: sf_tui.integrations.bare_loop.Watch | None) -> None:
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            if watch is not None:
                watch.before_update()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if watch is not None:
                if (asked or {}).get(len(losses)):
                    assert watch.run is not None
                    request_command(RunDirectory(watch.run), asked[len(losses)])
                watch.step(loss, tokens=batch["input_ids"].numel())
                if watch.should_stop:
                    break
            if len(losses) == steps:
                break

    if run is None:
        train(None)
    else:
        with sf_tui.watch(
            model,
            optimizer,
            tokenizer,
            old=folder / "old.jsonl",
            total_steps=steps,
            data=loader,
            batch_size=1,
            profile=profile,
            run_dir=run,
        ) as watch:
            train(watch)
    return losses, {n: p.detach().clone() for n, p in model.named_parameters()}, len(losses)


def test_loop_is_anchored_frozen_and_stopped(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    asked = {1: "freeze", 2: "anchor", 4: "stop"}
    settings = profile(FEW + "[anchor]\ncache_size = 16\nrows = 4\n")
    _, _, done = loop(tiny_scene, run=tmp_path / "run", profile=settings, asked=asked)
    assert done == 4
    answered = [(e["action"], e["status"]) for e in lines_of(tmp_path / "run", "command")]
    assert {("freeze", "done"), ("anchor", "done"), ("stop", "done")} <= set(answered)
    added = [sorted(e.get("losses", {})) for e in lines_of(tmp_path / "run", "step")]
    assert added == [[], [], ["anchor"], ["anchor"]]
    assert lines_of(tmp_path / "run", "run_finished")[0]["status"] == "stopped"


def test_loop_that_is_watched_and_asked_is_the_same_to_the_last_bit(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    losses, weights, _ = loop(tiny_scene)
    asked = {2: "ask", 4: "ask"}
    settings = profile(FEW)
    watched, ours, _ = loop(tiny_scene, run=tmp_path / "run", profile=settings, asked=asked)
    assert watched == losses
    assert all(torch.equal(ours[name], weights[name]) for name in weights)
    assert [e["loss"] for e in lines_of(tmp_path / "run", "step")] == pytest.approx(losses)
    assert lines_of(tmp_path / "run", "run_finished")[0]["status"] == "completed"
    assert [e["step"] for e in lines_of(tmp_path / "run", "answers")] == [2, 4]
    (written,) = (tmp_path / "run" / "answers").iterdir()
    sheet = orjson.loads(written.read_bytes())
    assert [state["name"] for state in sheet["states"]] == ["start", "now"]
    wanted = {row["completion"].strip() for row in rows_of(tiny_scene / "old.jsonl")}
    assert {one["wanted"].strip() for one in sheet["questions"][:12]} <= wanted


def test_error_of_the_loop_is_its_own_and_is_recorded(tiny_scene: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_scene / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_scene / "model")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(ZeroDivisionError),
        sf_tui.watch(
            model, optimizer, tokenizer, old=tiny_scene / "old.jsonl", run_dir=tmp_path / "run"
        ),
    ):
        raise ZeroDivisionError("mine")
    (finished,) = lines_of(tmp_path / "run", "run_finished")
    assert finished["status"] == "failed"
    assert "ZeroDivisionError: mine" in finished["reason"]


def test_missing_old_examples_are_reported_before_the_loop_begins() -> None:
    model = torch.nn.Linear(2, 2)
    with (
        pytest.raises(UsageError, match=r"there is no file .*nothing\.jsonl"),
        sf_tui.watch(model, torch.optim.SGD(model.parameters()), None, old="nothing.jsonl"),
    ):
        pass
