"""Keep a forked process away from the connections of its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What must start afresh in a forked process."""

    def start_afresh(self) -> None:
        """Forget what belongs to the parent process, without touching it."""


_everything: WeakSet[Forkable] = WeakSet()


def in_every_child(thing: Forkable) -> None:
    """Start *thing* afresh in each process that is forked from this one, as long as it is alive."""
    _everything.add(thing)


def _after_fork() -> None:
    for thing in list(_everything):
        thing.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
