"""The run directory: plain files that are the only truth about a run.

Knows files, locks and JSON lines; knows nothing of torch, models or terminals.
"""
