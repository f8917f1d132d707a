"""The measurements of one stage: probes and drift.

A probe uses the same examples throughout a stage. Results become events and metrics; the stage
decides when to measure, and `watch.py` what they mean for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.prepare import PreparedTask, starts_without_adapter
from sf_tui.engine.probe_plan import (
    NEW_TASK_FLOOR,
    OLD_TASK_FLOOR,
    PROBE_SEED,
    HeldOutRows,
    ProbePlan,
    plan_probes,
)
from sf_tui.engine.probing import Prober
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.profile import StageSpec
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.events import Drift, Probe
from sf_tui.vocabulary.measured import Drop, Score, drop_between, score_in
from sf_tui.vocabulary.metrics import KL, metric_named
from sf_tui.worker.context import RunContext
from sf_tui.worker.danger import DangerWindows
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

Measures = Mapping[str, float]


def drift_cost_tokens(layout: ModelLayout) -> float:
    """Return the cost of measuring drift, in trained tokens of the same model."""
    tensors = sum(len(layer.parameters) for layer in layout.layers)
    return _DRIFT_TOKENS + _DRIFT_PARAMETERS_A_TENSOR * tensors / layout.elements


@dataclass(frozen=True)
class ProbeReport:
    """What a probe shows of a stage's tasks, beside the stage's start.

    Attributes:
        old: the drop of each watched old task.
        own: the drop of the task that the stage trains, negative for a gain; None if unknown.
        own_score: its score on the examples of every probe; None if unknown.
        own_counted: whether its examples were compared one by one.
    """

    old: Mapping[str, Drop]
    own: Drop | None
    own_score: Score | None
    own_counted: bool


class StageProbes:
    """Probes every known task of a stage and compares the results with the stage's start.

    Attributes:
        baseline: each task's measures before the first step, on the probe examples.
        danger: the stage's danger windows.
        plan: the examples of every probe, and the intervals.
        steps: length of the stage in steps.
        report: what the last probe shows; None before the first one of this worker.
    """

    def __init__(self, context: RunContext, spec: StageSpec, known: Sequence[str], steps: int):
        prepared = context.prepared
        self._context = context
        self._stage = spec.name
        # The rows of another program's task may be unknown: it can't be scored.
        names = [
            n
            for n in prepared.tasks
            if (n in known or n == spec.task) and len(prepared.tasks[n].held_out)
        ]
        self._tasks: dict[str, PreparedTask] = {name: prepared.tasks[name] for name in names}
        self._own = prepared.tasks[spec.task]
        self._old = [n for n in known if prepared.tasks[n].watch and n != spec.task]
        self.danger = DangerWindows(context, spec.name, steps, has_old_tasks=bool(self._old))
        self.steps = steps
        self.baseline: dict[str, Measures] = {}
        self.report: ProbeReport | None = None
        self._right: dict[str, np.ndarray] = {}
        self._right_now: dict[str, np.ndarray] = {}
        self._lost: dict[str, list[int]] = {}
        self._drift: DriftMeter | None = None

        tokens_a_step = self._own.mean_length * spec.train.batch_size
        settings = context.profile.probe
        self.plan: ProbePlan = plan_probes(
            settings,
            {name: self._rows(name) for name in self._tasks},
            tokens_a_step=tokens_a_step,
            fixed_cost=drift_cost_tokens(prepared.layout),
            window=self.danger.at_start,
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
            ranks=prepared.ranks,
            reference=prepared.reference,
        )

    def _rows(self, name: str) -> HeldOutRows:
        rows = self._tasks[name].held_out
        if name in self._old:
            return HeldOutRows(rows, OLD_TASK_WEIGHT, OLD_TASK_FLOOR)
        return HeldOutRows(rows, floor=NEW_TASK_FLOOR if name == self._own.name else 0)

    @property
    def has_old_tasks(self) -> bool:
        """Whether any earlier task is watched."""
        return bool(self._old)

    @property
    def old_tasks(self) -> Sequence[str]:
        """The watched earlier tasks."""
        return self._old

    @property
    def right_at_start(self) -> dict[str, str]:
        """Which held-out examples were right before the first step, a bit each, in hexadecimal.

        Only for tasks whose metric counts whole examples.
        """
        return _packed(self._right)

    @property
    def right_now(self) -> dict[str, str]:
        """The same at the last probe; empty unless that one scored the whole held-out splits."""
        return _packed(self._right_now)

    def lost_rows(self, task: str) -> list[Encoded]:
        """Return the examples that were right at the stage's start and wrong in the last probe."""
        rows = self._tasks[task].held_out
        return [rows[at] for at in self._lost.get(task, ())]

    def restore(
        self,
        baseline: Mapping[str, Measures],
        right_at_start: Mapping[str, str],
        right_now: Mapping[str, str],
    ) -> None:
        """Restore the stage's start, and the results of single examples, from a checkpoint."""
        self.baseline = dict(baseline)
        self._right = self._unpacked(right_at_start)
        self._right_now = self._unpacked(right_now)

    def _unpacked(self, texts: Mapping[str, str]) -> dict[str, np.ndarray]:
        found = {}
        for name, task in self._tasks.items():
            bits = np.frombuffer(bytes.fromhex(texts.get(name, "")), np.uint8)
            # Another length: the data was changed since, and the change accepted.
            if len(bits) == -(-len(task.held_out) // 8):
                found[name] = np.unpackbits(bits)[: len(task.held_out)].astype(bool)
        return found

    def measure_from(self, meter: DriftMeter) -> None:
        """Set the meter that measures drift from the stage's start."""
        self._drift = meter

    def is_due(self, step: int) -> bool:
        """Return whether a probe is due after a step."""
        inside = self.danger.cover(step)
        return step % (self.plan.every_in_window if inside else self.plan.every) == 0

    def probe_start(self) -> None:
        """Probe before the first step: every later probe is compared with this one."""
        adapters = self._context.prepared.layout.adapters
        # A new adapter of a kind that is no identity is not the model that the stage begins with.
        without = adapters and starts_without_adapter(self._context.profile, self._stage)
        with adapters.off() if adapters and without else nullcontext():
            self._probe(0, full=True, starts=True)

    def probe(self, step: int, *, full: bool) -> dict[str, float | None]:
        """Probe, write the events, and return the metrics that rules may watch.

        Args:
            step: optimizer steps done in the stage.
            full: use the whole held-out splits; the event then also has the measures on the usual
                probe examples.

        Returns:
            `drop`, `kl`, `old_accuracy`, `new_accuracy`; None if undefined.
        """
        return self._probe(step, full=full, starts=False)

    def _probe(self, step: int, *, full: bool, starts: bool) -> dict[str, float | None]:
        context, plan = self._context, self.plan.examples
        chosen = {
            name: range(len(task.held_out)) if full else plan[name]
            for name, task in self._tasks.items()
        }
        # One call for all tasks, so that a forward pass can combine rows of several tasks.
        result = self._prober.probe(
            [task.held_out[at] for name, task in self._tasks.items() for at in chosen[name]]
        )
        accuracy: dict[str, Measures] = {}
        subset: dict[str, Measures] = {}
        flips: dict[str, tuple[int, int]] = {}
        start = 0
        self._right_now = {}
        for name, task in self._tasks.items():
            places = range(start, start + len(chosen[name]))
            start = places.stop
            accuracy[name] = subset[name] = result.measures(places)
            if full:
                subset[name] = result.measures([places[at] for at in plan[name]])
            right = result.right(task.metric)
            if right is None:
                continue
            now = right[places.start : places.stop]
            if starts:
                self._right[name] = now
            if full:
                self._right_now[name] = now
            if name in self._right:
                then = self._right[name][list(chosen[name])]
                flips[name] = int((then & ~now).sum()), int((now & ~then).sum())
                self._lost[name] = [
                    at for at, gone in zip(chosen[name], then & ~now, strict=True) if gone
                ]
        if starts:
            self.baseline = subset
        drop = self._largest_drop(subset)
        if not (starts and context.resume_log.has_event("probe", self._stage, "0")):
            context.log_event(
                Probe(
                    stage=self._stage,
                    step=step,
                    metrics=accuracy,
                    full=full,
                    drop=drop,
                    subset=subset if full else {},
                    flips=flips,
                )
            )
        context.accuracy, context.probed_at = accuracy, step
        self.report = self._compare(accuracy, subset, flips, full=full)
        return {
            "drop": drop,
            KL.name: max((m[KL.name] for m in subset.values() if KL.name in m), default=None),
            "old_accuracy": self._lowest(accuracy, self._old),
            "new_accuracy": self._lowest(accuracy, [self._own.name]),
        }

    def _compare(
        self,
        accuracy: Mapping[str, Measures],
        subset: Mapping[str, Measures],
        flips: Mapping[str, tuple[int, int]],
        *,
        full: bool,
    ) -> ProbeReport:
        drops: dict[str, Drop] = {}
        own = self._own.name
        for name in (*self._old, *([own] if own in self._tasks else [])):
            metric = metric_named(self._tasks[name].metric)
            before = score_in(self.baseline.get(name), metric, full=False)
            now = score_in(subset[name], metric, full=False)
            if name in flips:
                now = score_in(accuracy[name], metric, full=full)
                if full:
                    right = self._right[name]
                    before = Score(float(right.mean()), len(right), metric, full=True)
            if before is not None and now is not None:
                drops[name] = drop_between(before, now, flips.get(name))
        return ProbeReport(
            old={name: drops[name] for name in self._old if name in drops},
            own=drops.get(own),
            own_score=score_in(subset.get(own), metric_named(self._own.metric), full=False),
            own_counted=own in flips,
        )

    def say_unknown_tasks(self) -> None:
        """Write an alert for each old task that the model does not know at the stage's start."""
        warn_of_unknown_tasks(self._context, self._stage, self._old)

    def drift(self, step: int) -> float:
        """Measure drift, write the event, and return the largest layer's relative update."""
        if self._drift is None or not self._context.ranks.runs_whole:
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
            if name in accuracy and metric_named(self._tasks[name].metric).is_share
        ]
        return min(shares, default=None)


def _packed(right: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: np.packbits(bits).tobytes().hex() for name, bits in right.items()}
