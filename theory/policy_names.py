"""Lists the names of policies, their own parameters, and losses, without importing JAX."""

from collections.abc import Collection

from hardset.checks import check_choice

# The class of each, and the parameter that it needs beside the kept fraction.
POLICIES: dict[str, tuple[str, str | None]] = {
    "hard": ("theory.policies:Hard", None),
    "easy": ("theory.policies:Easy", None),
    "moderate": ("theory.policies:Moderate", None),
    "random": ("theory.policies:Random", None),
    "hard-signed": ("theory.policies:HardSigned", None),
    "easy-signed": ("theory.policies:EasySigned", None),
    "window": ("theory.policies:Window", "lo"),
    "mixture": ("theory.policies:Mixture", "w"),
}

POLICY_NAMES: tuple[str, ...] = tuple(POLICIES)
# Every parameter that some policy needs; commands and figures have an option for each.
OWN_PARAMETERS: tuple[str, ...] = tuple(
    dict.fromkeys(own for _, own in POLICIES.values() if own is not None)
)


def policy_parameter(name: str) -> str | None:
    """Return the parameter that the policy `name` needs, or None."""
    return POLICIES[name][1]


def check_policy(name: object, parameters: Collection[str]) -> None:
    """Check that `name` is a policy and `parameters` are the ones that it takes.

    Args:
        name: what the user wrote.
        parameters: the names of the parameters that he gave.

    Raises:
        ValueError: an unknown name, a parameter that is missing or one too many.
    """
    check_choice("policy", name, POLICY_NAMES)
    needed = POLICIES[str(name)][1]
    if set(parameters) != ({needed} if needed else set()):
        wanted = f"the parameter {needed!r}" if needed else "no parameter"
        raise ValueError(f"policy {name!r} takes {wanted}, got {sorted(parameters) or 'none'}")


# Losses of the margin t = y W.x: log(1 + exp(-t)), (1 - t)_+, (1 - t)_+^2 / 2, (1 - t)^2 / 2.
LOSSES: tuple[str, ...] = ("logistic", "hinge", "squared-hinge", "square")
