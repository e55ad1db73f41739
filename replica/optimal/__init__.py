"""Finds the best fraction, window, weights and volume of data."""
