"""Experiments with selection methods on real data: accuracy against the kept fraction."""
