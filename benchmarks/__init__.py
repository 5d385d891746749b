"""Measurements of speed, memory and learning; each module is a command of its own."""

import agents  # noqa: F401  # before torch: it sets how torch's threads wait
