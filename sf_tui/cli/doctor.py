"""`sf doctor`: check this machine for conditions that end detached runs or spoil the console.

stdout gets the findings; the exit code is 1 if one needs fixing. torch is imported only for a GPU
without NVIDIA's library. Checks take their inputs as arguments, so tests can describe any machine.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from sf_tui.cli.complete import complete_profile
from sf_tui.cli.doctor_findings import Finding
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import SfError
from sf_tui.vocabulary.sizes import counted, format_bytes

LOGIND_FILES = ("usr/lib/systemd", "run/systemd", "etc/systemd")
"""Folders of logind's settings, in order of increasing precedence."""
BYTES_A_PARAMETER = 12
"""Checkpoint bytes per parameter: fp32 weights and AdamW's two moments."""


def examine(profile: str) -> list[Finding]:
    """Run all checks on this machine.

    Args:
        profile: the profile whose checkpoints must fit on the disk.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import runs_home

    environ = os.environ
    return [
        check_versions(),
        check_machine(),
        *check_gpus(),
        check_logout(Path("/"), _user(), environ),
        check_session(environ),
        check_colors(environ),
        check_signs(environ, sys.stdout.encoding or ""),
        check_runs_home(runs_home()),
        check_disk(profile, runs_home()),
    ]


def check_versions() -> Finding:
    """Check that torch, transformers and textual are installed, without importing them."""
    found = []
    for package in ("torch", "transformers", "textual"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            return Finding(
                "versions", "fail", f"{package} is not installed", "install sf with its packages"
            )
    return Finding("versions", "ok", f"{', '.join(found)}, Python {platform.python_version()}")


def check_machine() -> Finding:
    """Report cores and memory."""
    # Deferred: not needed for `sf --help`.
    import psutil

    memory = psutil.virtual_memory()
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = (
        f"{counted(cores or 0, 'core')} (load {load:.1f}), "
        f"{format_bytes(memory.available)} of {format_bytes(memory.total)} memory free"
    )
    return Finding("machine", "ok", found)


def check_gpus() -> Iterator[Finding]:
    """Report each GPU, or why none is visible."""
    # Deferred: an optional package that opens the driver.
    try:
        import pynvml
    except ImportError:
        yield from _gpus_of_torch()
        return
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        yield Finding("gpu", "info", f"no GPU: {error}; runs use the CPU")
        return
    build = metadata.version("torch").partition("+")[2]
    for index in range(count):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = pynvml.nvmlDeviceGetName(handle)
        found = (
            f"{name.decode() if isinstance(name, bytes) else name}: "
            f"{format_bytes(memory.free)} of {format_bytes(memory.total)} free"
        )
        if build.startswith("cpu"):
            yield Finding(
                f"gpu {index}", "warn", f"{found}, but torch is a CPU build", "install a CUDA torch"
            )
        else:
            yield Finding(f"gpu {index}", "ok", found)


def _gpus_of_torch() -> Iterator[Finding]:
    """Report the GPUs that torch sees, without NVIDIA's library."""
    if metadata.version("torch").partition("+")[2].startswith("cpu"):
        yield Finding("gpu", "info", "torch is a CPU build: runs use the CPU")
        return
    # Deferred: torch takes seconds, and only this case needs it.
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = map(format_bytes, torch.cuda.mem_get_info(index))
        found = f"{torch.cuda.get_device_name(index)}: {free} of {total} free"
        yield Finding(f"gpu {index}", "ok", found, "for its load: pip install 'sf-tui[gpu]'")


