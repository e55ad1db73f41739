"""What is studied: problems, policies, probes and the closed forms around them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
