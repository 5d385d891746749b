"""Collecting experience, meta-training, run directories and checkpoints."""

import agents  # noqa: F401  # before torch: it sets how torch's threads wait
