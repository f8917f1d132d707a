"""A strategy from outside the package: one declaration and one implementation, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from pydantic import Field
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.engine.step import Loss
from sf_tui.engine.strategies import Strategy, StrategyFacts, StrategyState
from sf_tui.errors import ProfileError
from sf_tui.profile import dump_profile, load_profile, new_profile, parse_profile, problems_in
from sf_tui.profile.reference import profile_json_schema, profile_reference
from sf_tui.profile.schema import current_schema
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.vocabulary.strategies import (
    STRATEGIES,
    Factor,
    StrategyDeclaration,
    StrategySettings,
    register_strategy,
)
from support.quick_run import PROFILE, Operator, equal, events_of, final_weights, work


class FadeSettings(StrategySettings):
    """`[train.fade]`: how fast gradients fade."""

    rate: Factor = Field(default=0.5, description="what gradients are multiplied by, step by step")


class FadeFacts(StrategyFacts):
    """What fade stores."""

    factor: float


class HeadSize:
    """The size of the head, as a loss."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        self._weight = weight

    def accumulate(self, step: int) -> tuple[float, int]:  # noqa: ARG002
        loss = 1e-3 * self._weight.square().sum()
        loss.backward()
        return loss.item(), 0


class Fade(Strategy):
    """A loss, a gradient hook, an edit at the end and a state: each hook once."""

    facts_schema = FadeFacts

    def begin(self) -> None:
        self.factor = 1.0

    def losses(self) -> Mapping[str, Loss]:
        return {"head_size": HeadSize(self.stage.model.get_output_embeddings().weight)}

    def before_update(self, step: int) -> None:  # noqa: ARG002
        self.factor *= self.settings.rate
        for parameter in self.stage.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= self.factor

    @torch.no_grad()
    def end(self) -> None:
        self.stage.model.get_output_embeddings().weight[0] = 0.25

    def state(self) -> StrategyState:
        return StrategyState({"factor": self.factor})

    def restore(self, state: StrategyState | None) -> None:
        self.factor = state.facts["factor"] if state else 1.0


FADE = StrategyDeclaration(
    "fade",
    "let gradients fade",
    cost="none",
    source="a test",
    implementation=f"{__name__}:Fade",
    settings=FadeSettings,
    table="train.fade",
)
FADED = ('tasks.new.train.strategy="fade"', "tasks.new.train.fade={rate=0.75}")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register_strategy(FADE)
    yield
    del STRATEGIES["fade"]
    current_schema()


def test_profile_knows_it_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "fade.toml"
    file.write_text(PROFILE + "[tasks.train]\n")
    profile = load_profile(file, FADED)
    assert profile.stage_train("new").strategy == "fade"
    assert parse_profile(dump_profile(profile)) == profile
    train = profile_json_schema()["$defs"]["TrainSettings"]["properties"]
    assert train["strategy"]["enum"][-1] == "fade"
    assert "fade" in train
    assert "| `rate` |" in profile_reference()
    assert "let gradients fade" in profile_reference()
    assert "#[train.fade]" in new_profile(name="m", model="org/m", old="a.csv", new="b.csv")
    options = [part for setting in FADED for part in ("--set", setting)]
    shown = CliRunner().invoke(app, ["profile", "check", str(file), *options])
    assert "new: fade, 12 steps" in shown.stdout
    assert "old data: none" in shown.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("train.strategy=fad", '--set train.strategy: strategy = "fad": must be one of seq,'),
        ("train.fade.rate=2.0", "--set train.fade.rate: rate = 2.0: must be a number above 0"),
        ("train.fade.rat=0.5", "--set train.fade.rat: unknown key 'rat'"),
        ("train.fade.rate=0.5", "[train] a fade table goes with strategy 'fade'"),
    ],
)
def test_mistakes_in_it_are_named_like_any_other(given: str, message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(PROFILE, overrides=[given])
    assert message in problems_in(caught.value)[0][0]


def test_profile_refuses_it_where_it_is_not_registered() -> None:
    del STRATEGIES["fade"]
    with pytest.raises(ProfileError, match="must be one of seq, freeze, anchor"):
        parse_profile(PROFILE, overrides=["train.strategy=fade"])
    register_strategy(FADE)


def test_name_or_table_of_another_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="there is a strategy 'fade' already"):
        register_strategy(StrategyDeclaration("fade", "another", "none", "none", "x:Y"))
    with pytest.raises(ValueError, match="the table of strategy 'ewc'"):
        register_strategy(
            StrategyDeclaration("other", "", "none", "none", "x:Y", table="train.ewc")
        )


def test_worker_trains_obeys_and_resumes_with_it(tmp_path: Path) -> None:
    text = dump_profile(parse_profile(PROFILE, overrides=FADED))
    whole, parts = (
        RunDirectory.create(tmp_path / name, profile_text=text, profile_name="quick", argv=["sf"])
        for name in ("whole", "parts")
    )
    assert work(whole, Operator(whole).at("new", 2, "freeze", layers=1)) == 0
    history = fold(read_events(whole.events))
    assert history.stages["new"].strategy == "fade"
    sizes = [e["losses"]["head_size"] for e in events_of(whole, "step") if e["stage"] == "new"]
    assert len(sizes) == 12
    assert (final_weights(whole)["lm_head.weight"][0] == 0.25).all()
    assert ("freeze", "done") in [(e["op"], e["status"]) for e in events_of(whole, "command")]

    operator = Operator(parts).at("new", 2, "freeze", layers=1).at("new", 7, "stop")
    assert work(parts, operator) == 5
    assert work(parts) == 0
    assert equal(final_weights(whole), final_weights(parts))
