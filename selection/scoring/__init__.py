"""Scores of examples, and the training dynamics that some of them need."""
