"""The measurements of one stage: probes, drift, and the danger window.

A probe uses the same examples throughout a stage. Results become events and metrics; the stage
decides when to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.prepare import PreparedTask
from sf_tui.engine.probing import HeldOutRows, Prober, plan_probes
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.profile import StageSpec
from sf_tui.vocabulary.events import Danger, Drift, Probe
from sf_tui.vocabulary.metrics import metric_named
from sf_tui.worker.context import RunContext
from sf_tui.worker.unknown_tasks import warn_of_unknown_tasks

# Cost of measuring drift in a probe, in trained tokens of the same model. It reads every weight
# twice, which takes as long as `_DRIFT_TOKENS` tokens in a model of any size. Python and the file
# reader add a cost per tensor, which matters only in a small model. Measured by `sf bench overhead`
# on one core: 40 on the starter (1 M parameters, 52 tensors), 15 on a model with 135 M parameters
# (272 tensors).
_DRIFT_TOKENS = 15.0
_DRIFT_PARAMETERS_A_TENSOR = 500_000

# Old tasks are lost gradually, and decisions depend on their curves; the new task is learned within
# a few steps, so a coarse curve is enough.
OLD_TASK_WEIGHT = 3

# Not the run's seed: runs on the same data must use the same examples, so that their curves are
# comparable across seeds and strategies.
PROBE_SEED = 0

Measures = Mapping[str, float]


def drift_cost_tokens(layout: ModelLayout) -> float:
    """Return the cost of measuring drift, in trained tokens of the same model."""
    tensors = sum(len(layer.parameters) for layer in layout.layers)
    return _DRIFT_TOKENS + _DRIFT_PARAMETERS_A_TENSOR * tensors / layout.elements


class StageProbes:
    """Probes every known task of a stage and compares the results with the stage's start.

    Attributes:
        baseline: each task's measures before the first step, on the probe examples.
    """

    def __init__(self, context: RunContext, spec: StageSpec, known: Sequence[str], steps: int):
        prepared = context.prepared
        self._context = context
        self._stage = spec.name
        names = [n for n in prepared.tasks if n in known or n == spec.task]
        self._tasks: dict[str, PreparedTask] = {name: prepared.tasks[name] for name in names}
        self._own = prepared.tasks[spec.task]
        self._old = [n for n in known if prepared.tasks[n].watch and n != spec.task]
        self.window = min(context.profile.window.steps, steps) if self._old else 0
        self.baseline: dict[str, Measures] = {}
        self._drift: DriftMeter | None = None

        tokens_a_step = self._own.mean_length * spec.train.batch_size
        settings = context.profile.probe
        self._plan = plan_probes(
            settings,
            {
                name: HeldOutRows(task.held_out, OLD_TASK_WEIGHT if name in self._old else 1)
                for name, task in self._tasks.items()
            },
            tokens_a_step=tokens_a_step,
            fixed_cost=drift_cost_tokens(prepared.layout),
            window=self.window,
            steps=steps,
            seed=PROBE_SEED,
        )
        longest = max(len(row.input_ids) for task in self._tasks.values() for row in task.held_out)
        self._prober = Prober(
            prepared.loaded.model,
            prepared.compute,
            pad_id=prepared.loaded.pad_id,
            batch_tokens=max(int(self._own.mean_length * spec.train.micro_batch), longest),
            batch_size=settings.batch_size,
        )

    @property
    def has_old_tasks(self) -> bool:
        """Whether any earlier task is watched."""
        return bool(self._old)

    def measure_from(self, meter: DriftMeter) -> None:
        """Set the meter that measures drift from the stage's start."""
        self._drift = meter

    def enter_danger_window(self) -> None:
        """Log once that the stage has entered its danger window, if it has one."""
        if self.window:
            self._log_danger(0, "entered")

    def watch_danger(self, step: int, drop: float | None) -> None:
        """Write an alert if the drop exceeds its bound, and log the end of the danger window.

        Args:
            step: optimizer steps done.
            drop: largest drop of any watched old task at this step; None without a probe.
        """
        context = self._context
        bound = context.profile.window.alert_drop
        if drop is not None and drop > bound:
            context.alert(
                "warn",
                "drop",
                f"an old task has lost {drop:.2f} since the stage began (bound {bound:.2f}); "
                "freeze, anchor, diagnose or roll back",
                self._stage,
                step,
            )
        if step == self.window:
            self._log_danger(step, "left")

    def _log_danger(self, step: int, state: str) -> None:
        if not self._context.resume_log.has_event("danger", self._stage, state):
            self._context.log_event(
                Danger(stage=self._stage, step=step, state=state, window=self.window)
            )

    def is_due(self, step: int) -> bool:
        """Return whether a probe is due after a step."""
        settings = self._context.profile.probe
        every = settings.every_in_window if step <= self.window else settings.every
        return step % every == 0

    def probe(self, step: int, *, full: bool) -> dict[str, float | None]:
        """Probe, write the events, and return the metrics that rules may watch.

        Args:
            step: optimizer steps done in the stage.
            full: use the whole held-out splits; the event then also has the measures on the usual
                probe examples.

        Returns:
            `drop`, `old_accuracy`, `new_accuracy`; None if undefined.
        """
        chosen = {
            name: range(len(task.held_out)) if full else self._plan[name]
            for name, task in self._tasks.items()
        }
        # One call for all tasks, so that a forward pass can combine rows of several tasks.
        result = self._prober.probe(
            [task.held_out[at] for name, task in self._tasks.items() for at in chosen[name]]
        )
        accuracy: dict[str, Measures] = {}
        subset: dict[str, Measures] = {}
        start = 0
        for name in self._tasks:
            places = range(start, start + len(chosen[name]))
            start = places.stop
            accuracy[name] = subset[name] = result.measures(places)
            if full:
                subset[name] = result.measures([places[at] for at in self._plan[name]])
        if step == 0:
            self.baseline = subset
        drop = self._largest_drop(subset)
        if not (step == 0 and self._context.resume_log.has_event("probe", self._stage, "0")):
            self._context.log_event(
                Probe(
                    stage=self._stage,
                    step=step,
                    metrics=accuracy,
                    full=full,
                    drop=drop,
                    subset=subset if full else {},
                )
            )
        self._context.accuracy = accuracy
        return {
            "drop": drop,
            "old_accuracy": self._lowest(accuracy, self._old),
            "new_accuracy": self._lowest(accuracy, [self._own.name]),
        }

    def say_unknown_tasks(self) -> None:
        """Write an alert for each old task that the model does not know at the stage's start."""
        warn_of_unknown_tasks(self._context, self._stage, self._old)

    def drift(self, step: int) -> float:
        """Measure drift, write the event, and return the largest layer's relative update."""
        if self._drift is None:
            return 0.0
        layers = self._drift.measure()
        self._context.log_event(Drift(self._stage, step, layers))
        return max(layer.relative_update or 0.0 for layer in layers)

    def score(self) -> float | None:
        """Return the mean of the lowest old score and the new score; None without any score."""
        accuracy = self._context.accuracy
        parts = [self._lowest(accuracy, names) for names in (self._old, [self._own.name]) if names]
        known = [part for part in parts if part is not None]
        return sum(known) / len(known) if known else None

    def _largest_drop(self, subset: dict[str, Measures]) -> float | None:
        drops = []
        for name in self._old:
            metric = metric_named(self._tasks[name].metric)
            drops.append(metric.drop(self.baseline[name][metric.name], subset[name][metric.name]))
        return max(drops, default=None)

    def _lowest(self, accuracy: Mapping[str, Measures], names: Sequence[str]) -> float | None:
        shares = [
            accuracy[name][self._tasks[name].metric]
            for name in names
            if metric_named(self._tasks[name].metric).is_share
        ]
        return min(shares, default=None)
