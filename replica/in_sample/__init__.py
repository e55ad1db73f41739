"""Solves for a student whose probe was trained on the examples that it ranks."""
