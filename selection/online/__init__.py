"""Selects again and again while a model trains."""
