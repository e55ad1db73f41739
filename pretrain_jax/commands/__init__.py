"""Holds the commands of python -m pretrain_jax.

They train, select and report.
"""
