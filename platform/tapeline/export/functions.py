"""Functions that ONNX does not have, written in its operators on float64, each accurate to a few units in the last place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tapeline.export.nodes import Graph

# Wichura 1988, "Algorithm AS 241: The percentage points of the normal distribution", PPND16; highest power first.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip


class Functions:
    """Writes nodes into a graph under names of its own, which begin with `prefix`."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix
        self._count = 0

    def constant(self, value: NDArray[np.generic] | float) -> str:
        """A constant's name; a number becomes float64."""
        self._count += 1
        return self.graph.constant(f"{self.prefix}_{self._count}", np.asarray(value))

    def add(self, operator: str, *inputs: str | float | NDArray[np.generic], **attributes: object) -> str:
        """A node's output; numbers and arrays among the inputs become constants."""
        names = [one if isinstance(one, str) else self.constant(np.asarray(one)) for one in inputs]
        self._count += 1
        return self.graph.add(operator, names, f"{self.prefix}_{self._count}", **attributes)

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """Horner's rule, highest power first."""
        value = self.add("Add", self.add("Mul", x, coefficients[0]), coefficients[1])
        for coefficient in coefficients[2:]:
            value = self.add("Add", self.add("Mul", value, x), coefficient)
        return value

    def clip(self, x: str, low: str | float | NDArray[np.float64], high: str | float | NDArray[np.float64]) -> str:
        """The value within bounds; NaN stays NaN, which ONNX's own operator does not promise."""
        raised = self.add("Where", self.add("Less", x, low), low, x)
        return self.add("Where", self.add("Greater", raised, high), high, raised)

    def log1p(self, x: str) -> str:
        """log(1 + x), x ≥ 0. Source: Goldberg 1991, theorem 4."""
        sum_ = self.add("Add", x, 1.0)
        change = self.add("Sub", sum_, 1.0)
        lost = self.add("Equal", change, 0.0)
        divisor = self.add("Where", lost, 1.0, change)
        exact = self.add("Div", self.add("Mul", self.add("Log", sum_), x), divisor)
        return self.add("Where", lost, x, exact)

    def expm1(self, x: str) -> str:
        """exp(x) − 1. Source: Kahan's form, in Higham 2002, Accuracy and Stability of Numerical Algorithms, 1.14.1."""
        power = self.add("Exp", x)
        change = self.add("Sub", power, 1.0)
        near = self.add("Less", self.add("Abs", x), 1.0)
        lost = self.add("Equal", change, 0.0)
        inside = self.add("And", near, self.add("Not", lost))
        logarithm = self.add("Log", self.add("Where", inside, power, 2.0))
        exact = self.add("Div", self.add("Mul", change, x), logarithm)
        return self.add("Where", lost, x, self.add("Where", inside, exact, change))

    def normal_quantile(self, p: str) -> str:
        """The standard normal distribution's quantile of p, 1e-10 < p < 1 − 1e-10."""
        centred = self.add("Sub", p, 0.5)
        square = self.add("Mul", centred, centred)
        middle = self.add("Sub", 0.180625, square)
        ratio = self.add("Div", self.polynomial(middle, _CENTRE[0]), self.polynomial(middle, _CENTRE[1]))
        centre = self.add("Mul", centred, ratio)
        low = self.add("Less", centred, 0.0)
        tail = self.add("Where", low, p, self.add("Sub", 1.0, p))
        root = self.add("Sub", self.add("Sqrt", self.add("Neg", self.add("Log", tail))), 1.6)
        size = self.add("Div", self.polynomial(root, _TAIL[0]), self.polynomial(root, _TAIL[1]))
        outer = self.add("Where", low, self.add("Neg", size), size)
        return self.add("Where", self.add("LessOrEqual", self.add("Abs", centred), 0.425), centre, outer)

    def count_below(self, x: str, knots: NDArray[np.float64], *, or_equal: bool) -> str:
        """How many of a feature's knots are smaller than x, or not larger: int64, of x's shape; NaN counts none.

        Parameters
        ----------
        x
            float64 (rows, features).
        knots
            Rising, float64 (features, knots).
        or_equal
            Whether a knot equal to x counts.
        """
        features, count = knots.shape
        width = 1 << int(count).bit_length()  # one more than count at least, so that a search can end behind all knots
        padded = np.full((features, width), np.inf)
        padded[:, :count] = knots
        table = self.constant(padded.reshape(-1))
        at = self.add("Mul", self.add("Cast", self.add("IsNaN", x), to=7), np.array([0], dtype=np.int64))
        base = self.constant(np.arange(features, dtype=np.int64) * width)
        step = width
        while step > 1:
            step //= 2
            place = self.add("Add", self.add("Add", at, base), np.array([step - 1], dtype=np.int64))
            knot = self.add("Gather", table, place, axis=0)
            passed = self.add("Cast", self.add("LessOrEqual" if or_equal else "Less", knot, x), to=7)
            at = self.add("Add", at, self.add("Mul", passed, np.array([step], dtype=np.int64)))
        return at
