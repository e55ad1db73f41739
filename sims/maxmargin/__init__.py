"""Largest margins of many problems at once, each with a certificate."""
