"""All figures by name: summaries and settings, without what computes and draws them."""

from typing import Any

import numpy as np

from figures.figure import (
    CurveSettings,
    DownstreamSettings,
    FigureSpec,
    FractionMapSettings,
    GeometrySettings,
    InSampleSettings,
    MarginSettings,
    PhaseSettings,
    PolicySettings,
    RedundancySettings,
    RuleSettings,
    ScalingSettings,
    TableSettings,
    WindowSettings,
)

_SPECS: tuple[FigureSpec[Any], ...] = (
    FigureSpec(
        name="fitting-error",
        summary="fitting error e against f, one curve for each alpha_total",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100), theta_deg=(0,)),
        several=("alpha_total", "keep_fraction"),
    ),
    FigureSpec(
        name="angle",
        summary="fitting error e against f for growing probe angle",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100), theta_deg=(0, 10, 20, 30)),
        several=("alpha_total", "keep_fraction", "theta_deg"),
    ),
    FigureSpec(
        name="redundancy",
        summary="fitting error e against f when every example has r = 1, 3, 5, 10 copies",
        defaults=RedundancySettings(alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,)),
        several=("alpha_total", "keep_fraction"),
    ),
    FigureSpec(
        name="downstream",
        summary="error against a downstream teacher shifted by delta = 0, 0.1, 0.2, 0.4",
        defaults=DownstreamSettings(alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,)),
        several=("alpha_total", "keep_fraction"),
    ),
    FigureSpec(
        name="policies",
        summary="hard selection against random, easy and moderate selection",
        defaults=PolicySettings(alpha_total=(20, 50, 100, 200, 500), theta_deg=(10,)),
        several=("alpha_total", "keep_fraction"),
    ),
    FigureSpec(
        name="geometry",
        summary="teacher, probe, student and the kept slab in the plane of teacher and probe",
        defaults=GeometrySettings(alpha_total=(5,), theta_deg=(10, 40), keep_fraction=(0.3,)),
        several=("theta_deg",),
        overlaps=("cosine",),
    ),
    FigureSpec(
        name="margins",
        summary="margins of the kept examples: theory's density and atom on simulated histograms",
        defaults=MarginSettings(alpha_total=(2, 10), theta_deg=(0, 30), keep_fraction=(0.3,)),
        several=("alpha_total", "keep_fraction", "theta_deg"),
        overlaps=("cosine",),
    ),
    FigureSpec(
        name="v-information",
        summary="V-information I_V against f, one curve for each alpha_total",
        defaults=CurveSettings(alpha_total=(5, 10, 20, 50, 100), theta_deg=(0,)),
        several=("alpha_total", "keep_fraction"),
        overlaps=("cosine",),
    ),
    FigureSpec(
        name="benchmark-tables",
        summary="the OptiDEL paper's Tables 1-2 and Figure 6 beside runs of one's own",
        defaults=TableSettings(),
        several=(),
    ),
    FigureSpec(
        name="scaling",
        summary="error and its slope against alpha_kept, fixed f and the Pareto frontier",
        defaults=ScalingSettings(
            alpha_total=(2, 5, 10, 20, 50, 100),
            theta_deg=(0, 10, 20, 30),
            keep_fraction=(0.03, 0.1, 0.3, 1.0),
        ),
        several=("alpha_total", "keep_fraction", "theta_deg"),
        overlaps=("cosine",),
    ),
    FigureSpec(
        name="window",
        summary="error against the offset of a window of ranks, and its best offset",
        defaults=WindowSettings(
            alpha_total=(5, 20, 100), theta_deg=(0, 10, 20, 30), keep_fraction=(0.2,)
        ),
        several=("alpha_total", "theta_deg"),
        overlaps=("cosine",),
    ),
    FigureSpec(
        name="optimal-fraction",
        summary="smallest sufficient and optimal f against alpha_t and probe angle",
        defaults=FractionMapSettings(
            alpha_total=tuple(float(f"{x:.4g}") for x in np.geomspace(0.5, 500, 19)),
            theta_deg=(0, 2, 5, 10, 15, 20, 25, 30, 35, 40, 45),
        ),
        several=("alpha_total", "theta_deg"),
    ),
    FigureSpec(
        name="optimal-policy",
        summary="the best weight w(z) found and its error beside the named policies",
        defaults=RuleSettings(alpha_total=(20,), theta_deg=(0, 10, 20, 30), keep_fraction=(0.2,)),
        several=("theta_deg",),
        overlaps=("cosine",),
        version=2,
    ),
    FigureSpec(
        name="phase-diagram",
        summary="where hard, easy, random selection or a window wins",
        defaults=PhaseSettings(
            alpha_total=tuple(float(f"{x:.4g}") for x in np.geomspace(0.1, 1000, 17)),
            theta_deg=(0, 10, 20, 30),
            keep_fraction=tuple(float(f"{x:.4g}") for x in np.geomspace(0.01, 0.95, 13)),
        ),
        several=("alpha_total", "theta_deg", "keep_fraction"),
    ),
    FigureSpec(
        name="in-sample",
        summary="error e against f with the probe trained on the same data, f_sv marked",
        defaults=InSampleSettings(alpha_total=(2, 5, 10, 20)),
        several=("alpha_total", "keep_fraction"),
        overlaps=("cosine",),
    ),
)

FIGURES: dict[str, FigureSpec[Any]] = {spec.name: spec for spec in _SPECS}
