"""Simulates the perceptron problems that replica solves, at a finite dimension."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
