"""Comparisons of runs, read from their directories; imports no torch and no model code."""
