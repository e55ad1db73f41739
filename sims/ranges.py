"""What a sweep's numbers must satisfy, checked before anything heavy is imported."""

__all__ = ["check_kept"]


def check_kept(keep_fraction: float, alpha_total: float, dim: int) -> None:
    """Check that a simulation at dimension `dim` keeps an example.

    Raises:
        ValueError: f alpha_total N < 1.
    """
    kept = keep_fraction * alpha_total * dim
    if kept < 1 - 1e-9:
        raise ValueError(
            f"keep_fraction * alpha_total * dim = {keep_fraction:.6g} * {alpha_total:.6g} * {dim} "
            f"= {kept:.6g} is below 1: a simulation must keep at least one example (the theory "
            "needs none)"
        )
