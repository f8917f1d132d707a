"""Every op: what an operator, a rule or a script can request of a run, one row each.

The profile, the worker, the console, the histories and the guide read these rows. The worker
registers the implementation of each op by its name; it is not known here.

Another package adds an op with `register_op` before a profile is loaded.
"""

from __future__ import annotations

from sf_tui.vocabulary.consequences import edit_consequence, recover_consequence
from sf_tui.vocabulary.op import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    PAUSED,
    PROTECT,
    RECOVER,
    TEST,
    Argument,
    Op,
)

__all__ = [
    "ANCHORED",
    "FROZEN",
    "GO_BACK",
    "OPS",
    "PAUSED",
    "PROTECT",
    "RECOVER",
    "TEST",
    "Argument",
    "Op",
    "edit_names",
    "op_named",
    "op_that_turns_off",
    "ops_for",
    "ops_that_take",
    "register_op",
]

CANCEL = "cancel"
"""The op that ends another command."""

MAX_COUNT = 10**9
MAX_STEPS = 10**8

_STRENGTH = Argument("strength", float, "weight of the KL to the start model", above=0, example=2.0)

OPS: dict[str, Op] = {}
"""Every registered op by name, in display order."""

_UNKNOWN = Op("", "an op unknown to this version")


def register_op(op: Op) -> None:
    """Add an op; its implementation is registered in the worker.

    Raises:
        ValueError: an op with that name is already registered.
    """
    if op.name in OPS:
        raise ValueError(f"op '{op.name}' is registered already")
    OPS[op.name] = op


def op_named(name: str) -> Op:
    """Return the op with a name; for an unknown name, one without properties."""
    return OPS.get(name, _UNKNOWN)


def ops_for(purpose: str) -> list[str]:
    """Return the names of the ops with a purpose."""
    return [op.name for op in OPS.values() if op.purpose == purpose]


def op_that_turns_off(state: str) -> str:
    """Return the name of the op that turns a state off; empty if there is none."""
    return next((op.name for op in OPS.values() if op.turns_off == state), "")


def ops_that_take(argument: str) -> list[str]:
    """Return the names of the ops that take an argument."""
    return [op.name for op in OPS.values() if op.argument(argument) is not None]


def edit_names() -> tuple[str, ...]:
    """Return the names of the ops that edit weights without data or steps."""
    return tuple(op.name for op in OPS.values() if op.edit)


def _edit(name: str, *, help_: str, doing: str, changes: str, argument: Argument | None) -> Op:
    return Op(
        name,
        help_,
        () if argument is None else (argument,),
        doing=doing,
        # An edit is rare enough to be looked up by name in the palette, so it has no key.
        confirm=True,
        consequence=edit_consequence(changes),
        changes_weights=True,
        replayed=True,
        needs_old_task=True,
        edit=True,
        after_end=f"sf recover {{run}} --by {name} --out DIR",
    )


