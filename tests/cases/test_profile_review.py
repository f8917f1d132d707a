"""What can't be reached is left out of a review with a note; what is local has to be usable."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.cases import profile_review
from sf_tui.cases.profile_review import look_at_data, review_profile
from sf_tui.errors import DataError
from sf_tui.profile import Profile, parse_profile


def profile_with(folder: Path, new: str, model: str = "org/model") -> Profile:
    rows = "".join(f'{{"prompt": "q {n}", "completion": "a {n}"}}\n' for n in range(200))
    (folder / "old.jsonl").write_text(rows)
    return parse_profile(
        f'name = "m"\nmodel.source = "{model}"\n'
        f'[[tasks]]\nname = "old"\ndata = "./old.jsonl"\n'
        f'[[tasks]]\nname = "new"\ndata = "{new}"\n',
        base_dir=folder,
    )


def test_data_that_need_a_network_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = profile_review.read_data_facts

    def no_network(profile: Profile, settings: object, *more: object) -> object:
        if getattr(settings, "data", "") == "org/set":
            raise DataError("org/set: the Hub can't be reached")
        return read(profile, settings, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(profile_review, "read_data_facts", no_network)
    notes: list[str] = []
    found = look_at_data(profile_with(tmp_path, "org/set"), None, None, notes)
    assert list(found) == ["old"]
    assert (found["old"].train, found["old"].held_out, found["old"].guessed) == (180, 20, True)
    assert notes == [
        "the data of 'new' are not looked at: org/set: the Hub can't be reached",
    ]


def test_local_data_that_cannot_be_used_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match=r"new\.jsonl:1"):
        look_at_data(profile_with(tmp_path, "./new.jsonl"), None, None, [])


def test_a_random_model_is_sized_and_not_scored(tmp_path: Path) -> None:
    profile = parse_profile(
        'name = "m"\nmodel.source = "random"\nmodel.tokenizer = "biography"\n'
        '[model.config]\nmodel_type = "gpt_neox"\nhidden_size = 32\nnum_hidden_layers = 2\n'
        "num_attention_heads = 2\nintermediate_size = 64\n"
        "[biography]\npeople = 40\nnew_people = 4\n"
        '[[tasks]]\nname = "old"\ndata = "biography:old"\nlearn = true\n'
        '[[tasks]]\nname = "new"\ndata = "biography:new"\n'
        "[train]\nlearning_rate = 1e-3\nsteps = 30\nwarmup_steps = 40\n",
        base_dir=tmp_path,
    )
    found = review_profile(profile)
    assert found.size is not None
    assert (found.size.hidden_size, found.size.layers, found.size.is_random) == (32, 2, True)
    assert found.starts == ()
    assert [one.steps for one in found.estimate.stages] == [30, 30]
    assert found.estimate.seconds is not None
    assert found.estimate.disk == (4 + 4) * 12 * found.size.parameters + 4 * found.size.parameters
    assert [text for text in found.warnings if "warmup_steps" in text] == [
        f"stage '{name}': warmup_steps = 40 is more than its 30 steps, so the rate never reaches "
        "0.001; lower warmup_steps"
        for name in ("old", "new")
    ]
