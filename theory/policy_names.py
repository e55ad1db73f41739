"""Lists the names and own parameters of the policies, without importing JAX."""

from collections.abc import Collection

from hardset.checks import check_choice

# Each with the parameter that it needs beside the kept fraction.
_PARAMETERS: dict[str, str | None] = {
    "hard": None,
    "easy": None,
    "moderate": None,
    "random": None,
    "hard-signed": None,
    "easy-signed": None,
    "window": "lo",
    "mixture": "w",
}

POLICY_NAMES: tuple[str, ...] = tuple(_PARAMETERS)


def policy_parameter(name: str) -> str | None:
    """Return the parameter that the policy `name` needs, or None."""
    return _PARAMETERS[name]


def check_policy(name: object, parameters: Collection[str]) -> None:
    """Check that `name` is a policy and `parameters` are the ones that it takes.

    Args:
        name: what the user wrote.
        parameters: the names of the parameters that he gave.

    Raises:
        ValueError: an unknown name, a parameter that is missing or one too many.
    """
    check_choice("policy", name, POLICY_NAMES)
    needed = _PARAMETERS[str(name)]
    if set(parameters) != ({needed} if needed else set()):
        wanted = f"the parameter {needed!r}" if needed else "no parameter"
        raise ValueError(f"policy {name!r} takes {wanted}, got {sorted(parameters) or 'none'}")
