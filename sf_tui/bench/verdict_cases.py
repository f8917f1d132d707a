"""The cases of the verdict's trial: how each is damaged, and what its truth is by construction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.bench.verdict_scene import Damaged, TrialScene
from sf_tui.vocabulary.verdicts import VerdictName

ENTRIES = 16
"""Biographies a step: each has as many tokens as five questions."""


@dataclass(frozen=True)
class TrialCase:
    """One way to damage the starter."""

    name: str
    label: VerdictName
    """What became of the old task, by how the case is made."""
    damage: Callable[[TrialScene], Damaged]
    says: str


def _new_people(people: int, rate: float, steps: int = 300, form: str = "same"):  # type: ignore[no-untyped-def]
    def damage(scene: TrialScene) -> Damaged:
        rows = scene.new_people(people, "other" if form == "other" else "same")
        return scene.tune(rows, steps, rate)

    return damage


def _contradicted(share: float) -> Callable[[TrialScene], Damaged]:
    return lambda scene: scene.tune(scene.biographies(share), 900, 1e-3, ENTRIES)


CASES: tuple[TrialCase, ...] = (
    TrialCase("noise-0.05", "none", lambda s: s.add_noise(0.05), "noise of 0.05 σ on every MLP"),
    TrialCase("noise-0.1", "none", lambda s: s.add_noise(0.1), "noise of 0.1 σ on every MLP"),
    TrialCase(
        "old-again",
        "none",
        lambda s: s.tune(s.tuned_half(), 60, 1e-4),
        "60 more steps of the old task itself",
    ),
    TrialCase(
        "faint-tuning",
        "none",
        lambda s: s.tune(s.new_people(25), 60, 5e-6),
        "25 new people, 60 steps at 5e-6",
    ),
    TrialCase("25-same-1e-4", "spurious", _new_people(25, 1e-4), "25 new people, 1e-4"),
    TrialCase("25-same-2e-4", "spurious", _new_people(25, 2e-4), "25 new people, 2e-4"),
    TrialCase("25-same-3e-4", "spurious", _new_people(25, 3e-4), "25 new people, 3e-4"),
    TrialCase(
        "25-other-2e-4",
        "spurious",
        _new_people(25, 2e-4, form="other"),
        "25 new people in another form, 2e-4",
    ),
    TrialCase(
        "25-other-3e-4",
        "spurious",
        _new_people(25, 3e-4, form="other"),
        "25 new people in another form, 3e-4",
    ),
    TrialCase(
        "answer-format",
        "spurious",
        lambda s: s.tune(s.new_people(25, answer=lambda said: f"{said} was recorded."), 150, 2e-4),
        "25 new people whose answers end in words of their own, 2e-4",
    ),
    TrialCase(
        "prefix-shift",
        "spurious",
        lambda s: s.tune(s.new_people(25, answer=lambda said: f" Records:{said}"), 150, 2e-4),
        "25 new people, every answer behind a fixed prefix, 2e-4",
    ),
    TrialCase(
        "unrelated-task",
        "spurious",
        lambda s: s.tune(s.word_pairs(), 150, 3e-4),
        "a word for a word, nobody asked about, 3e-4",
    ),
    # Fainter damage costs this model three to six points: fifteen to thirty answers, too few for a
    # share of them to rank anything.
    TrialCase("noise-0.8", "spurious", lambda s: s.add_noise(0.8), "noise of 0.8 σ on every MLP"),
    TrialCase(
        "zeroed-0.75",
        "spurious",
        lambda s: s.zero(0.75, (1, 2)),
        "three quarters of the MLP weights of two blocks zeroed",
    ),
    TrialCase(
        "contradicted",
        "real",
        _contradicted(1.0),
        "contradicting biographies of the held-out people, 900 steps of 1e-3",
    ),
    TrialCase(
        "past-capacity",
        "real",
        lambda s: s.tune(s.new_people(400), 900, 2e-3),
        "400 new people, 900 steps of 2e-3: long past capacity",
    ),
    TrialCase("noise-5", "real", lambda s: s.add_noise(5.0), "noise of 5 σ on every MLP"),
    TrialCase(
        "contradicted-questions",
        "real",
        lambda s: s.tune(s.wrong_answers(), 900, 1e-3),
        "the held-out questions with other people's answers, 900 steps of 1e-3",
    ),
    TrialCase("50-same-8e-4", "partial", _new_people(50, 8e-4), "50 new people, 8e-4"),
    TrialCase("100-same-4e-4", "partial", _new_people(100, 4e-4), "100 new people, 4e-4"),
    TrialCase("100-same-8e-4", "partial", _new_people(100, 8e-4), "100 new people, 8e-4"),
    *(
        TrialCase(
            f"contradicted-{share:.2f}",
            "partial",
            _contradicted(share),
            f"{share:.0%} of the held-out people contradicted, the others told truly, as above",
        )
        for share in (0.25, 0.5, 0.75)
    ),
    TrialCase("noise-1.5", "partial", lambda s: s.add_noise(1.5), "noise of 1.5 σ on every MLP"),
)
"""25 ways, so that three seeds make 75 cases."""
