"""Lists the names of policies, their own parameters, and losses, without importing JAX."""

from collections.abc import Collection

from hardset.checks import check_choice

# The class of each, and the parameters that it needs beside the kept fraction.
POLICIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "hard": ("theory.policies:Hard", ()),
    "easy": ("theory.policies:Easy", ()),
    "moderate": ("theory.policies:Moderate", ()),
    "random": ("theory.policies:Random", ()),
    "hard-signed": ("theory.policies:HardSigned", ()),
    "easy-signed": ("theory.policies:EasySigned", ()),
    "window": ("theory.policies:Window", ("lo",)),
    "mixture": ("theory.policies:Mixture", ("w",)),
    "window-signed": ("theory.policies:WindowSigned", ("lo",)),
    "power": ("theory.policies:Power", ("scale", "exponent", "clip")),
}

POLICY_NAMES: tuple[str, ...] = tuple(POLICIES)
# Those that commands and figures take by name; the others need several numbers.
PLAIN_POLICIES: tuple[str, ...] = tuple(
    name for name, (_, owns) in POLICIES.items() if len(owns) < 2
)
# The parameter of every policy that has one; commands and figures have an option for each.
OWN_PARAMETERS: tuple[str, ...] = tuple(
    dict.fromkeys(owns[0] for _, owns in POLICIES.values() if len(owns) == 1)
)

# Losses of the margin t = y W.x: log(1 + exp(-t)), (1 - t)_+, (1 - t)_+^2 / 2, (1 - t)^2 / 2.
LOSSES: tuple[str, ...] = ("logistic", "hinge", "squared-hinge", "square")


def policy_parameter(name: str) -> str | None:
    """Return the one parameter that the policy `name` needs, or None."""
    owns = POLICIES[name][1]
    return owns[0] if len(owns) == 1 else None


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
    if set(parameters) != set(needed):
        words = ", ".join(repr(one) for one in needed)
        wanted = f"the parameter{'s' * (len(needed) > 1)} {words}" if needed else "no parameter"
        raise ValueError(f"policy {name!r} takes {wanted}, got {sorted(parameters) or 'none'}")
