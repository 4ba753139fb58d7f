"""Which `with` opened a block, so that none that a generator left open takes the place of another."""

from __future__ import annotations

import sys

frame_at = sys._getframe  # noqa: SLF001 - there is no public word
"""Return the frame of a caller: 1 is whoever called the function that asks."""
