"""Sharing out whole numbers in proportion."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
_Move = tuple[int, int, int]  # row, from column, to column


def apportion(
    total: int, weights: Counts, lower: Counts | int = 0, upper: Counts | None = None
) -> Counts:
    """Share `total` out in proportion to `weights` by the method of largest remainders.

    Args:
        total: what to share out, between the sums of `lower` and `upper`.
        weights: int64 (K,), at least 0.
        lower: int64 (K,), the least that each gets.
        upper: int64 (K,), the most that each gets; no limit if None.

    Returns:
        int64 (K,) that sums to `total`; each entry within 1 of its share where no bound is in the
        way.

    Source: the method of Hamilton (1792), as in Balinski and Young, "Fair Representation", 1982.
    """
    low = np.broadcast_to(np.asarray(lower, dtype=np.int64), weights.shape)
    high = np.full_like(weights, total) if upper is None else upper
    assert low.sum() <= total <= high.sum()
    assert np.all(low <= high)
    weight_sum = max(int(weights.sum()), 1)
    ideal = total * weights / weight_sum
    # The floor is taken of whole numbers: 100 * 0.29 would come out as 28.999….
    counts = np.clip(total * weights // weight_sum, low, high)
    while counts.sum() < total:
        counts[np.argmax(np.where(counts < high, ideal - counts, -np.inf))] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > low, ideal - counts, np.inf))] -= 1
    return counts


def proportional_table(rows: Counts, columns: Counts, *, fill_first: bool) -> Counts:
    """Whole numbers with the given row and column sums, as near to proportional as they can be.

    The ideal entry is ``rows[k] * columns[p] / rows.sum()``. A table whose entries all lie within 1
    of it always exists; among those the one with the least squared distance is found by cancelling
    negative cycles.

    Args:
        rows: int64 (K,), at least 1 each where `fill_first`.
        columns: int64 (P,) with the same sum; few columns, as all cycles among them are tried.
        fill_first: every row has at least 1 in the first column, even where that costs proportion;
            needs ``columns[0] >= K``.

    Returns:
        int64 (K, P).

    Source: Cox, "A Constructive Procedure for Unbiased Controlled Rounding", 1987, for the
    existence; Klein, "A Primal Method for Minimal Cost Flows", 1967, for the cycles.
    """
    assert rows.sum() == columns.sum()
    lower = np.zeros((len(rows), len(columns)), dtype=np.int64)
    lower[:, 0] = int(fill_first)
    table = _first_table(rows, columns, lower)
    while cycle := _improving_cycle(table, rows, columns, lower):
        for row, source, target in cycle:
            table[row, source] -= 1
            table[row, target] += 1
    return table


def _first_table(rows: Counts, columns: Counts, lower: Counts) -> Counts:
    table = np.zeros_like(lower)
    remaining = rows.copy()
    for column in range(len(columns) - 1):
        table[:, column] = apportion(int(columns[column]), rows, lower[:, column], remaining)
        remaining -= table[:, column]
    table[:, -1] = remaining
    return table


def _costs(table: Counts, rows: Counts, columns: Counts, lower: Counts) -> npt.NDArray[np.float64]:
    """A convex cost of each entry: squared distance, far more beyond 1, most below `lower`."""
    total = max(int(rows.sum()), 1)
    products = np.outer(rows, columns)
    floors, fractions = products // total, products % total / total
    ceilings = floors + (fractions > 0)
    nearest = np.clip(table, floors, ceilings)
    penalty = 10.0 * table.size
    costs = (nearest - floors - fractions) ** 2 + penalty * np.abs(table - nearest)
    return np.asarray(costs + penalty**2 * np.maximum(lower - table, 0))


def _improving_cycle(
    table: Counts, rows: Counts, columns: Counts, lower: Counts
) -> list[_Move] | None:
    """Moves of one unit each that keep all sums and lower the cost; None at the optimum."""
    here = _costs(table, rows, columns, lower)
    more = _costs(table + 1, rows, columns, lower) - here
    less = _costs(table - 1, rows, columns, lower) - here
    best_row = {
        (source, target): int(np.argmin(less[:, source] + more[:, target]))
        for source, target in permutations(range(len(columns)), 2)
    }
    for length in range(2, len(columns) + 1):
        for cycle in permutations(range(len(columns)), length):
            pairs = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))
            moves = [(best_row[pair], *pair) for pair in pairs]
            # Rounding errors must not pass for an improvement, or the search would go in circles.
            if sum(less[row, a] + more[row, b] for row, a, b in moves) < -1e-6:
                return moves
    return None
