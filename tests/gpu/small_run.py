"""A run that takes seconds on a GPU: its profile, and what starts it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from sf_tui.run.directory import RunDirectory

Run = Callable[..., tuple[subprocess.CompletedProcess[str], RunDirectory]]

# Large enough that a step fills some of the device, small enough to load in a second.
PROFILE = """\
name = "gpu"
[model]
source = "random"
[model.config]
model_type = "llama"
hidden_size = 256
intermediate_size = 1024
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 128
[biography]
people = 64
new_people = 16
[[tasks]]
name = "old"
data = "biography:old"
learn = true
[[tasks]]
name = "new"
data = "biography:new"
[train]
learning_rate = 1e-3
batch_size = 32
steps = 24
warmup_steps = 2
[probe]
every = 8
every_in_window = 8
[checkpoint]
every = 8
keep_last = 50
"""
