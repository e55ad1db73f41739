"""Finds max-margin separators of many problems at once, each with a certificate."""
