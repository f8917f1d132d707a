"""The paper's synthetic experiment: made-up people, what is told of them and what is asked.

Everything is drawn from seeds, on any machine the same. What a model makes of it is not known
here.
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
