"""What a stage's start model is asked: likelihoods, samples, greedy answers, answers' chances.

Reads a model and never changes it; every draw comes from a generator of its own, so that training
beside it goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.forward import AnswerForward, LastForward
from sf_tui.neighbours.anatomy import Tokens
from sf_tui.neighbours.answer_ends import answer_ends
from sf_tui.neighbours.kept_prefix import SHORTEST, KeptPrefix, keep_prefix
from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sf_tui.engine.compute import ComputeSetting


# A large vocabulary makes logits the largest thing by far: half a gigabyte of them in a pass.
_MOST_LOGITS = 2**27


class StartModel:
    """The model as it stands before a stage.

    Attributes:
        forwarded: tokens that it was given so far, for the cost that is told.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        compute: ComputeSetting,
        *,
        pad_id: int,
        pass_tokens: int = 4096,
        between: Callable[[], None] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: a causal language model with the start weights in it.
            tokenizer: its tokenizer.
            compute: device and precision.
            pad_id: token id for padding.
            pass_tokens: tokens with padding of one forward pass; fewer with a large vocabulary.
            between: called before each pass; what it raises ends the asking, with nothing changed.
        """
        self.tokenizer = tokenizer
        self.forwarded = 0
        self._model = model
        self._compute = compute
        self._pad_id = pad_id
        self._between = between
        self._answers = AnswerForward(model)
        self._last = LastForward(model)
        special = set(tokenizer.all_special_ids) | {pad_id}
        embedding: Any = model.get_input_embeddings()
        self.embeddings: torch.Tensor = embedding.weight
        self._pass_tokens = min(pass_tokens, max(_MOST_LOGITS // len(self.embeddings), 1))
        # Rows beyond the tokenizer's vocabulary are padding of the matrix: no text holds them.
        known = set(tokenizer.get_vocab().values()) - special
        self.words = np.array(sorted(i for i in known if i < len(self.embeddings)), dtype=np.int64)
        """Token ids that text is made of: the vocabulary without special tokens."""
        unwanted = torch.ones(len(self.embeddings), dtype=torch.bool)
        unwanted[torch.from_numpy(self.words)] = False
        self._unwanted = unwanted.to(compute.device)
        self._ends = answer_ends(model, tokenizer)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._between is not None:
            self._between()
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad(), self._compute.autocast():
                yield
        finally:
            self._model.train(was_training)

    def next_word_log_probabilities(self, prompt: Tokens) -> torch.Tensor:
        """Return what comes next at every position of one prompt.

        Returns:
            (length, vocabulary) float32 on the CPU; row i predicts the token at i + 1. Special
            tokens have -inf.
        """
        with self._asking():
            ids = torch.tensor([prompt], device=self._compute.device)
            self.forwarded += len(prompt)
            logits = self._model(input_ids=ids, use_cache=False).logits[0].float()
        logits = logits[:, : len(self.embeddings)].masked_fill(self._unwanted, -torch.inf)
        return torch.log_softmax(logits, -1).cpu()

    def likelihoods(self, prompts: Sequence[Tokens], first: int, behind: int) -> np.ndarray:
        """Return the log-likelihood of each prompt's text.

        Args:
            prompts: whole prompts.
            first: tokens of the format's opening, which are given.
            behind: tokens of the format's closing, which are left out.

        Returns:
            (prompts,) sums over the text's tokens, in nats. A text that opens the row has no token
            before it to predict its first; that one is left out.
        """
        # Nothing behind a text has a say in its likelihood.
        texts = [prompt[: len(prompt) - behind] for prompt in prompts]
        given = max(first, 1)
        # The opening's last token stays with the text, whose first one it predicts.
        opening = texts[0][: given - 1] if texts else ()
        if len(opening) >= SHORTEST and all(text[: given - 1] == opening for text in texts):
            kept = self._keep(opening)
            if kept is not None:
                return self._likelihoods_behind(kept, texts)
        return self._likelihoods_of(texts, given)

    def keeps_opening(self, length: int) -> bool:
        """Tell whether an opening of so many tokens is given to this model once, not every time."""
        return length > SHORTEST and self._keep((self._ends[0],)) is not None

    def _keep(self, opening: Tokens) -> KeptPrefix | None:
        with self._asking():
            self.forwarded += len(opening)
            return keep_prefix(self._model, opening, self._compute.device)

    def _likelihoods_behind(self, kept: KeptPrefix, texts: Sequence[Tokens]) -> np.ndarray:
        """Return them for texts whose opening the model has been given.

        Right padding needs no mask: what comes later has no say.
        """
        model: Any = self._model
        found = np.zeros(len(texts))
        for places in self._passes([len(text) for text in texts]):
            rows = [texts[at][kept.length :] for at in places]
            width = max(len(row) for row in rows)
            if width < 2:
                continue
            ids = torch.full((len(rows), width), self._pad_id)
            scored = torch.zeros((len(rows), width - 1))
            for at, row in enumerate(rows):
                ids[at, : len(row)] = torch.tensor(row)
                scored[at, : len(row) - 1] = 1
            with self._asking():
                self.forwarded += sum(len(row) for row in rows)
                ids = ids.to(self._compute.device)
                out = model(input_ids=ids, use_cache=True, **kept.for_rows(len(rows)))
                logits = out.logits[:, :-1]
                losses = torch.nn.functional.cross_entropy(
                    logits.float().transpose(1, 2), ids[:, 1:], reduction="none"
                )
            found[places] = -(losses.cpu().double() * scored).sum(1).numpy()
        return found

    def _likelihoods_of(self, texts: Sequence[Tokens], given: int) -> np.ndarray:
        rows = []
        for text in texts:
            labels = [NO_LOSS] * min(given, len(text)) + list(text[given:])
            rows.append(Encoded(list(text), labels))
        found = np.zeros(len(rows))
        for places in self._passes([len(row.input_ids) for row in rows]):
            batch = collate([rows[at] for at in places], self._pad_id)
            counts = [rows[at].answer_tokens for at in places]
            if not sum(counts):
                continue
            with self._asking():
                self.forwarded += batch.tokens
                logits, targets = self._answers(batch.to(self._compute.device))
                losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            owner = np.repeat(np.arange(len(places)), counts)
            found[places] = -np.bincount(
                owner, weights=losses.cpu().double().numpy(), minlength=len(places)
            )
        return found

    def fill(
        self, prompts: Sequence[Tokens], spans: Sequence[tuple[int, int]], seed: int
    ) -> list[Tokens]:
        """Return each prompt with one span drawn anew from the model's own next-token chances.

        Args:
            prompts: whole prompts.
            spans: for each, the first position to draw and the one behind the last.
            seed: decides the draws.
        """
        generator = torch.Generator().manual_seed(seed)
        found: list[Tokens] = [()] * len(prompts)
        shapes: dict[tuple[int, int, int], list[int]] = {}
        for at, (prompt, span) in enumerate(zip(prompts, spans, strict=True)):
            # Position 0 has nothing before it to be drawn from.
            shapes.setdefault((max(span[0], 1), span[1], len(prompt)), []).append(at)
        for (start, end, _), members in sorted(shapes.items()):
            size = max(self._pass_tokens // max(end, 1), 1)
            for begin in range(0, len(members), size):
                part = members[begin : begin + size]
                ids = torch.tensor([prompts[at][:start] for at in part])
                for _ in range(start, end):
                    with self._asking():
                        self.forwarded += ids.numel()
                        logits = self._last(ids.to(self._compute.device))
                        logits = logits[:, : len(self.embeddings)]
                    chances = torch.softmax(logits.masked_fill(self._unwanted, -torch.inf), -1)
                    drawn = torch.multinomial(chances.cpu(), 1, generator=generator)
                    ids = torch.cat([ids, drawn], 1)
                for at, row in zip(part, ids.tolist(), strict=True):
                    found[at] = (*row, *prompts[at][end:])
        return found

    def answer(self, prompts: Sequence[Tokens], longest: int) -> list[Tokens]:
        """Return the model's greedy answer to each prompt.

        Args:
            prompts: whole prompts.
            longest: tokens after which an answer without an end is cut.

        Returns:
            For each prompt its answer, with the end token where the model set one.
        """
        found: list[Tokens] = [()] * len(prompts)
        lengths = [len(prompt) + longest for prompt in prompts]
        for places in self._passes(lengths):
            width = max(len(prompts[at]) for at in places)
            ids = np.full((len(places), width), self._pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, at in enumerate(places):
                ids[row, width - len(prompts[at]) :] = prompts[at]
                mask[row, width - len(prompts[at]) :] = 1
            model: Any = self._model
            with self._asking():
                self.forwarded += sum(lengths[at] for at in places)
                out = model.generate(
                    input_ids=torch.from_numpy(ids).to(self._compute.device),
                    attention_mask=torch.from_numpy(mask).to(self._compute.device),
                    max_new_tokens=longest,
                    do_sample=False,
                    # What a model's own generation_config asks for would make it no greedy answer.
                    num_beams=1,
                    repetition_penalty=1.0,
                    no_repeat_ngram_size=0,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    eos_token_id=list(self._ends),
                    pad_token_id=self._pad_id,
                    use_cache=True,
                )
            for row, at in zip(out[:, width:].tolist(), places, strict=True):
                end = next((i for i, token in enumerate(row) if token in self._ends), len(row))
                found[at] = tuple(row[: end + 1])
        return found

    def answer_chances(
        self, rows: Sequence[Encoded], top_k: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the most likely tokens at every answer position of some rows.

        Args:
            rows: prompts with the model's own greedy answers.
            top_k: how many tokens; at most the vocabulary's size.

        Returns:
            For each row, (answer tokens, top_k) token ids and their log-probabilities, in nats.
        """
        found: list[Any] = [None] * len(rows)
        for places in self._passes([len(row.input_ids) for row in rows]):
            batch = collate([rows[at] for at in places], self._pad_id)
            with self._asking():
                self.forwarded += batch.tokens
                logits, _ = self._answers(batch.to(self._compute.device))
                chances, ids = torch.log_softmax(logits, -1).topk(min(top_k, logits.shape[-1]))
            ends = np.cumsum([rows[at].answer_tokens for at in places])[:-1]
            several = zip(
                places,
                np.split(ids.int().cpu().numpy(), ends),
                np.split(chances.float().cpu().numpy(), ends),
                strict=True,
            )
            for at, row_ids, row_chances in several:
                found[at] = (row_ids, row_chances)
        return found

    def _passes(self, lengths: Sequence[int]) -> list[list[int]]:
        return passes_within(lengths, self._pass_tokens)
