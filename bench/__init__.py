"""Measurements: ratios in one run, and faults on order."""
