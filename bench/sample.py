"""Figures of one kind, and what is said of them.

It measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How values are written.

    Attributes:
        name: after the number.
        factor: what a value is multiplied with before it is written.
        digits: after the point.
    """

    name: str
    factor: float
    digits: int

    def write(self, value: float) -> str:
        """Return a value without its unit."""
        return f"{value * self.factor:.{self.digits}f}"


MILLISECONDS = Unit("ms", 1000.0, 0)
MEBIBYTES = Unit("MiB", 1 / 1024**2, 1)


@dataclass(frozen=True)
class Sample:
    """Values of one kind, at least one.

    Attributes:
        values: in the order in which they came: seconds, or bytes.
        unit: how they are written.
    """

    values: tuple[float, ...]
    unit: Unit = MILLISECONDS

    @classmethod
    def of(cls, values: Iterable[float], unit: Unit = MILLISECONDS) -> Sample:
        """Return the sample of some values."""
        return cls(tuple(values), unit)

    @property
    def median(self) -> float:
        """The median, in the unit of the values."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        write = self.unit.write
        spread = f"{write(min(self.values))} to {write(max(self.values))}"
        return f"{write(self.median)} {self.unit.name} ({spread}, n={len(self.values)})"


@dataclass(frozen=True)
class Ratios:
    """How two samples compare whose values were taken in turns.

    Attributes:
        of_medians: our median over theirs.
        median: the median of each of ours over the one of theirs that followed.
    """

    of_medians: float
    median: float

    @classmethod
    def of(cls, ours: Sample, theirs: Sample) -> Ratios:
        """Compare two samples of the same size."""
        pairs = zip(ours.values, theirs.values, strict=True)
        return cls(ours.median / theirs.median, statistics.median(a / b for a, b in pairs))

    def keep(self, bar: float) -> bool:
        """Tell whether both are at most so much."""
        return max(self.of_medians, self.median) <= bar

    def __str__(self) -> str:
        return f"ratio of medians {self.of_medians:.2f}, median of ratios {self.median:.2f}"


def differences(ours: Sequence[float], theirs: Sequence[float]) -> Sample:
    """Return each of ours minus the one of theirs of the same round."""
    return Sample.of(a - b for a, b in zip(ours, theirs, strict=True))
