"""Random networks, and an arena that notices when a tensor is overwritten too early."""

from __future__ import annotations

import random

import numpy as np

from perfmodel.mcu.allocate import Buffer
from perfmodel.mcu.layout import Layout
from perfmodel.mcu.network import Network, Op, Tensor


def random_network(seed: int, most_tensors: int = 40) -> Network:
    """A directed acyclic graph of products and sums with up to ``most_tensors`` tensors."""
    rng = random.Random(seed)
    count = rng.randint(2, most_tensors)
    rows = rng.choice([4, 8, 16])
    tensors = [Tensor(name="t0", shape=(rows, rng.randint(1, 64)), dtype="int8", kind="input")]
    ops = []
    for i in range(1, count):
        known = tensors[-rng.randint(1, 12) :]
        inputs = rng.sample(known, min(len(known), rng.choice([1, 1, 1, 2, 2, 3])))
        same = rng.random() < 0.4
        width = inputs[0].shape[1] if same else rng.randint(1, 64)
        tensors.append(Tensor(name=f"t{i}", shape=(rows, width), dtype="int8"))
        kind = "elementwise" if same else "dense"
        ops.append(
            Op(
                name=f"op{i}",
                kind=kind,
                inputs=tuple(t.name for t in inputs),
                outputs=(f"t{i}",),
                scratch_bytes=rng.choice([0, 0, 0, 24]),
            )
        )
    read = {n for op in ops for n in op.inputs}
    made = [
        t if t.name in read or t.kind == "input"
        else Tensor(name=t.name, shape=t.shape, dtype=t.dtype, kind="output")
        for t in tensors
    ]  # fmt: skip
    return Network(name=f"random-{seed}", tensors=tuple(made), ops=tuple(ops))


def tight_buffers(seed: int) -> list[Buffer]:
    """Buffers that nearly fill a rectangle of steps and bytes: the hardest to pack."""
    rng = random.Random(seed)
    steps, height = rng.randint(6, 14), rng.randint(4, 7)
    load, found = [0] * steps, []
    for _ in range(200):
        first = rng.randrange(steps)
        last = min(steps - 1, first + rng.randrange(1, steps // 2))
        size = rng.choice([1, 1, 2, 2, 3])
        if all(load[s] + size <= height for s in range(first, last + 1)):
            for s in range(first, last + 1):
                load[s] += size
            found.append(Buffer(name=str(len(found)), bytes=size, first=first, last=last))
    return found


def run(layout: Layout) -> None:
    """Run the schedule on real bytes: every tensor must be whole whenever it is read.

    A tensor is written as its own number into its place. Before an operator's output is written
    its scratch is, and no input may have changed by then.
    """
    network, offsets = layout.network, layout.allocation.offsets
    place = {t: offsets[b] for b, tensors in layout.holds.items() for t in tensors}
    number = {t.name: i + 1 for i, t in enumerate(network.arena_tensors)}
    memory = np.zeros(layout.peak_bytes, dtype=np.int32)
    scratch = {b.name: b for b in layout.buffers if b.name not in layout.holds}

    def region(name):
        return memory[place[name] : place[name] + network.tensor(name).bytes]

    for t in network.of_kind("input", "state"):
        region(t.name)[:] = number[t.name]
    for op in network.ops:
        aside = scratch.get(f"{op.name}:scratch")
        if aside is not None:
            at = offsets[aside.name]
            assert at + aside.bytes <= layout.peak_bytes
            memory[at : at + aside.bytes] = -1
        for t in network.reads(op):
            assert (region(t.name) == number[t.name]).all(), f"{op.name} reads a damaged {t.name}"
        for name in op.outputs:
            region(name)[:] = number[name]
    for t in network.of_kind("output", "state"):
        assert (region(t.name) == number[t.name]).all(), f"the result {t.name} is damaged"
