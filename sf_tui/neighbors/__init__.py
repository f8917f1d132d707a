"""Neighbor prompts: prompts beside a new task's, made from its prompts and the start model alone.

They tell what a stage puts at risk before its first step, and what the start model says to them is
what an anchor holds a model to. Nothing here has ever seen old data, and nothing here knows of the
built-in experiment: its words are not to be had for anybody's own model.
"""
