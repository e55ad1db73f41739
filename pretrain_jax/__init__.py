"""Pre-trains vision transformers on images, by MAE and by SimCLR.

Training runs on one device or on many. The package also makes smaller sets of images, fine-tunes
models for segmentation, and reports what came out.

Training runs on one device or on many.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
