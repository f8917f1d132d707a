"""What tests share: small models and runs, processes and terminals to drive them in."""

PATIENCE_S = 240.0
"""How long to wait for another process. A wait ends with what it waits for; this only bounds a test
that fails, on a machine several times slower than any that was measured."""

RUN_PATIENCE_S = 900.0
"""The same for a whole run of a built-in profile, which takes up to a CPU minute."""
