"""Lists all figures, with the settings that each takes, its defaults and its module."""

from typing import Any

import numpy as np

from figures.figure import FigureSpec
from figures.settings import (
    CurationSettings,
    CurveSettings,
    FoldSettings,
    FractionMapSettings,
    GeometrySettings,
    LossSettings,
    MarginSettings,
    NoiseSettings,
    PhaseSettings,
    PolicySettings,
    RegionSettings,
    RidgeSettings,
    RuleSettings,
    ScalingSettings,
    SeparabilitySettings,
    SpectrumSettings,
    WindowSettings,
)

# Reasons why a figure does not take a parameter. Each ends the sentence "the figure NAME ...".
ANGLES = {"probe": "shows several theta_deg, which only the fixed probe has"}
COSINE = {"overlap": "has cosine overlaps alone"}
NO_COPIES = {"redundancy": "knows distinct examples alone"}
FIXED_PROBE = {"probe": "has a probe at a given angle"}
COMPARES = {"policy": "compares the policies with each other"}


def _ascending(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{x:.4g}") for x in np.geomspace(low, high, count))


_SPECS: tuple[FigureSpec[Any], ...] = (
    FigureSpec(
        name="fitting-error",
        summary="error against keep_fraction, one curve for each alpha_total",
        place="figures.error_curves:FITTING_ERROR",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100)),
        several=("alpha_total", "keep_fraction"),
    ),
    FigureSpec(
        name="angle",
        summary="error against keep_fraction for growing angles of the probe",
        place="figures.error_curves:ANGLE",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100), theta_deg=(0, 10, 20, 30)),
        several=("alpha_total", "keep_fraction", "theta_deg"),
        fixed=ANGLES,
    ),
    FigureSpec(
        name="redundancy",
        summary="error against keep_fraction when every example has several copies",
        place="figures.error_curves:REDUNDANCY",
        defaults=CurveSettings(
            alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,), redundancy=(1.0, 3.0, 5.0, 10.0)
        ),
        several=("alpha_total", "keep_fraction", "redundancy"),
    ),
    FigureSpec(
        name="downstream",
        summary="error against a shifted downstream teacher, one panel for each shift",
        place="figures.error_curves:DOWNSTREAM",
        defaults=CurveSettings(
            alpha_total=(20, 50, 100, 200, 500),
            theta_deg=(10,),
            # arctan(delta) of the published delta = 0, 0.1, 0.2, 0.4, to the last bit.
            downstream_deg=(0.0, 5.710593137499643, 11.309932474020215, 21.80140948635181),
        ),
        several=("alpha_total", "keep_fraction", "downstream_deg"),
    ),
    FigureSpec(
        name="policies",
        summary="hard selection against random, easy and moderate selection",
        place="figures.error_curves:POLICIES",
        defaults=PolicySettings(alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,)),
        several=("alpha_total", "keep_fraction", "policy"),
    ),
    FigureSpec(
        name="geometry",
        summary="teacher, probe, student and the kept examples in the plane of teacher and probe",
        place="figures.geometry",
        defaults=GeometrySettings(alpha_total=(5,), theta_deg=(10, 40), keep_fraction=(0.3,)),
        several=("theta_deg",),
        fixed={
            "downstream_deg": "shows the plane of teacher and probe, which a shift leaves",
            **ANGLES,
            **COSINE,
        },
    ),
    FigureSpec(
        name="margins",
        summary="margins of the kept examples: theory's density and atom on simulated histograms",
        place="figures.margins",
        defaults=MarginSettings(alpha_total=(2, 10), theta_deg=(0, 30), keep_fraction=(0.3,)),
        several=("alpha_total", "keep_fraction", "theta_deg"),
        fixed={
            "downstream_deg": "shows the student's margins, which do not depend on that",
            **ANGLES,
            **COSINE,
        },
    ),
    FigureSpec(
        name="v-information",
        summary="V-information against keep_fraction, one curve for each alpha_total",
        place="figures.v_information",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100)),
        several=("alpha_total", "keep_fraction"),
        fixed=COSINE,
    ),
    FigureSpec(
        name="scaling",
        summary="error and its slope against alpha_kept, fixed keep_fraction and the frontier",
        place="figures.scaling",
        defaults=ScalingSettings(
            alpha_total=(2, 5, 10, 20, 50, 100),
            theta_deg=(0, 10, 20, 30),
            keep_fraction=(0.03, 0.1, 0.3, 1.0),
        ),
        several=("alpha_total", "keep_fraction", "theta_deg"),
        fixed=NO_COPIES | ANGLES | COSINE,
    ),
    FigureSpec(
        name="window",
        summary="error against lo, where a window of ranks begins, and its best value",
        place="figures.window",
        defaults=WindowSettings(
            alpha_total=(5, 20, 100), theta_deg=(0, 10, 20, 30), keep_fraction=(0.2,)
        ),
        several=("alpha_total", "theta_deg"),
        fixed={"policy": "varies the policy: windows from hard to easy"} | ANGLES | COSINE,
    ),
    FigureSpec(
        name="optimal-fraction",
        summary="smallest sufficient and optimal keep_fraction against alpha_total and theta_deg",
        place="figures.optimal_fraction",
        defaults=FractionMapSettings(
            alpha_total=_ascending(0.5, 500, 19),
            theta_deg=(0, 2, 5, 10, 15, 20, 25, 30, 35, 40, 45),
        ),
        several=("alpha_total", "theta_deg"),
        fixed=ANGLES,
    ),
    FigureSpec(
        name="optimal-policy",
        summary="the best weight w(z) found and its error beside the named policies",
        place="figures.optimal_policy",
        defaults=RuleSettings(alpha_total=(20,), theta_deg=(0, 10, 20, 30), keep_fraction=(0.2,)),
        several=("theta_deg",),
        fixed={"policy": "compares the policies with the best one"} | NO_COPIES | ANGLES | COSINE,
        version=2,
    ),
    FigureSpec(
        name="phase-diagram",
        summary="where hard, easy, random selection or a window wins",
        place="figures.phase_diagram",
        defaults=PhaseSettings(
            alpha_total=_ascending(0.1, 1000, 17),
            theta_deg=(0, 10, 20, 30),
            keep_fraction=_ascending(0.01, 0.95, 13),
        ),
        several=("alpha_total", "theta_deg", "keep_fraction"),
        fixed={"policy": "compares the policies with each other"} | NO_COPIES | ANGLES,
    ),
    FigureSpec(
        name="in-sample",
        summary="error against keep_fraction with the probe trained on the same data",
        place="figures.error_curves:IN_SAMPLE",
        defaults=CurveSettings(alpha_total=(2, 5, 10, 20), theta_deg=(), probe="in-sample"),
        several=("alpha_total", "keep_fraction"),
        fixed={
            "probe": "is about the in-sample probe",
            "theta_deg": "is about the in-sample probe, which has an angle of its own",
            **COSINE,
        },
    ),
    FigureSpec(
        name="label-noise",
        summary="error against the flip probability by policy, each at its best ridge",
        place="figures.label_noise",
        defaults=NoiseSettings(
            alpha_total=(20,),
            theta_deg=(20,),
            keep_fraction=(0.2,),
            flip=(0, 0.02, 0.05, 0.1, 0.2, 0.3),
        ),
        several=("flip",),
        fixed=COMPARES | NO_COPIES | FIXED_PROBE | COSINE,
    ),
    FigureSpec(
        name="loss-decides",
        summary="error against keep_fraction for four losses, each at its best ridge",
        place="figures.loss_decides",
        defaults=LossSettings(
            alpha_total=(20,),
            theta_deg=(0, 20),
            keep_fraction=(0.05, 0.1, 0.2, 0.4, 0.7, 1),
            loss=("square", "squared-hinge", "hinge", "logistic"),
            theory_points=21,
        ),
        several=("keep_fraction", "theta_deg", "loss"),
        fixed=NO_COPIES | ANGLES | COSINE,
    ),
    FigureSpec(
        name="regularisation",
        summary="error against the ridge for hard, easy, random selection and all data",
        place="figures.regularisation",
        defaults=RidgeSettings(
            alpha_total=(20,),
            theta_deg=(20,),
            keep_fraction=(0.2,),
            flip=(0.1,),
            loss=("logistic", "squared-hinge"),
            lam=(1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100),
            lam_range=(1e-6, 1e3),
            theory_points=46,
        ),
        several=("lam", "loss"),
        fixed=COMPARES | NO_COPIES | FIXED_PROBE | COSINE,
    ),
    FigureSpec(
        name="cross-fitted",
        summary="error against keep_fraction when each fold is ranked by a probe of its own",
        place="figures.cross_fitted",
        defaults=FoldSettings(
            alpha_total=(20,),
            theta_deg=(20,),
            keep_fraction=(0.03, 0.05, 0.1, 0.2, 0.4, 0.7, 1),
            flip=(0, 0.1),
            theory_points=41,
        ),
        several=("keep_fraction", "flip", "folds"),
        fixed=NO_COPIES | {"probe": "is about cross-fitted probes"} | COSINE,
    ),
    FigureSpec(
        name="separability",
        summary="volume up to which noisy kept examples are separable, by policy",
        place="figures.separability",
        defaults=SeparabilitySettings(
            alpha_total=(20,), theta_deg=(0, 20), keep_fraction=(0.2,), flip=(0.05, 0.1, 0.2)
        ),
        several=("theta_deg", "flip"),
        fixed={
            "alpha_total": "finds alpha_total",
            "downstream_deg": "shows which labels can be fitted, which do not depend on that",
        }
        | COMPARES
        | NO_COPIES
        | ANGLES
        | COSINE,
    ),
    FigureSpec(
        name="less-is-more",
        summary="where a pruned set has less error than all data, each at its best ridge",
        place="figures.less_is_more",
        defaults=RegionSettings(
            alpha_total=(20,),
            theta_deg=(20,),
            keep_fraction=(0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1),
            flip=(0, 0.1, 0.2, 0.4),
            loss=("hinge",),
        ),
        several=("keep_fraction", "flip"),
        fixed=NO_COPIES | FIXED_PROBE | COSINE,
    ),
    FigureSpec(
        name="curation",
        summary="two published theories of curated data, their points beside exact curves",
        place="figures.curation",
        defaults=CurationSettings(
            alpha_total=(5, 50),
            keep_fraction=(0.2,),
            loss=("square",),
            lam_range=(1e-3, 1e3),
            theory_points=21,
        ),
        several=("alpha_total",),
        fixed={
            "theta_deg": "varies the angles of generator and pruner",
            "downstream_deg": "varies the angles of generator and pruner",
        }
        | COMPARES
        | NO_COPIES
        | FIXED_PROBE
        | COSINE,
    ),
    FigureSpec(
        name="spectrum",
        summary="learning curves under pruning on inputs with power-law spectra",
        place="figures.spectrum",
        defaults=SpectrumSettings(
            alpha_total=(2, 5, 10, 20, 40),
            theta_deg=(0,),
            keep_fraction=(0.2, 1),
            flip=(0.1,),
            spectrum_a=(0, 0.5, 1, 1.5, 2),
            lam_range=(1e-4, 16.0),
        ),
        several=("alpha_total", "keep_fraction", "spectrum_a"),
        fixed=NO_COPIES
        | FIXED_PROBE
        | COSINE
        | {"downstream_deg": "has a teacher in the basis of the spectrum"},
    ),
)

FIGURES: dict[str, FigureSpec[Any]] = {spec.name: spec for spec in _SPECS}
