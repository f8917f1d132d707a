"""What exists and what it means: one definition for each thing that has a name.

Knows nothing of torch, terminals, files or profiles; every other package may read it.
"""
