"""Checks of how a device computes: `[launch] sharding`, `[train] torch_compile` and `tf32`.

Looks at no device: whether one has TF32, or a compiler, only shows when the run is prepared.
"""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.profile.check_train import overlay_tables
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile


def check_compute(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find settings of the computation that exclude each other."""
    if profile.launch.sharding == "fsdp2" and profile.adapter is not None:
        yield Problem(
            ("launch", "sharding"),
            'sharding = "fsdp2" does not divide a model with an adapter',
            'set sharding = "ddp": an adapter\'s moments and gradients are small',
        )
    for path, own in [(("train",), origin.raw.get("train", {})), *overlay_tables(origin.raw)]:
        if own.get("tf32") and profile.model.dtype in ("bfloat16", "float16"):
            yield Problem(
                (*path, "tf32"),
                f'tf32 rounds float32 products, and [model] dtype = "{profile.model.dtype}" '
                "leaves none",
                'take tf32 away, or set dtype = "float32"',
            )
        if not own.get("torch_compile"):
            continue
        if profile.adapter is not None and profile.adapter.quantize != "none":
            yield Problem(
                (*path, "torch_compile"),
                "torch_compile has not been tried with a base in 4 bits, so it is refused",
                'take torch_compile away, or set quantize = "none" in [adapter]',
            )
        if profile.launch.sharding == "fsdp2":
            yield Problem(
                (*path, "torch_compile"),
                "torch_compile has not been tried with divided weights, so it is refused",
                'take torch_compile away, or set sharding = "ddp" in [launch]',
            )
