"""Measures on real data how accuracy depends on the kept fraction.

The experiments compare selection methods.
"""
