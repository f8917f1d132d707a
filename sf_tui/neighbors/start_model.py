"""Queries to a stage's start model: samples, greedy answers, log-probabilities of answers.

Never changes the model. Every draw uses its own generator, so training continues as if there had
been no queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.forward import AnswerForward, LastForward
from sf_tui.errors import ModelError
from sf_tui.neighbors.anatomy import Tokens
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.template import find_closing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sf_tui.engine.compute import ComputeSetting


# Limits the logits of a pass to half a gigabyte: with a large vocabulary they dominate memory.
_MOST_LOGITS = 2**27


class StartModel:
    """The model before a stage.

    Attributes:
        model: the model itself; call it inside `inference`.
        device: the model's device.
        forwarded: tokens that it has read so far, for the cost report.
        answered: prompts whose answers are known in full so far, for the progress.
        pass_tokens: tokens in one forward pass, padding included.
        answer_logits: the forward pass that returns only the logits of answer tokens.
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
            model: a causal language model with the start weights.
            tokenizer: its tokenizer.
            compute: device and precision.
            pad_id: token id for padding.
            pass_tokens: tokens in one forward pass, padding included; lowered if the vocabulary
                is large.
            between: called before each pass; an exception from it aborts the query, which changes
                nothing.
        """
        self.tokenizer = tokenizer
        self.forwarded = 0
        self.answered = 0
        self.model = model
        self.device = compute.device
        self.pad_id = pad_id
        self._compute = compute
        self._between = between
        self.answer_logits = AnswerForward(model)
        self._last = LastForward(model)
        special = set(tokenizer.all_special_ids) | {pad_id}
        embedding: Any = model.get_input_embeddings()
        self.embeddings: torch.Tensor = embedding.weight
        self.pass_tokens = min(pass_tokens, max(_MOST_LOGITS // len(self.embeddings), 1))
        # Rows beyond the tokenizer's vocabulary pad the matrix and occur in no text.
        known = set(tokenizer.get_vocab().values()) - special
        self.words = np.array(sorted(i for i in known if i < len(self.embeddings)), dtype=np.int64)
        """Token ids that text can contain: the vocabulary without special tokens."""
        self.vocabulary = len(self.embeddings)
        """Size of the embedding matrix; logits beyond it are padding."""
        unwanted = torch.ones(len(self.embeddings), dtype=torch.bool)
        unwanted[torch.from_numpy(self.words)] = False
        self.unwanted = unwanted.to(compute.device)
        """(vocabulary,) True for tokens that text cannot contain."""
        self._ends = answer_ends(model, tokenizer)

    @property
    def end(self) -> int:
        """Token id that ends a text."""
        return self._ends[0]

    @contextmanager
    def inference(self, tokens: int) -> Iterator[None]:
        """Run forward passes inside this context, without gradients and in evaluation mode.

        Args:
            tokens: number of tokens that the model reads inside it.

        Raises:
            BaseException: any exception of `between`, before the pass starts.
        """
        if self._between is not None:
            self._between()
        self.forwarded += tokens
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self._compute.autocast():
                yield
        finally:
            self.model.train(was_training)

    def fill(
        self, prompts: Sequence[Tokens], spans: Sequence[tuple[int, int]], seed: int
    ) -> list[Tokens]:
        """Return each prompt with one span sampled from the model's next-token distribution.

        Args:
            prompts: whole prompts.
            spans: for each, the first position to sample and the position after the last.
            seed: determines the samples.
        """
        generator = torch.Generator().manual_seed(seed)
        found: list[Tokens] = [()] * len(prompts)
        shapes: dict[tuple[int, int, int], list[int]] = {}
        for at, (prompt, span) in enumerate(zip(prompts, spans, strict=True)):
            # Nothing precedes position 0, so it cannot be sampled.
            shapes.setdefault((max(span[0], 1), span[1], len(prompt)), []).append(at)
        for (start, end, _), members in sorted(shapes.items()):
            size = max(self.pass_tokens // max(end, 1), 1)
            for begin in range(0, len(members), size):
                part = members[begin : begin + size]
                ids = torch.tensor([prompts[at][:start] for at in part])
                for _ in range(start, end):
                    with self.inference(ids.numel()):
                        logits = self._last(ids.to(self.device))
                        logits = logits[:, : self.vocabulary]
                    probabilities = torch.softmax(logits.masked_fill(self.unwanted, -torch.inf), -1)
                    drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)
                    ids = torch.cat([ids, drawn], 1)
                for at, row in zip(part, ids.tolist(), strict=True):
                    found[at] = (*row, *prompts[at][end:])
        return self._of_main(found)

    def answer(self, prompts: Sequence[Tokens], longest: int) -> list[Tokens]:
        """Return the model's greedy answer to each prompt.

        Args:
            prompts: whole prompts.
            longest: number of tokens after which an unfinished answer is cut.

        Returns:
            For each prompt its answer, with the end token if the model wrote one.
        """
        found: list[Tokens] = [()] * len(prompts)
        lengths = [len(prompt) + longest for prompt in prompts]
        for places in self._passes(lengths):
            width = max(len(prompts[at]) for at in places)
            ids = np.full((len(places), width), self.pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, at in enumerate(places):
                ids[row, width - len(prompts[at]) :] = prompts[at]
                mask[row, width - len(prompts[at]) :] = 1
            model: Any = self.model
            with self.inference(sum(lengths[at] for at in places)):
                out = model.generate(
                    input_ids=torch.from_numpy(ids).to(self.device),
                    attention_mask=torch.from_numpy(mask).to(self.device),
                    max_new_tokens=longest,
                    do_sample=False,
                    # The model's own generation_config might specify something other than greedy
                    # decoding.
                    num_beams=1,
                    repetition_penalty=1.0,
                    no_repeat_ngram_size=0,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    eos_token_id=list(self._ends),
                    pad_token_id=self.pad_id,
                    use_cache=True,
                    # The answer that is finished last decides on the number of passes.
                    synced_gpus=self._compute.in_step.world > 1,
                )
            for row, at in zip(out[:, width:].tolist(), places, strict=True):
                end = next((i for i, token in enumerate(row) if token in self._ends), len(row))
                found[at] = tuple(row[: end + 1])
        return self._of_main(found)

    def _of_main(self, texts: list[Tokens]) -> list[Tokens]:
        """Return the texts of rank 0, where each pass is made by all ranks."""
        return [tuple(text) for text in self._compute.in_step.decide(lambda: texts)]

    def answer_logprobs(
        self, rows: Sequence[Encoded], top_k: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the likeliest tokens at every answer position of some rows.

        Args:
            rows: prompts with the model's own greedy answers.
            top_k: number of tokens; at most the vocabulary's size.

        Returns:
            For each row, (answer tokens, top_k) token ids and their log-probabilities, in nats.
        """
        found: list[Any] = [None] * len(rows)
        for places in self._passes([len(row.input_ids) for row in rows]):
            batch = collate([rows[at] for at in places], self.pad_id)
            with self.inference(batch.tokens):
                logits, _ = self.answer_logits(batch.to(self.device))
                logprobs, ids = torch.log_softmax(logits, -1).topk(min(top_k, logits.shape[-1]))
            ends = np.cumsum([rows[at].answer_tokens for at in places])[:-1]
            several = zip(
                places,
                np.split(ids.int().cpu().numpy(), ends),
                np.split(logprobs.float().cpu().numpy(), ends),
                strict=True,
            )
            for at, row_ids, row_logprobs in several:
                found[at] = (row_ids, row_logprobs)
            self.answered += len(places)
        return found

    def _passes(self, lengths: Sequence[int]) -> list[list[int]]:
        return passes_within(lengths, self.pass_tokens)


def answer_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the ids of the tokens that end an answer, the tokenizer's end token first.

    Args:
        model: its generation config is read.
        tokenizer: has an end token and possibly a chat template.
    """
    found = [int(tokenizer.eos_token_id)]
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is not None:
        found += [named] if isinstance(named, int) else list(named)
    found += _turn_ends(tokenizer)
    return tuple(dict.fromkeys(found))


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token that the chat template ends an answer with, if there is one."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    try:
        closing = find_closing(tokenizer)
    except ModelError:
        # The template can't render a question with its answer, so rows are joined without it.
        return []
    return list(tokenizer.encode(closing.end, add_special_tokens=False)[-1:])
