"""The command line: one module a command; nothing heavy is imported before a command's body runs.

stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run failed, 2 usage, profile or data
error, 3 run not found, 4 a guard failed, 5 stopped by the operator, 75 the console lost its
terminal, 130 interrupted.
"""
