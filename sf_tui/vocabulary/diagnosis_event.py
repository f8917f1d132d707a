"""The event with the verdict of a recovery test, its figures and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from sf_tui.vocabulary.declared import (
    STEPS,
    AnswerRecord,
    ArmRecord,
    Count,
    DiagnosisCost,
    Doc,
    Interval,
)
from sf_tui.vocabulary.event import Event


@dataclass(frozen=True, slots=True)
class DiagnosisMade(Event):
    """The result of a recovery test."""

    TYPE: ClassVar[str] = "diagnosis"

    verdict: Annotated[str, Doc("`none`, `spurious`, `partial`, `real` or `inconclusive`")]
    task: Annotated[str, Doc("the old task")]
    now: Annotated[float | None, Doc("its score now", "share")]
    stage: Annotated[str | None, Doc("stage name; null outside a run")] = None
    step: Annotated[Count | None, Doc("steps done in the stage", STEPS)] = None
    closed: Annotated[bool | None, Doc("whether the interval excludes other verdicts")] = None
    controlled: Annotated[bool | None, Doc("whether a control was scored")] = None
    evidence: Annotated[Sequence[str], Doc("the verdict's reasons, a sentence each")] = ()
    start: Annotated[float | None, Doc("score at the stage's start", "share")] = None
    now_interval: Annotated[Interval | None, Doc("95 % interval of `now`", "share")] = None
    recovered: Annotated[float | None, Doc("score after the deciding arm", "share")] = None
    recovered_interval: Annotated[Interval | None, Doc("its 95 % interval", "share")] = None
    drop_interval: Annotated[Interval | None, Doc("95 % interval of the drop", "share")] = None
    spurious_share: Annotated[float | None, Doc("(recovered - now) / (start - now)", "share")] = (
        None
    )
    real_share: Annotated[float | None, Doc("(start - recovered) / (start - now)", "share")] = None
    interval: Annotated[Interval | None, Doc("95 % interval of `spurious_share`", "share")] = None
    alignment: Annotated[float | None, Doc("now / recovered", "share")] = None
    alignment_loss: Annotated[float | None, Doc("recovered - now", "share")] = None
    knowledge_loss: Annotated[float | None, Doc("start - recovered", "share")] = None
    examples: Annotated[Count | None, Doc("old examples that arms could train on")] = None
    held_out: Annotated[Count | None, Doc("examples scored", "examples")] = None
    arm: Annotated[str | None, Doc("the arm that decides")] = None
    steps: Annotated[Count | None, Doc("steps of that arm", STEPS)] = None
    seconds: Annotated[float | None, Doc("wall time of the whole test", "s")] = None
    tokens: Annotated[float | None, Doc("tokens of the whole test", "tokens")] = None
    cost: Annotated[DiagnosisCost | None, Doc("cost of the test beside retraining")] = None
    arms: Annotated[Mapping[str, ArmRecord] | None, Doc("every arm by name")] = None
    since: Annotated[str | None, Doc("what `start` refers to")] = None
    forwarded_tokens: Annotated[Count | None, Doc("tokens only read", "tokens")] = None
    rounds: Annotated[Count | None, Doc("rounds that the deciding arm went on for")] = None
    round_steps: Annotated[Count | None, Doc("steps of all rounds", STEPS)] = None
    rounds_ended: Annotated[
        str | None,
        Doc(
            "`decided`, `time` (it was over), `rounds` (all were made), `teaches`, `diverged` or "
            "`no_arm`"
        ),
    ] = None
    new_task: Annotated[str | None, Doc("the new task; null if it was not scored")] = None
    new_now: Annotated[float | None, Doc("its score now", "share")] = None
    new_interval: Annotated[Interval | None, Doc("95 % interval of `new_now`", "share")] = None
    new_start: Annotated[float | None, Doc("its score at the stage's start", "share")] = None
    new_held_out: Annotated[Count | None, Doc("examples it was scored on", "examples")] = None
    new_learned: Annotated[
        bool | None, Doc("false if its score did not rise: nothing was tested")
    ] = None
    answers: Annotated[Sequence[AnswerRecord], Doc("up to three lost answers", "", True)] = ()
