"""Holds the models, in Flax NNX.

Each model has a folder with modeling (the model) and params (weights of other libraries).
"""
