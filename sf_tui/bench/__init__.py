"""The measurements of `sf bench NAME`: one module per benchmark, with figures for a table and JSON.

Every ratio compares two things that run side by side in one call. Knows the engine and the worker;
they know nothing about it.
"""
