"""The console: a Textual application that shows a run directory and appends commands to it.

Knows files of `run`, names of `profile`, and terminals. Never imports torch, and nothing of a run
depends on it.
"""
