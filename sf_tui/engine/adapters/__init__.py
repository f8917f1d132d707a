"""Adapters (peft): the layers of a model that have one, and what they change.

Knows peft's layers and files; knows no profile keys except `[adapter]`, no stages and no tasks.
peft is an optional dependency and is only imported when an adapter is used.
"""
