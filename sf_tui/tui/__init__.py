"""The console: a Textual application that shows a run directory and appends commands to it.

Knows the files of `run`, the names of `profile`, and terminals. Never imports torch; no run depends
on it.
"""
