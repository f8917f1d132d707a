"""Which of the start model's neighbor prompts are named as tasks at risk.

Small models and models of another field rank fragments first; those are no tasks, and naming one
would send the operator to look for it.
"""

from __future__ import annotations

from sf_tui.printable import printable
from sf_tui.vocabulary.declared import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk

LEAST_LIKELIHOOD = -3.0
"""Mean log-likelihood of a question's tokens, in nats, from which it is named.

At 135 M parameters a real neighbor ("What is the capital of France?") has -1.6 and the next,
senseless one -3.1; the fragments of models of a few million parameters have -3.6 to -15.
"""


def questions_at_risk(event: TasksAtRisk) -> list[str]:
    """Return a whole example question of each other task that is likely, the likeliest first.

    On one line, with control characters escaped.
    """
    questions = (" ".join(group.example.split()) for group in event.groups if _is_named(group))
    return [printable(question, multiline=False) for question in questions if question]


def _is_named(group: RiskGroupRecord) -> bool:
    likely = group.likelihood is not None and group.likelihood >= LEAST_LIKELIHOOD
    return likely and group.kind == "other_template"
