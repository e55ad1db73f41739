"""Makes smaller sets of the hardest patches of images.

They are the stages of OptiDEL: patches, their hardness, selection and synthesis.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
