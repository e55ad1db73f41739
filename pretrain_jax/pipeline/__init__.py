"""Runs the pipeline from images to the report.

It holds the probe, pre-training, and the runner of all stages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