def check_logout(root: Path, user: str, environ: Mapping[str, str]) -> Finding:
    """Check whether logging out kills a detached run (logind's KillUserProcesses).

    Args:
        root: the root of the system's files; `/` except in tests.
        user: the user who would log out.
        environ: the environment.
    """
    if environ.get("SLURM_JOB_ID"):
        return Finding(
            "logging out",
            "warn",
            f"inside SLURM job {environ['SLURM_JOB_ID']}: a detached run ends with the job",
            "in a batch script: `sf run --resume --run-dir DIR --no-ui` (`sf guide headless`)",
        )
    settings = read_logind(root)
    kills = settings.get("KillUserProcesses", "no").lower() in {"yes", "true", "1", "on"}
    spared = settings.get("KillExcludeUsers", "root").split()
    only = settings.get("KillOnlyUsers", "").split()
    if not kills or user in spared or (only and user not in only):
        return Finding("logging out", "ok", "leaves detached runs alone")
    lingers = (root / "var/lib/systemd/linger" / user).exists()
    scope = "systemd-run --user --scope sf run"
    if lingers:
        return Finding(
            "logging out",
            "warn",
            "KillUserProcesses=yes: processes outside the user's service manager are killed",
            f"lingering is on for {user}: start runs with `{scope}`",
        )
    return Finding(
        "logging out",
        "fail",
        "KillUserProcesses=yes: logging out kills detached runs, tmux or not",
        f"`loginctl enable-linger {user}` once, then start runs with `{scope}`",
    )


def read_logind(root: Path) -> dict[str, str]:
    """Return logind's settings; later files override earlier ones, as in systemd."""
    settings: dict[str, str] = {}
    for path in _logind_files(root):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and not line.lstrip().startswith(("#", ";")):
                settings[key.strip()] = value.strip()
    return settings


def _logind_files(root: Path) -> Iterable[Path]:
    main = [root / folder / "logind.conf" for folder in LOGIND_FILES]
    # A drop-in hides those of the same name in folders of lower precedence; names set the order.
    named: dict[str, Path] = {}
    for folder in LOGIND_FILES:
        parts = root / folder / "logind.conf.d"
        if parts.is_dir():
            named |= {path.name: path for path in parts.glob("*.conf")}
    return [*main, *(named[name] for name in sorted(named))]


def check_session(environ: Mapping[str, str]) -> Finding:
    """Report what holds the terminal and how a dropped connection affects it."""
    over_ssh = bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))
    holder = "tmux" if environ.get("TMUX") else "screen" if environ.get("STY") else ""
    if holder:
        found = f"{holder}{' over SSH' if over_ssh else ''}: the console survives a dropped link"
    elif over_ssh:
        found = "SSH: a dropped link ends the console, never the run; `sf attach` opens it again"
    else:
        found = "a local terminal"
    return Finding("session", "ok", found)


def check_colors(environ: Mapping[str, str]) -> Finding:
    """Check the terminal's number of colors; the console needs 256."""
    term = environ.get("TERM", "")
    if environ.get("NO_COLOR"):
        return Finding("colors", "info", "NO_COLOR is set: the console draws without color")
    if environ.get("COLORTERM", "").lower() in {"truecolor", "24bit"}:
        return Finding("colors", "ok", f"24-bit ({term})")
    if "256color" in term or "kitty" in term or "direct" in term:
        return Finding("colors", "ok", f"256 ({term}), which is all the console uses")
    remedy = "TERM=xterm-256color, or in tmux: set -g default-terminal tmux-256color"
    return Finding("colors", "warn", f"TERM={term or '(unset)'} has 16 colors or fewer", remedy)


def check_signs(environ: Mapping[str, str], encoding: str) -> Finding:
    """Check whether the terminal can show braille and line drawing."""
    # Deferred: only this check needs the console's package.
    from sf_tui.tui.terminal import draws_braille

    if draws_braille(environ, encoding):
        return Finding("signs", "ok", f"{encoding}: charts are drawn in braille")
    return Finding(
        "signs",
        "warn",
        f"{encoding or 'no encoding'} on TERM={environ.get('TERM', '')}: charts are drawn in ASCII",
        "a UTF-8 locale, such as LANG=C.UTF-8",
    )


