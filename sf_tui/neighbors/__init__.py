"""Neighbor prompts: prompts near a new task's, made from its prompts and the start model alone.

They show which tasks a stage puts at risk before its first step, and an anchor uses them to hold a
model to the start model's answers. This package never reads old data, and never uses the words of
the built-in experiment, because a user's own model has none of them.
"""
