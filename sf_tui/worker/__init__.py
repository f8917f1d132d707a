"""The worker: the process that owns the model, plays the stages, obeys commands, applies rules.

Everything that it does is told in the run directory; it knows of no terminal.
"""
