"""Tests of verdict, intervals, cost and calibration."""
