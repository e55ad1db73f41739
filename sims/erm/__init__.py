"""Minimises regularised losses at a finite dimension, exact and certified."""
