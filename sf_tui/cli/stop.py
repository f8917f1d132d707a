"""`sf stop`: end a run with everything saved, so that it can be resumed."""

from __future__ import annotations

from typing import Annotated

import typer

from sf_tui.cli.output import write_line


def stop(
    run: Annotated[str, typer.Argument(help="A run's id, a prefix of it, `last`, or a directory.")],
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for its end.")] = 300.0,
) -> None:
    """Stop a run at its next step: checkpoint, final model, exit code 5; resumable."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.act import send_and_wait
    from sf_tui.errors import RunError
    from sf_tui.profile import load_profile
    from sf_tui.run.directory import find_run

    found = find_run(run)
    actions = load_profile(found.profile).actions
    name = next(name for name, action in actions.items() if action.op == "stop")
    answer = send_and_wait(found, name, {}, wait_s=wait)
    if answer is not None and answer.status != "done":
        raise RunError(f"{found.id}: not stopped: {answer.reason}", "see `sf show`")
    write_line(f"{found.id} stopped; `sf resume {found.id}` goes on", err=True)
