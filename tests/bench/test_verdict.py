"""The verdict's trial: its cases, how it is scored, and that it goes on where it was cut off."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_tui.bench.verdict import measure_verdict, score_trial
from sf_tui.bench.verdict_scene import TrialScene
from sf_tui.bench.verdict_trial import CASES, SCHEMA, read_trial
from sf_tui.errors import DataError


def row(
    label: str,
    verdict: str,
    *,
    share: float | None = 0.9,
    reference: str | None = None,
    reference_share: float | None = 0.9,
    closed: bool = True,
    neighbors: str | None = None,
) -> dict[str, Any]:
    said = {"verdict": verdict, "closed": closed, "spurious_share": share}
    return {
        "schema": SCHEMA,
        "case": f"{label}-{share}",
        "seed": 1,
        "label": label,
        "arm": "neighbors",
        **said,
        "reference_verdict": reference or label,
        "reference_share": reference_share,
        "arms": {"neighbors": {**said, "verdict": neighbors or verdict}},
        "seconds": 1.0,
    }


def test_a_contradicted_case_is_listed_apart_and_counts_neither_way() -> None:
    rows = [
        row("spurious", "spurious", share=0.95, reference_share=0.97),
        row("real", "real", share=0.1, reference_share=0.05),
        row("real", "spurious", share=0.9, reference_share=0.9, reference="spurious"),
        row("none", "none", share=None, reference_share=None),
    ]
    found = score_trial(rows, {}).as_json()
    assert found["cases"] == 4
    assert found["confirmed"] == 3
    assert found["accuracy"] == 1.0
    assert found["real_called_spurious"] == 0
    assert [one["label"] for one in found["measured"]["contradicted"]] == ["real"]


def test_a_real_loss_that_is_called_spurious_is_counted_and_named() -> None:
    rows = [
        row("real", "spurious", share=0.95, reference_share=0.1),
        row("real", "spurious", share=0.95, reference_share=0.1, closed=False),
        row("spurious", "spurious", share=0.9, reference_share=0.9, neighbors="partial"),
    ]
    found = score_trial(rows, {}).as_json()
    assert found["real_called_spurious"] == 1
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["neighbors_accuracy"] == 0.0
    assert len(found["measured"]["wrong"]) == 2


def test_partial_cases_count_for_the_rank_and_not_for_the_accuracy() -> None:
    rows = [
        row("partial", "spurious", share=0.7, reference_share=0.6),
        row("spurious", "spurious", share=0.9, reference_share=0.95),
        row("real", "real", share=0.1, reference_share=0.05),
    ]
    found = score_trial(rows, {}).as_json()
    assert found["accuracy"] == 1.0
    assert found["spearman"] == pytest.approx(1.0)
    rows[0] = row("partial", "partial", share=0.02, reference_share=0.6)
    assert score_trial(rows, {}).as_json()["spearman"] == pytest.approx(0.5)


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "verdict.jsonl"
    whole = json.dumps(row("real", "real"))
    file.write_text(whole + "\n" + whole[:40], encoding="utf-8")
    assert len(read_trial(file)) == 1


def test_there_are_at_least_sixty_cases_of_every_kind_over_three_seeds() -> None:
    kinds = Counter(case.label for case in CASES)
    assert 3 * len(CASES) >= 60
    assert set(kinds) == {"none", "spurious", "real", "partial"}
    assert min(kinds.values()) >= 4
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_unknown_case_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no case 'nosie'"):
        measure_verdict(str(tmp_path / "v.jsonl"), 1, 1, ["nosie"])


@pytest.fixture(scope="module")
def scene() -> TrialScene:
    return TrialScene(1, threads=1)


def test_every_case_begins_from_the_same_weights_and_has_the_same_held_out_people(
    scene: TrialScene,
) -> None:
    one, other = scene, TrialScene(2, threads=1)
    assert one.old.held_out == other.old.held_out
    assert one.new_people(3) != other.new_people(3)
    fresh = {name: p.clone() for name, p in one.case(one.add_noise(0.0)).model.named_parameters()}
    damaged = one.case(one.zero(0.5, (1, 2)))
    changed = {
        name for name, p in damaged.model.named_parameters() if not torch.equal(p, fresh[name])
    }
    assert changed
    assert all(".mlp." in name and (".1." in name or ".2." in name) for name in changed)
    one.begin()
    assert all(torch.equal(p, fresh[name]) for name, p in damaged.model.named_parameters())


def test_contradicted_people_are_told_with_facts_that_are_not_theirs(scene: TrialScene) -> None:
    true, mixed = scene.biographies(0.0), scene.biographies(0.5)
    same = [a.input_ids == b.input_ids for a, b in zip(true, mixed, strict=True)]
    people = len(scene.world.held_out)
    assert not any(same[: people // 2])
    assert all(same[people // 2 : people])


@pytest.mark.slow
def test_the_trial_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "verdict.jsonl"
    first = measure_verdict(str(file), 1, 1, ["noise-5", "noise-0.05"])
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    file.write_text(lines[0] + "\n" + lines[1][:100], encoding="utf-8")
    again = measure_verdict(str(file), 1, 1, ["noise-5", "noise-0.05"])
    assert len(read_trial(file)) == 2
    figures = [{f["name"]: f["value"] for f in found["figures"]} for found in (first, again)]
    assert figures[0] == figures[1]
    assert figures[0]["accuracy"] == 1.0
