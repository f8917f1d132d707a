from __future__ import annotations

import re

import pytest

from sf_tui.cli.guide import page_text
from sf_tui.profile import Profile
from sf_tui.profile.actions import default_actions
from sf_tui.profile.names import RESERVED_KEYS, is_key_name
from sf_tui.vocabulary.ops import OPS, Argument, Op, op_named, register_op
from sf_tui.worker.commands import CommandRunner
from sf_tui.worker.ops import implementation_of

every_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)


@every_op
def test_the_worker_can_do_every_op(op: Op) -> None:
    assert CommandRunner
    assert implementation_of(op.name)


@every_op
def test_rows_agree_with_each_other(op: Op) -> None:
    if op.inverse:
        back = OPS[op.inverse]
        assert back.inverse == op.name
        assert (back.turns_on, back.turns_off) == (op.turns_off, op.turns_on)
    assert op.replayed or not op.changes_weights, "a resume would lose the change"
    assert not op.settings or op.settings in Profile.model_fields
    assert not op.key or (is_key_name(op.key) and op.key not in RESERVED_KEYS)
    assert op.may_have_key or not op.key
    assert all(a.default is None or a.accepts(a.default) for a in op.arguments)
    assert all(a.default is not None or a.accepts(a.example) for a in op.arguments)
    assert not op.consequence or list(op.consequence(op.defaults))


def test_no_two_ops_have_the_same_default_key() -> None:
    keys = [action["key"] for action in default_actions().values() if "key" in action]
    assert len(keys) == len(set(keys))


def test_the_guide_lists_the_default_keys_of_the_ops() -> None:
    table = page_text("console").partition("| `q` |")[0]
    listed = re.findall(r"`([^`]+)`", table.partition("|---|---|")[2])
    assert sorted(listed) == sorted(op.key for op in OPS.values() if op.key)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'freeze' is registered already"):
        register_op(Op("freeze", "something else"))
    assert op_named("of another version").help


@pytest.mark.parametrize(
    ("argument", "good", "bad"),
    [
        (Argument("n", int, "", minimum=1, maximum=9), [1, 9], [0, 10, True, 1.0, "1", None]),
        (Argument("x", float, "", above=0, maximum=1), [1, 0.5], [0, 2, True, "1", 10**400]),
        (Argument("x", float, ""), [-1, 1e9], [float("nan"), float("inf")]),
        (Argument("b", bool, ""), [True, False], [1, "true"]),
        (Argument("s", str, ""), ["a b"], ["", "a\nb", "\x7f", 1]),
    ],
)
def test_an_argument_takes_its_type_within_its_bounds(
    argument: Argument, good: list[object], bad: list[object]
) -> None:
    assert all(argument.accepts(value) for value in good)
    assert not any(argument.accepts(value) for value in bad)
