"""`sf doctor`: what on this machine would end a detached run or spoil the console.

stdout gets the findings, and the exit code says whether one of them must be mended: 0 no, 1 yes.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sf_tui.cli.output import write_json, write_line

_SIGNS = {"ok": "ok  ", "info": "    ", "warn": "warn", "fail": "FAIL"}


def doctor(
    profile: Annotated[
        str,
        typer.Option("--profile", help="Whose checkpoints must fit on the disk: a name or a file."),
    ] = "biography-mini",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine: terminal, GPU, disk room, and what kills detached runs."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.doctor_checks import examine

    findings = examine(profile)
    healthy = all(finding.level != "fail" for finding in findings)
    if json:
        rows = [
            {
                "check": finding.check,
                "level": finding.level,
                "found": finding.found,
                "remedy": finding.remedy,
            }
            for finding in findings
        ]
        write_json({"healthy": healthy, "findings": rows})
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            write_line(f"{_SIGNS[finding.level]}  {finding.check:<{width}}  {finding.found}")
            if finding.remedy:
                write_line(f"{'':{width + 8}}{finding.remedy}")
    if not healthy:
        raise typer.Exit(1)
