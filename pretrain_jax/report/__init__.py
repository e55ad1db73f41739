"""The page that a run of the pipeline ends in, and the published numbers beside it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
