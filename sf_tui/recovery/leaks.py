"""What no neighbor of a recovery test may teach: the facts that the test asks for.

The start model knows them all. Asked about a name made of a held-out person's first two words, it
answers with that person's facts. A model trained towards such answers learns again what the test
should find still there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sf_tui.neighbors.anatomy import Tokens, anatomize, prompts_of
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.neighbors.propose import LeftOut
from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TELLING = 2
"""How many times likelier a word must make an answer to reveal it. Every word occurs with a common
answer (yes, a class's name); a name occurs with its own."""


class Leaks:
    """The subjects that a test asks about, and which of their words reveal which answers.

    Attributes:
        subjects: what no neighbor prompt may contain: over half of a held-out subject, in a row.
    """

    def __init__(
        self,
        held_out: Sequence[Encoded],
        others: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase,
        *,
        longest: int,
    ) -> None:
        """Analyze the held-out examples.

        Args:
            held_out: examples that a test scores on.
            others: further ones of their task, to separate slot and template.
            tokenizer: the model's.
            longest: tokens after which a neighbor's answer is cut.
        """
        self._silent = frozenset({NO_LOSS, *tokenizer.all_special_ids})
        self._longest = longest
        anatomy = anatomize(prompts_of([*held_out, *others]), tokenizer)
        subjects = {prompt.tokens: prompt.subject for prompt in anatomy.prompts}
        asked = [(subjects.get(_prompt_of(row), ()), self._answer_of(row)) for row in held_out]
        self.subjects = LeftOut({part for subject, _ in asked for part in _most_of(subject)})
        self._telling = _telling_words(asked)

    def without(self, bank: TeacherCache) -> TeacherCache:
        """Return a bank without the rows that answer what the test asks for.

        Such a row has a held-out example's answer, and its prompt contains a word of that
        example's subject that makes the answer likelier.
        """
        return bank.part([at for at, row in enumerate(bank.rows) if not self._tells(row)])

    def _tells(self, row: Encoded) -> bool:
        telling = self._telling.get(self._answer_of(row), frozenset())
        return not telling.isdisjoint(_prompt_of(row))

    def _answer_of(self, row: Encoded) -> Tokens:
        answer = [token for token in row.labels if token not in self._silent]
        return tuple(answer[: self._longest])


def _prompt_of(row: Encoded) -> Tokens:
    start = next((at for at, label in enumerate(row.labels) if label != NO_LOSS), 0)
    return tuple(row.input_ids[:start])


def _most_of(subject: Tokens) -> list[Tokens]:
    """Return every run of a subject's tokens that is more than half of it."""
    length = len(subject) // 2 + 1
    return [subject[at : at + length] for at in range(len(subject) - length + 1)]


def _telling_words(asked: Sequence[tuple[Tokens, Tokens]]) -> dict[Tokens, frozenset[int]]:
    """Return for each answer the words of subjects that reveal it."""
    words, answers = Counter[int](), Counter[Tokens]()
    together = Counter[tuple[Tokens, int]]()
    for subject, answer in asked:
        answers[answer] += 1
        for word in set(subject):
            words[word] += 1
            together[answer, word] += 1
    found: dict[Tokens, set[int]] = {}
    for (answer, word), count in together.items():
        if count * len(asked) > _TELLING * words[word] * answers[answer]:
            found.setdefault(answer, set()).add(word)
    return {answer: frozenset(those) for answer, those in found.items()}
