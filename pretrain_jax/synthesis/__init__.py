"""Patches of images, how hard they are, and smaller sets made of the hardest: OptiDEL's stages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
