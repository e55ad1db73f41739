"""Arrays out of PyTorch's tensors, without PyTorch."""

from typing import Any

__all__ = ["host_array"]


def host_array(values: Any) -> Any:
    """A tensor as a NumPy array: detached, on the host, half precision as single.

    NumPy alone refuses tensors that need a gradient, are on a device or hold bfloat16. Whatever is
    no tensor is returned as it is.
    """
    if not (hasattr(values, "detach") and hasattr(values, "is_floating_point")):
        return values
    tensor = values.detach().cpu()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.numpy()
