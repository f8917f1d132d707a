"""Cases for diagnose, recover and analyze: a run or a bare model with its weights and its rows.

Reads run directories, profiles and models, and hands what it assembled to `recovery/`. The command
line uses it for runs without a worker; a worker uses it, by values, for the stage that it plays.
Knows nothing of the worker's loop, of commands or of terminals.
"""
