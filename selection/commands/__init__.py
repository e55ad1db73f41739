"""The commands of python -m selection."""
