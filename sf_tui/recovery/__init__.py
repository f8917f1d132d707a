"""The recovery test and its arms, repair, and edits of the weights without data.

Knows a case and what can be done to its weights. Knows no run directory, no profile file and no
terminal.
"""
