"""The statistics of counts that the analysis stands on. Pure; the sums are short enough to be written plainly."""

from __future__ import annotations

from math import exp, lgamma, log, log1p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A tail is summed until what is left cannot change its sixth digit.
TAIL_PRECISION = 1e-8
TAIL_TERMS_MAX = 100_000
# Below this a negative binomial is a Poisson distribution to more digits than anybody reads.
OVERDISPERSION_MIN = 1e-9


def upper_tail(count: int, mean: float, dispersion: float) -> float:
    """Return the probability of `count` or more where `mean` is expected and the variance is `dispersion` * mean.

    Poisson for dispersion 1, else negative binomial of size r = mean / (dispersion - 1), with p = 1 / dispersion:
    P(Y = y) = G(y + r) / (G(r) y!) p^r (1 - p)^y (Johnson, Kemp, Kotz: Univariate Discrete Distributions, 3rd ed., 4.2
    and 5.1). Raises ValueError for a mean that is not positive or a dispersion below 1.
    """
    if mean <= 0 or dispersion < 1:
        raise ValueError("the mean must be positive and the dispersion at least 1")
    if count <= 0:
        return 1.0
    if count > mean:
        return min(1.0, _sum_up(count, mean, dispersion))
    # Below the mean the terms grow: the few that are left out are summed instead.
    return min(1.0, max(0.0, 1.0 - sum(exp(_log_term(y, mean, dispersion)) for y in range(count))))


def _log_term(y: int, mean: float, dispersion: float) -> float:
    """Return the logarithm of P(Y = y)."""
    excess = dispersion - 1
    if excess < OVERDISPERSION_MIN:
        return y * log(mean) - mean - lgamma(y + 1)
    size = mean / excess
    return lgamma(y + size) - lgamma(size) - lgamma(y + 1) - size * log(dispersion) + y * log1p(-1 / dispersion)


def _sum_up(count: int, mean: float, dispersion: float) -> float:
    """Return P(Y >= count), each term from the one before: beyond the mean they only fall."""
    excess = dispersion - 1
    term = exp(_log_term(count, mean, dispersion))
    total = 0.0
    for y in range(count, count + TAIL_TERMS_MAX):
        total += term
        ratio = mean / (y + 1)
        if excess >= OVERDISPERSION_MIN:
            ratio = (y + mean / excess) / (y + 1) * (excess / dispersion)
        term *= ratio
        if ratio < 1 and term / (1 - ratio) <= total * TAIL_PRECISION:  # what follows falls at least so fast
            break
    return total


def dispersion(series: Iterable[Sequence[float]]) -> float:
    """Return how much more the counts of several series vary than chance would let them: 1 or more.

    Each series varies about its own mean; the Pearson statistics are summed and divided by the sum of the degrees of
    freedom. Series of nothing but zeros, and of fewer than two counts, say nothing. (McCullagh, Nelder: Generalized
    Linear Models, 2nd ed., 4.5.)
    """
    statistic = 0.0
    freedom = 0
    for counts in series:
        total = sum(counts)
        if total and len(counts) > 1:
            mean = total / len(counts)
            statistic += sum((count - mean) ** 2 for count in counts) / mean
            freedom += len(counts) - 1
    return max(1.0, statistic / freedom) if freedom else 1.0


def adjusted(p_values: Sequence[float], tests: int) -> list[float]:
    """Return the q value of each p value: the lowest false discovery rate at which it counts as found.

    `tests` is how many tests there were; those that are not among `p_values` count as p = 1. (Benjamini, Hochberg:
    Controlling the False Discovery Rate, J. R. Statist. Soc. B 57, 1995.) Raises ValueError for fewer tests than
    values.
    """
    if tests < len(p_values):
        raise ValueError("there are more p values than tests")
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    found = [1.0] * len(p_values)
    lowest = 1.0
    for above, place in enumerate(order):
        rank = len(order) - above
        lowest = min(lowest, p_values[place] * tests / rank)
        found[place] = lowest
    return found
