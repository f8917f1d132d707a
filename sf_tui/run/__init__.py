"""The run directory: plain files, the only record of a run's state.

Knows files, locks and JSON lines; knows nothing about torch, models or terminals.
"""
