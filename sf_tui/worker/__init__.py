"""The worker: the process that owns the model, runs the stages, executes commands, applies rules.

It records everything in the run directory and knows nothing of a terminal.
"""
