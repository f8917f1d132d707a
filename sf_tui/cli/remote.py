"""A run on another host: the command runs there, over the user's own ssh.

`HOST:RUN` in place of RUN sends the whole command line to the `sf` of that host, so run
directories are read and written only where they are, and a console sends over the link what any
terminal program sends. ssh is the one in `$SF_SSH` or on the PATH, with the user's own
configuration, keys and connection sharing. Needs no daemon and no port.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer import Context
from typer.core import TyperCommand

from sf_tui import __version__
from sf_tui.cli.output import INTERRUPTED, write_line
from sf_tui.errors import RunError, SfError, UsageError

SSH = "SF_SSH"
"""Environment variable with the ssh command and its options."""
REMOTE_COMMAND = "SF_REMOTE_COMMAND"
"""Environment variable with the command that starts sf on the other host."""
SSH_FAILED = 255
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_USAGE = 2
_CONSOLES = ("attach", "watch")
_RUN_ARGUMENTS = ("run", "runs", "where", "target")
_HOST = re.compile(r"(?:[\w.+-]+@)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\])")
# Drawing depends on these, and ssh itself passes on only TERM and what both ends agree on.
_PASSED_ON = ("NO_COLOR", "COLORTERM", "COLORFGBG")
_ESTABLISHED_S = 15.0
"""A console whose connection lasted this long had been open: it is opened again."""
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 20.0)
_GIVE_UP_S = 1800.0
_KEEPALIVE_S = 10
_CHECK_TIMEOUT_S = 20


class RemoteError(RunError):
    """ssh or the sf of another host can't be used.

    Args:
        message: what failed.
        hint: what to do.
        exit_code: ssh's, or the remote shell's.
    """

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


@dataclass(frozen=True)
class RemoteRun:
    """A run on another host.

    Attributes:
        host: as ssh takes it, with a user if given.
        run: what names the run there; empty for all of its runs.
    """

    host: str
    run: str


def remote_run(reference: str) -> RemoteRun | None:
    """Return the host and the run of `HOST:RUN`; None for a run of this machine.

    As for scp, a colon before the first slash divides them, so `./a:b` is a local path. An existing
    local directory of that name is local too.

    Raises:
        UsageError: either part can't be passed to ssh safely.
    """
    host, run = _divided(reference)
    if host is None or Path(reference).is_dir():
        return None
    if not _HOST.fullmatch(host) or host.startswith("-"):
        raise UsageError(
            f"'{reference}': '{host}' is not a host that ssh can take",
            "write HOST:RUN or USER@HOST:RUN; a local directory with a colon is ./NAME",
        )
    if run.startswith("-") or not run.isprintable():
        raise UsageError(
            f"'{reference}': '{run}' can't name a run on {host}",
            f"`sf runs {host}:` lists its runs",
        )
    return RemoteRun(host, run)


def _divided(reference: str) -> tuple[str | None, str]:
    if reference.startswith("["):
        # An IPv6 address has colons of its own.
        address, bracket, rest = reference.partition("]")
        if bracket and rest.startswith(":"):
            return address + bracket, rest[1:]
        return None, ""
    host, colon, run = reference.partition(":")
    if not colon or "/" in host or not host:
        return None, ""
    if "@[" in host:
        address, bracket, rest = reference.partition("]")
        return (address + bracket, rest[1:]) if rest.startswith(":") else (host, run)
    return host, run


class RemoteCommand(TyperCommand):
    """A command that is carried out on another host if its runs are there."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command here, or there and exit with its code."""
        found = _named_runs(ctx)
        there = [remote_run(text) for text in found]
        hosts = dict.fromkeys(one.host if one else "" for one in there)
        if not any(hosts):
            return super().invoke(ctx)
        if len(hosts) > 1:
            raise UsageError(
                f"{', '.join(found)}: these runs are on different machines",
                f"call `sf {ctx.info_name}` once for each machine",
            )
        name = str(ctx.info_name)
        words = [name, *_given(ctx, [one.run for one in there if one])]
        host = next(iter(hosts))
        if name in _CONSOLES:
            ctx.exit(open_console_there(host, words, os.environ, shown=found[0]))
        ctx.exit(run_there(host, words, os.environ))


def _named_runs(ctx: Context) -> list[str]:
    for name in _RUN_ARGUMENTS:
        value = ctx.params.get(name)
        if value and not (name == "target" and _is_model(value)):
            return [value] if isinstance(value, str) else list(value)
    return []


def _is_model(target: str) -> bool:
    """Return whether a colon in a target belongs to a source of models, such as `starter:NAME`."""
    # Deferred: the profile package takes a tenth of a second.
    from sf_tui.profile.sources import PACKAGE_PREFIX, STARTER_PREFIX

    return target.startswith((PACKAGE_PREFIX, STARTER_PREFIX))


