"""Holds the commands of python -m selection."""
