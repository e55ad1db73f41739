"""Holds the selection methods, and the conditions that they can be put under."""