def _given(ctx: Context, runs: Sequence[str]) -> list[str]:
    """Return the words of the command line, with the runs' names on their host."""
    options: list[str] = []
    arguments: list[str] = []
    for parameter in ctx.command.get_params(ctx):
        source = ctx.get_parameter_source(parameter.name or "")
        value = ctx.params.get(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or value is None:
            continue
        if parameter.param_type_name == "argument":
            if parameter.name in _RUN_ARGUMENTS:
                arguments += [run for run in runs if run]
            else:
                arguments += [value] if isinstance(value, str) else [str(one) for one in value]
            continue
        long = next(name for name in parameter.opts if name.startswith("--"))
        values = value if isinstance(value, (list, tuple)) else [value]
        options += [long if one is True else f"{long}={one}" for one in values if one is not False]
    # A word such as `-1` after the dashes stays an argument.
    return [*options, "--", *arguments] if arguments else options


def remote_line(words: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the command line for the remote shell.

    ssh joins its arguments with blanks and the login shell of the other host splits them again, so
    each word is quoted, except `$SF_REMOTE_COMMAND`, which may be any shell command.
    """
    start = environ.get(REMOTE_COMMAND, "").strip() or "sf"
    passed = [f"{name}={environ[name]}" for name in _PASSED_ON if environ.get(name)]
    line = " ".join([start, *map(shlex.quote, words)])
    return line if not passed else f"{' '.join(map(shlex.quote, ['env', *passed]))} {line}"


def ssh_words(environ: Mapping[str, str]) -> list[str]:
    """Return the ssh program and its options.

    Raises:
        RemoteError: there is none.
    """
    given = environ.get(SSH, "").strip()
    try:
        words = shlex.split(given) if given else ["ssh"]
    except ValueError as error:
        raise UsageError(f"{SSH}={given}: {error}", "write it as a shell does") from error
    if shutil.which(words[0], path=environ.get("PATH")) is None:
        raise RemoteError(
            f"{words[0]}: there is no such program, so no other host can be reached",
            f"install OpenSSH's client, or name another one in {SSH}",
            _NOT_FOUND,
        )
    return words


def run_there(host: str, words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run sf on another host and return its exit code.

    Its output is this process's. With a terminal on all three streams it gets one, too, which makes
    its tables fit and passes ctrl-c on to it.

    Raises:
        RemoteError: ssh failed, or there is no sf on that host.
    """
    interactive = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    code = _call([*ssh_words(environ), "-t" if interactive else "-T", host], words, environ)
    if code == SSH_FAILED:
        raise _unreachable(host, environ)
    return _checked(host, code, environ)


def open_console_there(
    host: str,
    words: Sequence[str],
    environ: Mapping[str, str],
    *,
    shown: str,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Open the console of a run on another host, again after each lost connection.

    Args:
        host: as ssh takes it.
        words: of the command line there.
        environ: the environment.
        shown: the run as the user named it.
        sleep: waits for seconds.
        clock: monotonic seconds.

    Returns:
        The console's exit code.

    Raises:
        UsageError: there is no terminal.
        RemoteError: the host can't be reached, or has no sf.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.tui.terminal import missing_for_console, restore_screen

    missing = missing_for_console(environ, stdout=True)
    if missing:
        raise UsageError(missing, f"`sf show {shown}` prints the state")
    ssh = ssh_words(environ)
    call = [*ssh, "-t", *_keepalive(ssh, host), host]
    tries, lost_at = 0, None
    while True:
        begun = clock()
        code = _call(call, words, environ)
        if code != SSH_FAILED:
            return _checked(host, code, environ)
        restore_screen(sys.stdout.fileno())
        if clock() - begun >= _ESTABLISHED_S:
            tries, lost_at = 0, clock()
        if lost_at is None:
            raise _unreachable(host, environ)
        if clock() - lost_at > _GIVE_UP_S:
            raise RemoteError(
                f"{host}: the connection is lost; the run is not affected",
                f"`sf attach {shown}` opens its console again",
                SSH_FAILED,
            )
        wait_s = _RETRY_S[min(tries, len(_RETRY_S) - 1)]
        tries += 1
        write_line(
            f"{host}: the connection is lost, the run is not affected; trying again in "
            f"{wait_s:g} s, ctrl+c leaves",
            err=True,
        )
        sleep(wait_s)


def _call(ssh: Sequence[str], words: Sequence[str], environ: Mapping[str, str]) -> int:
    # What was written before must come before what the other process writes.
    sys.stdout.flush()
    sys.stderr.flush()
    with subprocess.Popen([*ssh, remote_line(words, environ)], env=dict(environ)) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                # ssh got it too and ends; with a terminal the other end decides what follows.
                continue
    return INTERRUPTED if code < 0 else code


def _keepalive(ssh: Sequence[str], host: str) -> list[str]:
    """Return options that notice a dead link within half a minute, unless the user set others."""
    settings = dict(
        line.split(" ", 1) for line in _printed([*ssh, "-G", host]).splitlines() if " " in line
    )
    if settings.get("serveraliveinterval") != "0":
        return []
    return ["-o", f"ServerAliveInterval={_KEEPALIVE_S}"]


def _checked(host: str, code: int, environ: Mapping[str, str]) -> int:
    """Return a remote exit code; explain those that mean that there is no suitable sf."""
    if code in {_NOT_FOUND, _NOT_EXECUTABLE}:
        command = environ.get(REMOTE_COMMAND, "").strip() or "sf"
        raise RemoteError(
            f"{host}: '{command}' can't be run there",
            f"install sf there, or set {REMOTE_COMMAND} to its full path, such as "
            f"{REMOTE_COMMAND}='~/venv/bin/sf': ssh's shell may have another PATH than a login",
            code,
        )
    if code == _USAGE:
        version = _version_there(host, environ)
        if version and version != f"sf {__version__}":
            write_line(
                f"{host} has {version}, this is sf {__version__}: options may differ", err=True
            )
    return code


def _version_there(host: str, environ: Mapping[str, str]) -> str:
    """Return what `sf --version` prints there; empty if it takes a password to ask."""
    batch = ("-T", "-o", "BatchMode=yes", host)
    return _printed([*ssh_words(environ), *batch, remote_line(["--version"], environ)]).strip()


def _printed(command: Sequence[str]) -> str:
    """Return what a command prints; empty if it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHECK_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _unreachable(host: str, environ: Mapping[str, str]) -> SfError:
    return RemoteError(
        f"{host}: ssh can't connect, or lost the connection (exit {SSH_FAILED})",
        f"try `{environ.get(SSH, '').strip() or 'ssh'} {host} true`; ~/.ssh/config and "
        f"{SSH} decide how it connects",
        SSH_FAILED,
    )
