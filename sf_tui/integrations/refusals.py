"""Which ops a host can't do, each with its reason and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sf_tui.vocabulary.ops import OPS

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from sf_tui.integrations.spread import Spread

_SHARDED = ("pause", "resume", "checkpoint", "stop", "freeze", "unfreeze")
"""Ops that need no whole parameter."""


def trainer_refusals(args: TrainingArguments, host: str, spread: Spread) -> dict[str, str]:
    """Return the ops that a Trainer can't do.

    Args:
        args: its arguments.
        host: its name.
        spread: how its processes hold the model.
    """
    refused = {"rollback": rollback_refusal(host, str(args.output_dir or "OUTPUT_DIR"))}
    checkpointing = getattr(args, "gradient_checkpointing_kwargs", None) or {}
    if args.gradient_checkpointing and checkpointing.get("use_reentrant"):
        # Reentrant checkpointing gives no gradient to a block whose input needs none.
        reason = "above a frozen layer, reentrant gradient checkpointing gives no gradient"
        refused["freeze"] = (
            f'{reason}: set gradient_checkpointing_kwargs={{"use_reentrant": False}}'
        )
    if args.fp16:
        reason = "the host scales fp16 gradients, so no other loss can be added to them"
        refused |= {"anchor": reason, "unanchor": reason}
    freeze = spread.freeze_refusal()
    if freeze is not None:
        refused["freeze"] = freeze
    if spread.is_sharded:
        reason = "FSDP2 splits each parameter over the processes; this needs whole ones"
        refused |= {name: reason for name in OPS if name not in _SHARDED and name not in refused}
    return refused


def rollback_refusal(host: str, output_dir: str) -> str:
    """Return why a Trainer can't be taken back, with the line that does it."""
    return (
        f"{host} can't go back inside its loop: stop it, then start it again with "
        f'resume_from_checkpoint="{output_dir}/checkpoint-STEP"'
    )
