"""Defines the settings of figures, which hold and check all that the data depend on."""

import dataclasses
import math
from typing import Any, get_origin

import numpy as np

from hardset.checks import check_choice, check_integer, check_range
from sims.draws import check_kept
from theory.policy_names import LOSSES, OWN_PARAMETERS, PLAIN_POLICIES, policy_parameter

OVERLAPS = ("cosine", "pearson")
PROBES = ("fixed", "independent", "in-sample")
# Settings that belong to another setting.
COMPANIONS = {**dict.fromkeys(OWN_PARAMETERS, "policy"), "alpha_probe": "probe"}
PUBLISHED_FRACTIONS = tuple(float(f"{f:.6g}") for f in np.logspace(-2, 0, 20))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The parameters of a figure's problem.

    A figure varies some of them and has one value of the others.

    Attributes:
        alpha_total: total examples / N, > 0.
        theta_deg: angles of a fixed probe in degrees, in [0, 90].
        redundancy: copies of every distinct example, >= 1.
        downstream_deg: angles of the downstream teacher in degrees, in [0, 90).
        policy: which examples are kept.
        lo: rank where the policy window begins, in [0, 1].
        w: share of the hardest examples in the policy mixture, in [0, 1].
        probe: fixed (at theta_deg), independent (trained on other examples), or in-sample (trained
            on the very data that it prunes).
        alpha_probe: examples / N that an independent probe is trained on.
    """

    alpha_total: tuple[float, ...]
    theta_deg: tuple[float, ...] = (0,)
    redundancy: tuple[float, ...] = (1.0,)
    downstream_deg: tuple[float, ...] = (0.0,)
    policy: tuple[str, ...] = ("hard",)
    lo: float | None = None
    w: float | None = None
    probe: str = "fixed"
    alpha_probe: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is tuple and not isinstance(value, tuple):
                # A number, a list or an array, as JSON and the checks below know it.
                object.__setattr__(self, field.name, tuple(np.atleast_1d(value).tolist()))
        check_range("alpha_total", self.alpha_total, 0.0, math.inf, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")
        check_range("redundancy", self.redundancy, 1.0, math.inf)
        check_range("downstream_deg", self.downstream_deg, 0, 90, open_high=True, unit="degrees")
        for policy in self.policy:
            check_choice("policy", policy, PLAIN_POLICIES)
        check_choice("probe", self.probe, PROBES)
        for name, values in lists_of(self).items():
            if len(set(values)) != len(values) or not (values or name == "theta_deg"):
                raise ValueError(f"{name} = {list(values)} must hold distinct values, at least one")
        self._check_companions()

    def _check_companions(self) -> None:
        """Check that own parameters are given with their policy or probe, and only then."""
        owners = {policy_parameter(policy): policy for policy in self.policy}
        for name in OWN_PARAMETERS:
            value = vars(self).get(name)
            if value is None and name in owners:
                raise ValueError(f"policy = {owners[name]!r} needs {name}, which is not given")
            if value is not None:
                if name not in owners:
                    raise ValueError(
                        f"{name} = {value:g} has no effect on the policy {', '.join(self.policy)}"
                    )
                check_range(name, value, 0.0, 1.0)
        if self.alpha_probe is not None:
            check_range("alpha_probe", self.alpha_probe, 0.0, math.inf, open_low=True)
        if (self.alpha_probe is None) == (self.probe == "independent"):
            trouble = "needs" if self.alpha_probe is None else "has no"
            raise ValueError(f"probe = {self.probe!r} {trouble} alpha_probe")
        if bool(self.theta_deg) != (self.probe == "fixed"):
            trouble = "has an angle of its own: leave out" if self.theta_deg else "needs"
            raise ValueError(f"probe = {self.probe!r} {trouble} theta_deg")

    def parameters(self) -> dict[str, Any]:
        """Return the settings as JSON types.

        Equal parameters give equal data.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def lists_of(settings: Settings) -> dict[str, tuple[Any, ...]]:
    """Return the settings that hold a list, by name."""
    return {name: value for name, value in vars(settings).items() if isinstance(value, tuple)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedSettings(Settings):
    """The parameters of a problem and the size of its simulation.

    Attributes:
        keep_fraction: kept fractions at which draws are simulated, in (0, 1].
        dim: input dimension N of the simulation, >= 2.
        draws: independent draws of each point, >= 2 (a standard error needs two).
        seed: seed of the draws, >= 0.
        overlap: cosine, or pearson for the mean-centred overlap of the published notebook.
    """

    keep_fraction: tuple[float, ...]
    dim: int = 200
    draws: int = 50
    seed: int = 0
    overlap: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        check_integer("dim", self.dim, 2, math.inf)
        check_integer("draws", self.draws, 2, math.inf)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_choice("overlap", self.overlap, OVERLAPS)
        for copies in self.redundancy:
            check_integer("redundancy", copies, 1, math.inf)
        # Checked before anything is computed: other figures of the same call may take an hour.
        check_kept(min(self.keep_fraction), min(self.alpha_total), self.dim)
        most = max(self.keep_fraction)
        if self.lo is not None and self.lo + most > 1 + 1e-12:
            raise ValueError(
                f"keep_fraction = {most:g}: a window from lo = {self.lo:g} keeps at most "
                f"{1 - self.lo:g}"
            )
        if self.overlap == "pearson" and self.probe != "fixed" and any(self.downstream_deg):
            raise ValueError(
                "overlap = 'pearson' shifts the downstream teacher along a fixed probe; "
                f"probe = {self.probe!r} is none"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveSettings(SimulatedSettings):
    """The settings of theory lines over keep_fraction with simulated points on them.

    Attributes:
        theory_points: fractions of a line; fewer leave corners where the error falls off.
        theory_reach: the lines go on beyond the outer points by this factor, up to fraction 1.
    """

    keep_fraction: tuple[float, ...] = PUBLISHED_FRACTIONS
    theory_points: int = 301
    theory_reach: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("theory_points", self.theory_points, 2, math.inf)
        check_range("theory_reach", self.theory_reach, 1.0, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySettings(CurveSettings):
    """The settings of a figure that compares one policy with others."""

    policy: tuple[str, ...] = ("hard", "random", "easy", "moderate")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.policy) < 2:
            raise ValueError(
                f"policy = {', '.join(self.policy)}: the first policy is compared with the others; "
                "give two or more"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometrySettings(SimulatedSettings):
    """The settings of the picture of the plane of teacher and probe.

    Attributes:
        examples: how many are drawn.
    """

    examples: int = 240

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("examples", self.examples, 1, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginSettings(SimulatedSettings):
    """The settings of histograms of margins.

    Attributes:
        bins: above the smallest margin; a quarter as many lie below it, where finite samples put
            some of theirs.
        density_points: margins of the theory's density.
        reach: no margin is farther above the smallest one: the fields have unit variance.
        beyond: share of the kept examples that the picture leaves out on the right.
    """

    bins: int = 24
    density_points: int = 193
    reach: float = 6.0
    beyond: float = 2e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("bins", self.bins, 1, math.inf)
        check_integer("density_points", self.density_points, 2, math.inf)
        # Farther out the density of a unit variance is 0 in double precision.
        check_range("reach", self.reach, 0.0, 38.0, open_low=True)
        check_range("beyond", self.beyond, 0.0, 1.0, open_high=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleSettings(SimulatedSettings):
    """The settings of the best weight beside other policies.

    Attributes:
        field_range: probe fields between which the influence is shown.
        field_points: how many of them.
    """

    field_range: tuple[float, float] = (0.01, 3.0)
    field_points: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("field_range", self.field_range, 0.0, math.inf)
        _check_ascending(self, "field_range")
        check_integer("field_points", self.field_points, 2, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingSettings(SimulatedSettings):
    """The settings of the error against the number of kept examples.

    Attributes:
        theory_range: kept examples / N between which the lines run.
        theory_points: how many of them.
    """

    theory_range: tuple[float, float] = (0.1, 1000.0)
    theory_points: int = 49

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("theory_range", self.theory_range, 0.0, math.inf, open_low=True)
        _check_ascending(self, "theory_range")
        check_integer("theory_points", self.theory_points, 2, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowSettings(SimulatedSettings):
    """The settings of curves and a map of windows of ranks.

    Attributes:
        lo_share: where simulated windows begin, in units of 1 - keep_fraction.
        theory_points: windows of a line.
        map_angles: angles of the map of the best window.
        map_volumes: volumes of data of that map.
        map_reach: the map goes on beyond the curves' volumes by this factor.
        map_theta_deg: largest angle of the map, unless a curve has a larger one.
    """

    lo_share: tuple[float, ...] = (0.0, 0.05, 0.12, 0.25, 0.5, 1.0)
    theory_points: int = 61
    map_angles: int = 10
    map_volumes: int = 15
    map_reach: float = 5.0
    map_theta_deg: float = 45.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("lo_share", self.lo_share, 0.0, 1.0)
        for name, least in (("theory_points", 2), ("map_angles", 1), ("map_volumes", 1)):
            check_integer(name, getattr(self, name), least, math.inf)
        check_range("map_reach", self.map_reach, 1.0, math.inf, open_low=True)
        check_range("map_theta_deg", self.map_theta_deg, 0.0, 90.0, open_low=True, unit="degrees")
        if max(self.keep_fraction) == 1:
            raise ValueError(
                "keep_fraction = 1 keeps everything: there is one window, and no lo to choose"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FractionMapSettings(Settings):
    """The settings of the maps of the fraction that suffices.

    Their axes are alpha_total and theta_deg.

    Attributes:
        tolerance: losses of error against all data's that suffice, one map each.
    """

    tolerance: tuple[float, ...] = (0.1, 0.01)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("tolerance", self.tolerance, 1e-6, 100.0)
        _check_ascending(self, "alpha_total", "theta_deg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseSettings(Settings):
    """The settings of the maps of the selection of least error.

    Their axes are keep_fraction and alpha_total.

    Attributes:
        keep_fraction: kept fractions, in (0, 1].
        equal: what the selections have in common, one row of maps each: alpha_total or alpha_kept.
    """

    keep_fraction: tuple[float, ...]
    equal: tuple[str, ...] = ("alpha_total", "alpha_kept")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("keep_fraction", self.keep_fraction, 0.0, 1.0, open_low=True)
        for name in self.equal:
            check_choice("equal", name, ("alpha_total", "alpha_kept"))
        _check_ascending(self, "alpha_total", "theta_deg", "keep_fraction")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings(SimulatedSettings):
    """The settings of a figure of students with a loss, a ridge and flipped labels.

    Attributes:
        loss: logistic, hinge, squared-hinge or square.
        flip: probabilities that a label is flipped, in [0, 1/2].
        lam_range: ridges between which the best one is sought, or the lines run.
        theory_points: points of a line.
    """

    loss: tuple[str, ...] = ("squared-hinge",)
    flip: tuple[float, ...] = (0.0,)
    lam_range: tuple[float, float] = (1e-3, 16.0)
    theory_points: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        for loss in self.loss:
            check_choice("loss", loss, LOSSES)
        check_range("flip", self.flip, 0.0, 0.5)
        check_range("lam_range", self.lam_range, 0.0, math.inf, open_low=True)
        _check_ascending(self, "lam_range")
        check_integer("theory_points", self.theory_points, 2, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSettings(LossSettings):
    """The settings of the error of many policies against the flip probability.

    Attributes:
        window_lo: rank of abs(z) where the unsigned window begins.
        signed_lo: rank of y z where the signed window begins.
    """

    window_lo: float = 0.1
    signed_lo: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window_lo", "signed_lo"):
            check_range(name, getattr(self, name), 0.0, 1.0 - max(self.keep_fraction))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RidgeSettings(LossSettings):
    """The settings of the error against the ridge.

    Attributes:
        lam: simulated ridges > 0.
    """

    lam: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("lam", self.lam, 0.0, math.inf, open_low=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldSettings(LossSettings):
    """The settings of the error with cross-fitted probes.

    Attributes:
        lam: the ridge > 0.
        folds: numbers of probes, each of which ranks a fold; infinitely many are added in theory.
    """

    lam: float = 0.1
    folds: tuple[int, ...] = (1, 2, 5, 10)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("lam", self.lam, 0.0, math.inf, open_low=True)
        for count in self.folds:
            check_integer("folds", count, 1, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparabilitySettings(SimulatedSettings):
    """The settings of the volume of data up to which noisy kept examples are separable.

    Attributes:
        flip: probabilities that a label is flipped, in (0, 1/2].
        window_lo: rank of abs(z) where the window begins.
        theory_range: kept fractions between which the lines run.
        theory_points: how many of them.
        volume_share: simulated alpha_total, in units of the threshold.
    """

    flip: tuple[float, ...]
    window_lo: float = 0.1
    theory_range: tuple[float, float] = (0.02, 1.0)
    theory_points: int = 25
    volume_share: tuple[float, ...] = (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("flip", self.flip, 0.0, 0.5, open_low=True)
        check_range("window_lo", self.window_lo, 0.0, 1.0 - max(self.keep_fraction))
        check_range("theory_range", self.theory_range, 0.0, 1.0, open_low=True)
        _check_ascending(self, "theory_range")
        check_integer("theory_points", self.theory_points, 2, math.inf)
        check_range("volume_share", self.volume_share, 0.0, math.inf, open_low=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionSettings(LossSettings):
    """The settings of curves over keep_fraction and maps of its best value.

    Attributes:
        map_range: volumes of data between which the maps run.
        map_volumes: how many of them.
        map_flips: flip probabilities of the maps, up to the curves' largest.
        map_fractions: kept fractions that are tried, from the curves' smallest to 1.
    """

    map_range: tuple[float, float] = (2.0, 100.0)
    map_volumes: int = 13
    map_flips: int = 9
    map_fractions: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("map_range", self.map_range, 0.0, math.inf, open_low=True)
        _check_ascending(self, "map_range")
        for name in ("map_volumes", "map_flips", "map_fractions"):
            check_integer(name, getattr(self, name), 2, math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumSettings(LossSettings):
    """The settings of learning curves on inputs with a power-law spectrum.

    Attributes:
        spectrum_a: exponents of the spectrum j^-a, >= 0.
        spectrum_r: exponent of the teacher's alignment with it; 0 is a random teacher.
        theory_range: alpha_total between which the lines run.
    """

    spectrum_a: tuple[float, ...]
    spectrum_r: float = 0.0
    theory_range: tuple[float, float] = (1.0, 256.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("spectrum_a", self.spectrum_a, 0.0, 20.0)
        check_range("spectrum_r", self.spectrum_r, -20.0, 20.0)
        check_range("theory_range", self.theory_range, 0.0, math.inf, open_low=True)
        _check_ascending(self, "theory_range")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurationSettings(LossSettings):
    """The settings of the comparison with published theories of data curation.

    Attributes:
        map_angles: angles of each axis of the maps, between 0 and 90 degrees.
        pruner_deg: angle between pruner and truth of the simulated curves.
        generator_deg: simulated angles between generator and truth.
        weighted_fraction: simulated fractions of the smooth weights.
    """

    map_angles: int = 15
    pruner_deg: float = 20.0
    generator_deg: tuple[float, ...] = (2, 10, 20, 30, 45, 60)
    weighted_fraction: tuple[float, ...] = (0.1, 0.3, 0.6, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("map_angles", self.map_angles, 2, math.inf)
        for name in ("pruner_deg", "generator_deg"):
            check_range(
                name, getattr(self, name), 0, 90, open_low=True, open_high=True, unit="degrees"
            )
        check_range("weighted_fraction", self.weighted_fraction, 0.0, 1.0, open_low=True)
        _check_ascending(self, "generator_deg", "weighted_fraction")


def _check_ascending(settings: Settings, *names: str) -> None:
    for name in names:
        values = getattr(settings, name)
        if list(values) != sorted(values):
            raise ValueError(f"{name} = {list(values)} must hold ascending values")


# How a parameter's value is written on a picture.
SYMBOLS = {
    "alpha_total": r"$\alpha_t$ = {:g}",
    "keep_fraction": "$f$ = {:g}",
    "theta_deg": r"$\theta$ = {:g}°",
    "redundancy": "$r$ = {:g}",
    "downstream_deg": r"$\delta$ = {1:.4g} ({0:.3g}°)",
    "policy": "{} selection",
    **{own: f"{own} = {{:g}}" for own in OWN_PARAMETERS},
    "probe": "{} probe",
    "alpha_probe": r"$\alpha_{{probe}}$ = {:g}",
    "overlap": "{} overlap",
    "loss": "{} loss",
    "flip": r"$\epsilon$ = {:g}",
    "lam": r"$\lambda$ = {:g}",
    "spectrum_r": "$r$ = {:g}",
}


def symbol(name: str, value: Any) -> str:
    """Write one value of a parameter as it stands on pictures."""
    size = math.tan(math.radians(value)) if name == "downstream_deg" else None
    return SYMBOLS[name].format(value, size)


def probe_words(settings: Settings) -> str:
    """Say in a caption which probe ranks the examples."""
    if settings.probe == "independent":
        return (
            f"a max-margin probe trained on alpha_probe = {settings.alpha_probe:g} other examples"
        )
    if settings.probe == "in-sample":
        return "a max-margin probe trained on all the data that are then pruned"
    (theta_deg, *others) = settings.theta_deg
    angle = "the angle theta" if others else f"{theta_deg:g} degrees"
    return f"a probe at {angle} from the teacher"


def policy_words(settings: Settings) -> str:
    """Say in a caption which policy keeps examples."""
    own = [
        f"{name} = {getattr(settings, name):g}"
        for name in OWN_PARAMETERS
        if vars(settings).get(name) is not None
    ]
    return f"{settings.policy[0]} selection" + (f" ({', '.join(own)})" if own else "")
