"""Nearest neighbours and clusters of the examples."""
