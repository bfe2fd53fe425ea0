"""What follows from a workload alone, remembered for as long as the workload lives.

A fit asks for the same rows thousands of times under other parameters; what no parameter changes
(counts, tiles, splits) is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Answer = TypeVar("Answer")
MOST_POINTS = 4096
"""Points of a grid beyond which nothing is remembered: a sweep asks once, and memory counts."""


def remembered(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """``function`` of a workload and further objects, each known by identity, worked out once.

    Workloads are immutable and answers are not to be written to. The further objects live as long
    as the workload, so that no other can take their identity.
    """
    known: WeakKeyDictionary[Any, dict[tuple[int, ...], tuple[Answer, tuple[Any, ...]]] | None]
    known = WeakKeyDictionary()

    @wraps(function)
    def ask(workload: Any, *others: Any) -> Answer:
        if workload not in known:
            known[workload] = {} if prod(workload.shape) <= MOST_POINTS else None
        own = known[workload]
        if own is None:
            return function(workload, *others)
        key = tuple(map(id, others))
        if key not in own:
            own[key] = function(workload, *others), others
        return own[key][0]

    return ask
