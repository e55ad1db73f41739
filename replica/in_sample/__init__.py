"""Overlaps of a student whose probe was trained on the examples it selects."""
