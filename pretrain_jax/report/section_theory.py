"""Sections of the page: V-information of the sets, and the way to the toy model."""

import math
from collections.abc import Mapping

import numpy as np

from pretrain_jax.report.charts import bridge_chart, information_chart, is_drawn
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.report.markup import number, paragraph, section, spread, table
from pretrain_jax.report.section_results import drawn, name_of
from pretrain_jax.report.statistics import rows_of, settings_of
from pretrain_jax.report.toy_model import Bridge
from pretrain_jax.report.v_information import SetInformation
from selection import Coordinates, Recommendation

__all__ = ["in_information", "in_theory"]

HEURISTIC = (
    "Outside the toy model (normal features, a linear teacher without label noise, a max-margin "
    "student) all of this is a heuristic: the fraction it names is a place to look, not a result. "
    "Margins here are reconstruction errors of whole images, and each of the two probes saw the "
    "half of the images that it was trained on."
)
UNDEFINED = (
    "theta is undefined: the margins of two probes that were trained on disjoint halves are not "
    "positively correlated, so there is no angle, no curve and no recommended fraction."
)


def in_information(found: Mapping[str, SetInformation | str] | str) -> str:
    """V-information of each selected set."""
    if isinstance(found, str):
        return section("information", "V-information of the sets", [paragraph(found)])
    values = {
        name: (
            float(one.estimate.information) / one.size,
            float(one.estimate.information_stderr) / one.size,
        )
        for name, one in found.items()
        if not isinstance(one, str)
    }
    rows = [_information(name, one) for name, one in found.items()]
    chart = "V-information of each set, ± standard error."
    body = [
        paragraph(
            "What a probe explains of hidden patches by the visible ones, V = Gaussians of unit "
            "variance in the space of the probe's training target: H(Y|X) is half the masked "
            "squared error, H(Y|empty) half the squared error around the constant image that suits "
            "the set best, each image left out of its own constant; both plus log(2 pi)/2 = 0.9189 "
            "for each predicted value (arXiv:2002.10689). ± standard errors over images (videos "
            "where frames come from one), evenly spaced in the set. Held out: each hidden patch is "
            "predicted by that of two probes of disjoint halves that was not trained on the image "
            "it comes from; of a stitched image the visible patches may be known to it. The number "
            "of a set that is not held out is too large by what the probe knows by heart, and "
            "cannot be compared with the others. Below zero a probe predicts worse than the "
            "constant."
        ),
        *([drawn(information_chart(values), chart)] if values else []),
        table(
            "In nats for each predicted value; the last column for a whole image",
            [
                *("set", "images", "H(Y|empty)", "H(Y|X)", "V-information", "an image (nats)"),
                "probe",
            ],
            rows,
        ),
    ]
    return section("information", "V-information of the sets", body)


def in_theory(run: RunFolder, found: Bridge | str) -> str:
    """Estimated coordinates, the theory's curve at them, and the measured one beside it."""
    body = [paragraph(HEURISTIC, "warning")]
    bridge = None if isinstance(found, str) else found
    if isinstance(found, str):
        body.append(paragraph(found))
    else:
        body.append(_coordinates(found.coordinates))
        body += [paragraph(f"Note: {sentence}.") for sentence in found.coordinates.warnings]
        if found.recommendation is None:
            body.append(paragraph(UNDEFINED, "warning"))
        else:
            body += _advice(found.recommendation)
            lost = int(np.isnan(found.error).sum())
            if lost:
                body.append(
                    paragraph(
                        f"{lost} of {len(found.error)} points of the curve have no certified "
                        "answer and are left out."
                    )
                )
    for setting in settings_of(run):
        rows = rows_of(run, setting)
        if setting.objective != "mae" or not any(is_drawn(row) for row in rows):
            continue
        measured = f"measured 1 - mIoU, mean and standard deviation over seeds ({name_of(setting)})"
        caption = f"{measured[0].upper()}{measured[1:]}."
        if bridge is not None and bridge.recommendation is not None:
            caption = (
                "Left: error of the toy model against the fraction kept; band: over the intervals "
                "of alpha_t and theta; dotted: the recommended fraction. Right, on an axis of its "
                f"own: {measured}. The two errors are different quantities; only the shapes can be "
                "compared."
            )
        body.append(drawn(bridge_chart(bridge, rows), caption))
    return section("theory", "The toy model at the estimated coordinates", body)


def _information(name: str, one: SetInformation | str) -> list[str]:
    """A row of the table; of a set without an estimate the reason stands in the last column."""
    if isinstance(one, str):
        return [name, *[number(math.nan)] * 5, f"no estimate: {one}"]
    found = one.estimate
    return [
        name,
        str(one.images),
        *(
            spread(float(value) / one.size, float(stderr) / one.size, 4)
            for value, stderr in (
                (found.empty_entropy, found.empty_entropy_stderr),
                (found.conditional_entropy, found.conditional_entropy_stderr),
                (found.information, found.information_stderr),
            )
        ),
        number(float(found.information), 1),
        f"not held out: {one.seen}" if one.seen else "held out",
    ]


def _coordinates(found: Coordinates) -> str:
    dimension = found.dimension
    return table(
        f"Coordinates of the data in the toy model, intervals at level {found.level:g}",
        ["quantity", "value", "interval or ± standard error"],
        [
            ["images", str(found.examples), ""],
            [
                "effective dimension of the probe's features",
                number(dimension.value, 2),
                f"± {number(dimension.stderr, 2)}",
            ],
            [
                "alpha_t = images / dimension",
                number(found.alpha_total),
                _ends(found.alpha_interval),
            ],
            ["correlation of the two probes' margins", number(found.overlap, 3), ""],
            ["theta of a probe of one half (degrees)", _degrees(found.theta_part), ""],
            [
                "theta of a probe of all images (degrees)",
                _degrees(found.theta),
                _ends([math.degrees(end) for end in found.theta_interval], 1),
            ],
        ],
    )


def _advice(found: Recommendation) -> list[str]:
    policies = table(
        "What the theory says of each policy there",
        ["policy", "best fraction (%)", "its error", "fraction that suffices (%)"],
        [
            [
                one.policy,
                number(100 * one.keep_fraction),
                f"{one.error:.3g}",
                number(100 * one.sufficient_fraction),
            ]
            for one in found.policies
        ],
    )
    sentence = (
        f"Recommended: keep {100 * found.keep_fraction:.3g} % by {found.policy} selection; error "
        f"{found.error:.4g} against {found.full_error:.4g} of all data. From "
        f"{100 * found.band[0]:.3g} % to {100 * found.band[1]:.3g} % the error is within "
        f"{100 * found.tolerance:.3g} % of it; over the interval of theta the best fraction goes "
        f"from {100 * found.fraction_interval[0]:.3g} % to "
        f"{100 * found.fraction_interval[1]:.3g} %. It holds for the toy model; "
        f"{found.verdict.sentence()}."
    )
    if found.full_error - found.error < found.tolerance * found.error:
        sentence += (
            " That is as good as no gain in error: what the theory promises there is the same "
            "error from less data."
        )
    return [paragraph(sentence), policies]


def _degrees(angle: float) -> str:
    return number(math.degrees(angle), 1) if math.isfinite(angle) else "undefined"


def _ends(ends: tuple[float, float] | list[float], digits: int = 2) -> str:
    return " to ".join(number(end, digits) for end in ends)
