"""Writes figures of matplotlib in the house style, as files that hold their captions."""

import io
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that all machines draw alike
    "font.size": 7,
    "axes.labelsize": 8,
    "axes.titlesize": 7,
    "axes.titlepad": 3,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 2.6,
    "errorbar.capsize": 0,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.wspace": 0.06,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "hardset",
    "mathtext.fontset": "dejavusans",
}

# The canvas of each format.
_CANVASES = {
    "png": ("matplotlib.backends.backend_agg", "FigureCanvasAgg"),
    "pdf": ("matplotlib.backends.backend_pdf", "FigureCanvasPdf"),
    "svg": ("matplotlib.backends.backend_svg", "FigureCanvasSVG"),
}
# The entry of each format that keeps the caption, and entries that are left out, since they would
# make equal pictures differ.
_METADATA: dict[str, tuple[str, dict[str, None]]] = {
    "png": ("Description", {"Software": None}),
    "pdf": ("Subject", {"CreationDate": None, "Creator": None, "Producer": None}),
    "svg": ("Description", {"Date": None}),
}


def rendered(draw: Callable[[], Figure], file_format: str, caption: str) -> bytes:
    """Draw a figure in the house style, as the bytes of a picture file.

    Args:
        draw: makes the figure; called within the style.
        file_format: "png", "pdf" or "svg".
        caption: the file's description. Equal figures with equal captions give equal bytes.
    """
    # The font library logs a warning about the dates inside DejaVu's own files.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    key, metadata = _METADATA[file_format]
    buffer = io.BytesIO()
    module, name = _CANVASES[file_format]
    with rc_context(STYLE):
        figure = draw()
        figure.set_dpi(STYLE["savefig.dpi"])
        # `savefig` would draw twice: the layout is found in one drawing, and used in the next.
        canvas = getattr(import_module(module), name)(figure)
        write = getattr(canvas, f"print_{file_format}")
        write(buffer, metadata={**metadata, key: caption})
    return buffer.getvalue()
