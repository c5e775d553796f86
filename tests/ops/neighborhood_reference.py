"""Neighborhood attention in NumPy loops, from its description; shares no code with the package.

Along an axis of length L with kernel k, dilation d and stride s: positions that are equal modulo d
form a group, in which position i is number i // d. Queries number n // s * s ... of a group share
the window of their leader.
"""

import itertools

import numpy as np


def keys_along_axis(i, length, k, d, s, border, causal):
    """Positions that query `i` sees, in order; None where a key lies beyond the map."""
    group, number = i % d, i // d
    last = len(range(group, length, d)) - 1
    if causal:
        leader = min(number // s * s + s - 1, last)
        numbers = [n if 0 <= n <= number else None for n in range(leader - k + 1, leader + 1)]
    else:
        leader = number // s * s + s // 2
        left, right = k // 2, k - 1 - k // 2
        if border == "clamp":
            leader = min(max(min(leader, last), left), last - right)
        numbers = list(range(leader - left, leader + right + 1))
        if border != "wrap":
            numbers = [n if 0 <= n <= last else None for n in numbers]
    if border == "wrap":
        return [(group + n * d) % length for n in numbers], numbers
    return [None if n is None else group + n * d for n in numbers], numbers


def neighborhood(query, size, kernel_size, dilation, stride, border, causal):
    """The keys of a query, each `(position or None, difference)` by axis, in raster order.

    The difference is key minus query in steps of the dilation.
    """
    axes = []
    for i, length, k, d, s, b, c in zip(
        query, size, kernel_size, dilation, stride, border, causal, strict=True
    ):
        positions, numbers = keys_along_axis(i, length, k, d, s, b, c)
        differences = [None if n is None else n - i // d for n in numbers]
        axes.append(list(zip(positions, differences, strict=True)))
    for key in itertools.product(*axes):
        position, difference = zip(*key, strict=True)
        yield (None, None) if None in position else (position, difference)


def attend(
    query, key, value, kernel_size, dilation, stride, border, causal,
    scale=None, bias=None, additional_keys=None, additional_values=None,
):  # fmt: skip
    """Output `[B, *spatial, heads, Dv]` and log-sum-exp `[B, *spatial, heads]`, in float64."""
    batch, *size, heads, width = query.shape
    shared = heads // key.shape[-2]
    scale = width**-0.5 if scale is None else scale
    out = np.zeros((batch, *size, heads, value.shape[-1]))
    lse = np.zeros((batch, *size, heads))
    for place in np.ndindex(*size):
        seen = [
            (position, difference)
            for position, difference in neighborhood(
                place, size, kernel_size, dilation, stride, border, causal
            )
            if position is not None
        ]
        for b, h in np.ndindex(batch, heads):
            scores, values = [], []
            for position, difference in seen:
                score = scale * query[b, *place, h] @ key[b, *position, h // shared]
                if bias is not None:
                    at = (n + k - 1 for n, k in zip(difference, kernel_size, strict=True))
                    score += bias[h, *at]
                scores.append(score)
                values.append(value[b, *position, h // shared])
            if additional_keys is not None:
                scores += list(scale * additional_keys[b, :, h // shared] @ query[b, *place, h])
                values += list(additional_values[b, :, h // shared])
            top = max(scores)
            shares = np.exp(np.array(scores) - top)
            lse[b, *place, h] = top + np.log(shares.sum())
            out[b, *place, h] = (shares / shares.sum()) @ np.array(values)
    return out, lse
