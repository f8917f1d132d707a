"""The recovery test and its arms, repair, and weight edits without data.

Knows a case and the operations on its weights. Knows no run directory, no profile file and no
terminal.
"""
