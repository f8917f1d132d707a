"""`[launch] sharding`, `[train] torch_compile` and `tf32`: what they exclude, and why."""

from __future__ import annotations

import pytest

from support.two_task_profile import load, problems

FSDP2 = 'launch.sharding="fsdp2"'


def problem(text: str = "", *overrides: str) -> tuple[str, str]:
    [told] = problems(text, *overrides)
    return told


def test_an_adapter_is_not_divided() -> None:
    told, hint = problem('[launch]\nsharding = "fsdp2"\n[adapter]\n')
    assert told == (
        'prod.toml:11: [launch] sharding = "fsdp2" does not divide a model with an adapter'
    )
    assert 'sharding = "ddp"' in hint
    assert load("[adapter]\n", 'launch.sharding="ddp"').adapter is not None


@pytest.mark.parametrize("strategy", ["ewc", "l2-start"])
def test_a_strategy_that_needs_whole_weights_is_not_divided(strategy: str) -> None:
    told, hint = problem(f'[train]\nstrategy = "{strategy}"\n', FSDP2)
    assert told.startswith(f"prod.toml:11: [train] strategy '{strategy}' needs whole weights")
    assert '[launch] sharding = "fsdp2" divides them' in told
    assert 'set sharding = "ddp"' in hint
    assert "seq" in hint
    load(f'[train]\nstrategy = "{strategy}"\n')


def test_the_stage_with_such_a_strategy_is_named() -> None:
    told, _ = problem('train = {strategy = "ewc"}\n', FSDP2)
    assert told.startswith("prod.toml:10: [[tasks]]")
    assert "strategy 'ewc'" in told


@pytest.mark.parametrize("strategy", ["seq", "freeze", "anchor", "replay"])
def test_other_strategies_are_divided(strategy: str) -> None:
    table = "[train.freeze]\nlayers = 1\n" if strategy == "freeze" else ""
    profile = load(f'[train]\nstrategy = "{strategy}"\n{table}', FSDP2)
    assert profile.launch.sharding == "fsdp2"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_tf32_needs_float32_products(dtype: str) -> None:
    told, hint = problem("[train]\ntf32 = true\n", f'model.dtype="{dtype}"')
    assert told.startswith("prod.toml:11: [train] tf32 rounds float32 products")
    assert f'dtype = "{dtype}"' in told
    assert 'dtype = "float32"' in hint
    told, _ = problem("train = {tf32 = true}\n", f'model.dtype="{dtype}"')
    assert told.startswith("prod.toml:10: [[tasks]]")
    for allowed in ("auto", "float32"):
        assert load("[train]\ntf32 = true\n", f'model.dtype="{allowed}"').train.tf32


def test_a_base_in_4_bits_is_not_compiled() -> None:
    told, hint = problem('[train]\ntorch_compile = true\n[adapter]\nquantize = "4bit"\n')
    assert told.startswith("prod.toml:11: [train] torch_compile has not been tried")
    assert 'quantize = "none"' in hint
    assert load("[train]\ntorch_compile = true\n[adapter]\n").train.torch_compile


def test_divided_weights_are_not_compiled() -> None:
    told, hint = problem("[train]\ntorch_compile = true\n", FSDP2)
    assert told.startswith("prod.toml:11: [train] torch_compile has not been tried with divided")
    assert 'sharding = "ddp"' in hint


def test_both_are_off_unless_asked_for() -> None:
    train = load().train
    assert (train.torch_compile, train.tf32) == (False, False)
