"""``python -m bench.plot``: draw what ``bench.growth`` measured, as ``docs/growth.svg``.

It needs matplotlib, which ``make growth`` installs, and nothing else does.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from bench.growth import KEYS, MEMBERS, RESULTS

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "growth.svg"

#: Row, what it is, the unit, and what seconds are multiplied with; rates are as they are.
PANELS = (
    ("15", "15  cached get", "µs", 1e6),
    ("16", "16  64 writers", "writes/s", 1.0),
    ("17a", "17a  one writer, first member", "ms", 1e3),
    ("17b", "17b  one writer, last member", "ms", 1e3),
    ("18", "18  all keys loaded", "s", 1.0),
    ("19", "19  told on the last member", "ms", 1e3),
    ("21a", "21a  1,000 nodes defined", "s", 1.0),
    ("22", "22  a new member knows all", "s", 1.0),
    ("23", "23  fresh cache over all keys", "s", 1.0),
    ("24", "24  that many nodes move", "s", 1.0),
    ("25", "25  1,000 watchers, p99", "ms", 1e3),
)
_COLUMNS = 4
_COLOURS = ("#999999", "#1b6ca8", "#c1440e")


def main() -> int:
    """Draw."""
    try:
        pyplot: Any = import_module("matplotlib.pyplot")
    except ImportError:
        print("plot: error: matplotlib is not here: 'make growth' installs it", file=sys.stderr)
        return 2
    document = json.loads(RESULTS.read_text())
    figures: dict[str, dict[str, dict[str, float]]] = document["figures"]
    rows = -(-(len(PANELS) + 1) // _COLUMNS)
    pyplot.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(12, 2.6 * rows))
    places = axes.flatten()
    for place, (row, title, unit, factor) in zip(places, PANELS, strict=False):
        for members, colour in zip(MEMBERS, _COLOURS, strict=True):
            values = figures[row].get(str(members))
            if values is not None:
                drawn = [values[str(keys)] * factor for keys in KEYS]
                place.plot(KEYS, drawn, "o-", color=colour, label=f"{members}", markersize=3)
        place.set_title(title, loc="left", fontsize=9)
        place.set_ylabel(unit)
        place.set_xscale("log")
        most = max(max(by.values()) for by in figures[row].values()) * factor
        least = min(min(by.values()) for by in figures[row].values()) * factor
        if most > 8 * least:
            place.set_yscale("log")
            place.set_ylim(10 ** floor(log10(least)), 10 ** ceil(log10(most)))
        else:
            place.set_ylim(0, most * 1.15)
        place.grid(visible=True, color="#dddddd", linewidth=0.5)
        place.spines[["top", "right"]].set_visible(False)
    legend = places[len(PANELS)]
    legend.axis("off")
    handles, labels = places[0].get_legend_handles_labels()
    told = "\n".join(part.strip() for part in document["where"].split(";"))
    legend.legend(handles, labels, title="members", loc="upper left", frameon=False)
    legend.text(0.0, 0.0, told, fontsize=6, transform=legend.transAxes, wrap=True)
    for place in places[len(PANELS) + 1 :]:
        place.axis("off")
    for place in axes[-1]:
        place.set_xlabel("keys")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})
    print(f"plot: {PICTURE.name} is drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
