"""What `sf bench NAME` measures: one module a benchmark, each returns figures for a table and JSON.

Every ratio is taken between things that run beside each other in one call. Knows the engine and
the worker; they know nothing of it.
"""
