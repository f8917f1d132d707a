"""Tests of the synthetic Biography experiment."""
