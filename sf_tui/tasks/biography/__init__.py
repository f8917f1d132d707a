"""The paper's synthetic experiment: invented people, texts about them and questions.

Everything is drawn from seeds and is the same on every machine. Knows nothing of models.
"""

from sf_tui.tasks.biography.build import TASKS, biography_task
from sf_tui.tasks.biography.language import Form, build_tokenizer
from sf_tui.tasks.biography.world import BiographySettings, Settings
from sf_tui.tasks.biography.write import write_biography

__all__ = [
    "TASKS",
    "BiographySettings",
    "Form",
    "Settings",
    "biography_task",
    "build_tokenizer",
    "write_biography",
]
