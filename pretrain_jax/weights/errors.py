"""The error of files of weights."""

__all__ = ["WeightsError"]


class WeightsError(ValueError):
    """A file of weights cannot be read, or does not fit the model."""
