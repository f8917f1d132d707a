"""The command line: one module per command; heavy imports happen only inside a command's body.

stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run failed, 2 usage, profile, data or
model error, 3 run not found, 4 a guard failed, 5 stopped by the operator, 75 the console lost its
terminal, 130 interrupted.
"""