def check_runs_home(home: Path) -> Finding:
    """Check whether runs can be written and locked in the runs' folder."""
    folder = home
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Finding(
            "runs",
            "fail",
            f"{home}: can't be written and locked: {error.strerror}",
            "set SF_HOME to a folder that you can write, on a file system with flock",
        )
    return Finding("runs", "ok", f"{home}: can be written and locked")


def check_disk(profile: str, home: Path) -> Finding:
    """Check whether a profile's checkpoints fit on the runs' disk.

    Args:
        profile: a built-in profile's name or a file.
        home: the folder of the runs.
    """
    folder = home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    # Deferred: pydantic takes a tenth of a second.
    from sf_tui.profile import load_profile

    try:
        loaded = load_profile(profile)
    except SfError as error:
        return Finding(
            "disk", "warn", f"{format_bytes(free)} free; {error.message}", "name another --profile"
        )
    parameters = count_parameters(loaded)
    if parameters is None:
        return Finding(
            "disk",
            "info",
            f"{format_bytes(free)} free; the size of {loaded.model.source} is unknown",
            f"a checkpoint takes about {BYTES_A_PARAMETER} bytes per parameter",
        )
    # The first and last of each stage are kept; one more exists while the next is written.
    kept = loaded.checkpoint.keep_last + loaded.checkpoint.keep_best + 1
    count = 2 * len(loaded.stages()) + kept
    need = count * parameters * BYTES_A_PARAMETER
    found = (
        f"{format_bytes(free)} free; {loaded.name} keeps up to {count} checkpoints, "
        f"{format_bytes(need)}"
    )
    if need > free:
        return Finding(
            "disk",
            "fail",
            found,
            "set SF_HOME to another disk, or lower [checkpoint] keep_last and keep_best",
        )
    return Finding("disk", "warn" if need > free / 2 else "ok", found)


def count_parameters(profile: Any) -> int | None:
    """Estimate a profile's number of parameters; None if that requires loading the model.

    Args:
        profile: a loaded `Profile`.
    """
    # Deferred: pydantic takes a tenth of a second.
    from sf_tui.profile import starter_directory

    source = profile.model.source
    if source == "random":
        return _parameters_of_config(profile.model.config)
    try:
        folder = starter_directory(source) if source.startswith("starter:") else Path(source)
    except SfError:
        return None
    if folder.suffix == ".gguf" and folder.is_file():
        # Quantized to about four bits per weight.
        return folder.stat().st_size * 2
    sizes = (
        [path.stat().st_size for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    )
    # Weights take two or four bytes each; two gives the larger, safer count.
    return sum(sizes) // 2 if sizes else None


def _parameters_of_config(config: Mapping[str, Any]) -> int | None:
    hidden = config.get("hidden_size")
    layers = config.get("num_hidden_layers")
    if not isinstance(hidden, int) or not isinstance(layers, int):
        return None
    vocabulary = config.get("vocab_size", 1500)
    return 12 * layers * hidden * hidden + 2 * int(vocabulary) * hidden


def _user() -> str:
    # Deferred: not needed for `sf --help`.
    import psutil

    return str(psutil.Process().username())


_SIGNS = {"ok": "ok  ", "info": "    ", "warn": "warn", "fail": "FAIL"}


def doctor(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            autocompletion=complete_profile,
            help="Check that the checkpoints of this profile (name or file) fit.",
        ),
    ] = "biography-mini",
    launch: Annotated[
        str | None,
        typer.Option(
            "--launch",
            metavar="PROFILE",
            autocompletion=complete_profile,
            help="Start this profile's processes and let them exchange something.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine: terminal, GPU, disk space, and what kills detached runs."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.doctor import examine

    if launch is None:
        findings = examine(profile)
    else:
        # Deferred: it may import torch.
        from sf_tui.cli.doctor_launch import check_launch

        findings = list(check_launch(launch))
        if not findings:
            # A rank other than 0: rank 0 has them.
            return
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
