"""A run whose model has a vision part: killed, resumed, mended, written as it came."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.composite_models import FAMILIES, write_composite
from support.fork_client import ForkHost
from support.quick_run import events_of, live_course, with_model, work


def _profile(source: Path) -> str:
    return with_model("", f'source = "{source}"\ntokenizer = "biography"')


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Importing such a family takes most of the time. What is written of one is shown by
# `engine/test_composite.py`, and kills by the other tests of the worker.
@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gemma3n"])
def test_killed_and_resumed_run_writes_the_same_directory(
    family: str, fork_host: ForkHost, tmp_path: Path
) -> None:
    source = write_composite(family, tmp_path / "source", max_shard_size="60KB")
    file = tmp_path / "quick.toml"
    file.write_text(_profile(source))
    plain = RunDirectory.create(
        tmp_path / "plain",
        profile_text=dump_profile(load_profile(file)),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(plain) == 0
    run = RunDirectory(tmp_path / "run")
    process = fork_host.start("run", file, "--no-ui", "--run-dir", run.path)
    while process.poll() is None and not (run.events.exists() and events_of(run, "checkpoint")):
        time.sleep(0.01)
    process.kill()
    process = fork_host.start("resume", run.path, "--no-ui")
    assert process.wait() == 0, process.stderr
    assert live_course(run) == live_course(plain)
    assert _contents(run.model) == _contents(plain.model)

    came, written = {}, {}
    for folder, tensors in ((source, came), (run.model, written)):
        for path in folder.glob("*.safetensors"):
            tensors |= load_file(path)
    assert set(came) == set(written)
    config = json.loads((run.model / "config.json").read_text())
    assert config["architectures"] == [FAMILIES[family][0]]

    out = tmp_path / "mended"
    edit = ("recover", run.path, "--by", "interpolate", "--out", out, "--force")
    done = fork_host.run(*edit, "--start-model", source)
    if family.endswith("_moe"):
        assert done.wait() != 0
        assert "first checkpoint" in done.stderr
        done = fork_host.run(*edit)
    assert done.wait() == 0, done.stderr
    assert set(_contents(out)) == set(_contents(run.model))
    mended: dict[str, torch.Tensor] = {}
    for path in out.glob("*.safetensors"):
        mended |= load_file(path)
    assert set(mended) == set(came)
    outside = [name for name in came if torch.equal(came[name], written[name])]
    assert any("vision" in name or "visual" in name for name in outside)
    assert not [name for name in outside if not _is_same(came[name], mended[name])]
    model, report = getattr(transformers, FAMILIES[family][0]).from_pretrained(
        out, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(model).__name__ == FAMILIES[family][0]

    told = fork_host.run("diagnose", run.path, "--time", "0")
    assert told.wait() == 0, told.stderr


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
