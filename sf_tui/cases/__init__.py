"""Cases for diagnose, recover and analyze: the weights and rows of a run or of a bare model.

Reads run directories, profiles and models; `recovery/` works on the assembled cases. The command
line uses this package for runs without a worker; a worker uses it for its current stage and passes
the values in. Knows nothing of the worker's loop, of commands or of terminals.
"""
