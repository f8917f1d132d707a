"""A small profile with a rule, for tests that change one key of it."""

from __future__ import annotations

BASE = """name = "bounds"
[model]
source = "starter:biography-mini"
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
[[rules]]
name = "r"
metric = "drop"
above = 0.2
action = "freeze"
"""
