"""The commands that train, select and report."""
