"""Neighbor prompts: prompts beside a new task's, made from its prompts and the start model alone.

They show which tasks a stage puts at risk before its first step, and an anchor holds a model to the
start model's answers to them. This package never reads old data, and never uses the words of the
built-in experiment: a user's own model has none.
"""
