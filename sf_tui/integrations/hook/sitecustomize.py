"""Adds sf's callback to every transformers Trainer of a command that `sf exec` runs.

`sf exec` puts this folder first on PYTHONPATH, so each Python of the command runs this file when it
starts. It waits for `transformers.trainer` and imports nothing else; sf itself is imported when a
Trainer is created. Without the variable SF_EXEC it does nothing but run the sitecustomize that it
hides. Beside the file that SF_EXEC names it leaves marks, which tell `sf exec` how far it came.

The interpreter is the command's own: standard library only, and no newer syntax than Python 3.8's.
"""

import os
import sys

# No `from __future__`, no `typing`: each would be one more module in every Python of the command.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TRAINER = "transformers.trainer"
INTEGRATIONS = "transformers.integrations.integration_utils"


def mark(kind: str, text: str = "") -> None:
    """Write a mark once; a folder that is not there (another machine) is no error."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        handle = os.open(os.environ["SF_EXEC"] + "." + kind, flags, 0o600)
    except OSError:
        return
    try:
        os.write(handle, text.encode("utf-8", "backslashreplace"))
    finally:
        os.close(handle)


def give_up(reason: str) -> None:
    """Record why this process is not watched, and say it now: the end may be days away."""
    mark("failed", f"{sys.executable}\n{reason}")
    if os.environ.get("RANK", "0") == "0":
        printable = reason.encode("ascii", "backslashreplace").decode()
        sys.stderr.write(f"sf: this training is not watched: {printable}\n")


def new_callback() -> "Any":
    """Return sf's callback; one that does nothing if sf can't be imported here."""
    from transformers.trainer_callback import TrainerCallback

    mark("trainer")
    try:
        from sf_tui.integrations import SfCallback

        return SfCallback.from_environment()
    except Exception as error:
        # Whatever is wrong with sf in this environment, the training goes on as without it.
        give_up(f"{type(error).__name__}: {error}")
        return TrainerCallback()


class NewCallback:
    """What stands in `DEFAULT_CALLBACKS`: an object of sf's own class for each Trainer."""

    def __new__(cls) -> "Any":
        """Return the callback of one Trainer."""
        return new_callback()


def add_callback(trainer: "Any") -> None:
    """Add the callback to those of every Trainer, and make `report_to: sf` a known name."""
    version = getattr(sys.modules.get("transformers"), "__version__", "?")
    mark("imported", f"{sys.executable}\n{version}")
    callbacks = getattr(trainer, "DEFAULT_CALLBACKS", None)
    if not isinstance(callbacks, list):
        give_up(f"transformers {version} has no list DEFAULT_CALLBACKS in {TRAINER}")
        return
    callbacks.append(NewCallback)
    known = getattr(sys.modules.get(INTEGRATIONS), "INTEGRATION_TO_CALLBACK", None)
    base = getattr(sys.modules.get("transformers.trainer_callback"), "TrainerCallback", None)
    if isinstance(known, dict) and base is not None:
        # The default callback watches already; a second one would watch the same training.
        known["sf"] = base


class TrainerFinder:
    """Waits on `sys.meta_path` for `transformers.trainer`, then leaves."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return the module's own spec with a loader that adds the callback after loading."""
        if name != TRAINER:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                self._extend(spec)
                return spec
        return None

    def _extend(self, spec: "Any") -> None:
        execute = spec.loader.exec_module

        def exec_module(module: "Any") -> None:
            execute(module)
            add_callback(module)

        # Set on the object, so that the loader keeps its class.
        spec.loader.exec_module = exec_module


def run_hidden() -> None:
    """Run the sitecustomize that this one hides, if there is one, in its place."""
    here = os.path.dirname(os.path.abspath(__file__))
    ours = sys.modules.pop("sitecustomize")
    places = [place for place, path in enumerate(sys.path) if os.path.abspath(path) == here]
    for place in reversed(places):
        del sys.path[place]
    try:
        # An import of its own, because importlib's functions take 5 ms to import.
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = ours
    finally:
        # Back again: some launchers hand on sys.path as PYTHONPATH.
        for place in places:
            sys.path.insert(place, here)


if __name__ == "sitecustomize":
    if os.environ.get("SF_EXEC"):
        mark("started")
        sys.meta_path.insert(0, TrainerFinder())
    run_hidden()