for _op in (
    Op(
        "freeze",
        "freeze the bottom layers",
        (
            Argument(
                "layers",
                int,
                "blocks from the bottom; default: half of them",
                minimum=0,
                maximum=MAX_COUNT,
                example=2,
            ),
            Argument("embeddings", bool, "freeze the input embeddings too", default=True),
        ),
        key="f",
        purpose=PROTECT,
        turns_on=FROZEN,
        inverse="unfreeze",
        replayed=True,
        footer_rank=0,
    ),
    Op(
        "unfreeze",
        "unfreeze every layer",
        key="u",
        turns_off=FROZEN,
        inverse="freeze",
        opens_window=True,
        replayed=True,
        footer_rank=1,
    ),
    Op(
        "anchor",
        "keep answers to neighboring prompts as they were",
        (_STRENGTH,),
        settings="anchor",
        key="a",
        doing="anchoring",
        one_at_a_time=True,
        purpose=PROTECT,
        turns_on=ANCHORED,
        inverse="unanchor",
        replayed=True,
        footer_rank=2,
    ),
    Op(
        "unanchor",
        "let answers to neighboring prompts change again",
        key="o",
        turns_off=ANCHORED,
        inverse="anchor",
        opens_window=True,
        replayed=True,
        footer_rank=3,
    ),
    Op(
        "pause",
        "pause before the next step; pressed again: continue",
        key="space",
        turns_on=PAUSED,
        inverse="resume",
        interrupts=True,
        charted=False,
        footer_rank=6,
    ),
    Op(
        "resume",
        "continue after a pause",
        # Pausing a second time resumes, so it needs no key of its own.
        turns_off=PAUSED,
        inverse="pause",
        interrupts=True,
        charted=False,
    ),
    Op("checkpoint", "save weights and optimizer now", key="c", charted=False, footer_rank=8),
    Op(
        "rollback",
        "go back to a checkpoint of this stage",
        (
            Argument(
                "to",
                str,
                "the checkpoint's name; default: the last good one",
                example="new/step-000100",
            ),
        ),
        key="b",
        confirm=True,
        typed_yes=True,
        purpose=GO_BACK,
        opens_window=True,
        ends_step=True,
        charted=False,
        footer_rank=7,
    ),
    Op(
        "diagnose",
        "test on a copy whether what is lost can be recovered",
        (
            Argument(
                "examples",
                int,
                "old examples to train on",
                minimum=1,
                maximum=MAX_COUNT,
                example=10,
            ),
            Argument("thorough", bool, "add the recovery on half of the old data", default=False),
            Argument(
                "time",
                float,
                "seconds within which an undecided test may go on in rounds",
                minimum=0,
                example=60.0,
            ),
            Argument(
                "beside",
                bool,
                "test in a process of its own while the training goes on",
                example=True,
            ),
        ),
        settings="diagnose",
        key="d",
        doing="diagnosing",
        one_at_a_time=True,
        purpose=TEST,
        needs_old_task=True,
        after_end="sf diagnose {run}",
        result_event="diagnosis",
        footer_rank=5,
    ),
    Op(
        "recover",
        "repair the weights by a short tuning",
        (
            Argument(
                "examples",
                int,
                "old examples to train on",
                minimum=0,
                maximum=MAX_COUNT,
                example=10,
            ),
            Argument(
                "steps",
                int,
                "optimizer steps",
                minimum=1,
                maximum=MAX_STEPS,
                example=150,
            ),
            _STRENGTH,
            Argument(
                "then_anchor",
                bool,
                "hold the stage with an anchor after the repair, at [anchor] strength",
                example=True,
            ),
            Argument(
                "keep_frozen",
                bool,
                "leave every frozen layer bit-identical, even one that moved before it was frozen",
                example=False,
            ),
            Argument(
                "new_floor",
                float,
                "share of the new task's score to keep, else it fails",
                minimum=0,
                maximum=1,
                example=0.98,
            ),
        ),
        settings="recover",
        key="r",
        doing="recovering",
        one_at_a_time=True,
        confirm=True,
        consequence=recover_consequence,
        purpose=RECOVER,
        also_turns_on={"then_anchor": ANCHORED},
        changes_weights=True,
        replayed=True,
        needs_old_task=True,
        after_end="sf recover {run} --out DIR",
        footer_rank=4,
    ),
    _edit(
        "shift-edit",
        help_="remove the common shift from the change since the stage's start",
        doing="editing",
        changes="removes the strongest common direction from every block matrix's change since "
        "the stage began (alpha {alpha})",
        argument=Argument(
            "alpha",
            float,
            "how much of each matrix's top direction is removed",
            default=1.0,
            above=0,
            maximum=1,
        ),
    ),
    _edit(
        "spectral-edit",
        help_="keep only the part of the change that rises above noise",
        doing="editing",
        changes="keeps only the directions above noise in every block matrix's change since the "
        "stage began",
        argument=None,
    ),
    _edit(
        "interpolate",
        help_="move back towards the stage's start",
        doing="interpolating",
        changes="moves every weight back towards the stage's start and keeps {keep} of its change",
        argument=Argument(
            "keep",
            float,
            "share kept of the change since the stage's start",
            default=0.7,
            minimum=0,
            below=1,
        ),
    ),
    Op(
        CANCEL,
        "end an operation under way, or drop commands that wait; the run stays as it was",
        (
            Argument(
                "command",
                str,
                "id or action, or `all`; default: what is under way, else all that waits",
                example="diagnose",
            ),
        ),
        # The console has esc for it, and a second press of the operation's own key.
        interrupts=True,
        charted=False,
    ),
    Op(
        "ask",
        "answer held-out questions, or one of your own, with the weights as they are",
        (
            Argument(
                "question",
                str,
                "question of your own; default: those of the probes",
                example="What is the capital of Peru?",
                lines=True,
            ),
            Argument(
                "task",
                str,
                "task whose prompts it is written like; default: an earlier one",
                example="old",
            ),
        ),
        doing="answering",
        after_end="sf ask {run}",
        charted=False,
    ),
    Op(
        "stop",
        "save a checkpoint and end the run; `sf resume` continues it",
        # Never a single key: it would be too close to the others.
        may_have_key=False,
        typed_yes=True,
        ends_step=True,
        interrupts=True,
        charted=False,
    ),
):
    register_op(_op)
del _op
