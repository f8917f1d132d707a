"""Logits of answer tokens alone are those of a full forward pass."""

from __future__ import annotations

import pytest
import torch

from engine.conftest import SHAPES, MakeModel, make_rows
from sf_tui.engine.batches import collate
from sf_tui.engine.forward import AnswerForward


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_logits_of_answer_tokens_are_those_of_a_full_pass(
    make_model: MakeModel, shape: str
) -> None:
    model = make_model(shape).model.eval()
    batch = collate(make_rows(6), pad_id=0)
    logits, targets = AnswerForward(model)(batch)
    whole = model(input_ids=batch.input_ids).logits
    expected, wanted = [], []
    for row, labels in enumerate(batch.labels.tolist()):
        for at, label in enumerate(labels[1:]):
            if label != -100:
                expected.append(whole[row, at])
                wanted.append(label)
    assert targets.tolist() == wanted
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.stack(expected))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_padding_changes_no_logit(make_model: MakeModel, shape: str) -> None:
    model = make_model(shape).model.eval()
    rows = make_rows(5)
    together, _ = AnswerForward(model)(collate(rows, pad_id=7))
    alone = torch.cat([AnswerForward(model)(collate([row], pad_id=0))[0] for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
