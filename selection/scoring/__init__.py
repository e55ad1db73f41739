"""Scores examples, and records the training dynamics that some scores need."""
