"""Serves a page on which the theory's curves follow sliders."""
