"""What happens to a file on a bad disk."""

from __future__ import annotations

import numpy as np


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off somewhere, or with one to eight bits flipped."""
    if rng.random() < 0.5:
        return data[: rng.integers(len(data))]
    flipped = np.frombuffer(data, np.uint8).copy()
    for bit in rng.choice(8 * len(data), size=rng.integers(1, 9), replace=False):
        flipped[bit // 8] ^= 1 << bit % 8
    return flipped.tobytes()
