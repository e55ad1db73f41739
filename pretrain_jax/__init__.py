"""Pre-training of vision transformers on images: MAE and SimCLR, on one device or many."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
