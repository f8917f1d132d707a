"""The engine: loading, tuning, probing, freezing, checkpoints.

Knows models and optimizers; knows nothing of run directories, commands or terminals.
"""
