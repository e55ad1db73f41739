"""Trains models.

It has configuration, optimiser step, loop, checkpoints, log, probes and pictures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
