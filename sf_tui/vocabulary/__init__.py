"""Names and their meanings: one definition for each thing that has a name.

Knows nothing of torch, terminals, files or profiles; every other package may import it.
"""
