"""Where one mixer overtakes another, measured: every mixer's last rung at equal width.

``python -m refkernels.crossover run --out FILE`` times them over context lengths, one sequence
of 2048 columns (16 heads of 128; SSD 32 of 64; the scan 2048 channels), on a device.
``python -m refkernels.crossover table FILE --out docs/crossover.md`` writes what FILE says; it
needs no device.

A kernel gets times only behind a passed gate, at :data:`CHECKED` tokens: the oracles of the
recurrences walk every token, which would take minutes at the longest contexts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.errors import PerfModelError
from perfmodel.workload import Attention, DeltaRule, LinearAttention, SelectiveScan, Ssd, Workload
from refkernels._check import Gate
from refkernels._mixer_work import work
from refkernels._record import gpu_device, kernel_time, measurement_file, write_json
from refkernels._registry import OPERATORS, Problem, Variant
from refkernels._timing import elapsed_times, time_kernel

HEADS, HEAD_DIM = 16, 128
WIDTH = HEADS * HEAD_DIM
CHECKED = 2048
"""Tokens at which a rung must pass its gate."""

CONTEXTS = tuple(1024 * 2**i for i in range(8))
BUDGET_S = 0.05
"""Device seconds of timed replays per kernel and length (five replays at least)."""

SETS = 4
"""Inputs that take turns: at the shortest context their bytes already exceed the cache."""

Row = Mapping[str, Any]


def _attention(tokens: int, score: Any) -> Attention:
    return Attention(
        batch=1,
        q_len=tokens,
        kv_len=tokens,
        heads=HEADS,
        head_dim=HEAD_DIM,
        causal=True,
        score=score,
    )


MIXERS: dict[str, tuple[str, Callable[[int], Workload]]] = {
    "softmax attention": ("attention_prefill", lambda t: _attention(t, "softmax")),
    "sigmoid attention": ("sigmoid_attention_prefill", lambda t: _attention(t, "sigmoid")),
    "gated linear attention": (
        "gla",
        lambda t: LinearAttention(
            batch=1, seq_len=t, heads=HEADS, key_dim=HEAD_DIM, value_dim=HEAD_DIM
        ),
    ),
    "gated delta rule": (
        "delta_rule",
        lambda t: DeltaRule(
            batch=1, seq_len=t, key_heads=HEADS, key_dim=HEAD_DIM, value_dim=HEAD_DIM
        ),
    ),
    "SSD": (
        "ssd",
        lambda t: Ssd(batch=1, seq_len=t, heads=WIDTH // 64, head_dim=64, state=128, groups=1),
    ),
    "selective scan": (
        "selective_scan_16_bits",
        lambda t: SelectiveScan(batch=1, seq_len=t, channels=WIDTH, state=16),
    ),
}
"""Name -> operator of the registry, its workload."""


def last_rung(operator: str) -> Variant:
    """The last device rung of an operator's ladder."""
    found = next(o for o in OPERATORS if o.name == operator)
    return [v for v in found.variants if v.where == "device"][-1]


def measure(say: Callable[[str], None]) -> Iterator[Row]:
    """A measurement per mixer and context length, of rungs that pass their gates."""
    for name, (operator, workload) in MIXERS.items():
        variant = last_rung(operator)
        gate = variant.build(workload(CHECKED), 1, 1).gate()
        if not gate.passed:
            say(f"{variant.kernel} fails its gate: {gate}")
            continue
        for tokens in CONTEXTS:
            row = _timed(variant, workload(tokens), gate)
            say(f"{name:24} {variant.kernel:42} {tokens:7} {row['time_s'] * 1e6:10.1f} us")
            yield row


def _timed(variant: Variant, workload: Workload, gate: Gate) -> Row:
    sets = SETS if _tokens(workload) < CONTEXTS[3] else 1
    problem: Problem = variant.build(workload, 1, sets)
    timing = time_kernel(problem.run, sets=sets, budget_s=BUDGET_S, rough_s=_rough(problem))
    flops, moved = _work(workload)
    return kernel_time(workload, variant.kernel, timing, flops=flops, moved_bytes=moved, gate=gate)


def _rough(problem: Problem) -> float:
    """Seconds of one call, its first one not counted: some take a tenth of a second."""
    import cupy

    problem.run(0)
    stream = cupy.cuda.get_current_stream()
    return elapsed_times(lambda: problem.run(0), 1, stream)[0]


def _tokens(workload: Workload) -> int:
    name = "q_len" if isinstance(workload, Attention) else "seq_len"
    return int(np.asarray(getattr(workload, name)))


def _work(workload: Workload) -> tuple[float, float]:
    if isinstance(workload, Attention):
        from refkernels.attention.timed import flops_of, moved_bytes

        return flops_of(workload), moved_bytes(workload)
    done = work(workload)
    return done.flops, done.moved_bytes


def by_length(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """Mixer -> context length -> its measurement."""
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        shape = row["workload"]
        tokens = int(shape["q_len" if shape["op"] == "attention" else "seq_len"])
        found.setdefault(_mixer_of(shape), {})[tokens] = row
    return found


def _mixer_of(shape: Row) -> str:
    if shape["op"] == "attention":
        return f"{shape['score']} attention"
    names = {"linear_attention": "gated linear attention", "delta_rule": "gated delta rule"}
    return names.get(shape["op"], {"ssd": "SSD"}.get(shape["op"], "selective scan"))


def overtakes(times: Mapping[int, Row], reference: Mapping[int, Row]) -> int | None:
    """The shortest measured context from which on ``times`` stay below ``reference``'s."""
    since = None
    for tokens in sorted(set(times) & set(reference), reverse=True):
        if times[tokens]["time_s"] >= reference[tokens]["time_s"]:
            break
        since = tokens
    return since


def table(content: Mapping[str, Any]) -> str:
    """The page: times by context length, and where each mixer overtakes softmax attention."""
    found = by_length(content["measurements"])
    names = [name for name in MIXERS if name in found]
    lengths = sorted({tokens for times in found.values() for tokens in times})
    device, software = content["device"], content["software"]
    lines = [
        "# Measured crossover of token mixers",
        "",
        f"Microseconds of one forward pass over one sequence of {WIDTH} columns in bf16, causal,",
        "by the last rung of each ladder, replayed as a CUDA graph. Projections, gates and",
        "convolutions around a mixer are not in it. `python -m refkernels.crossover` wrote",
        f"this page from measurements on {device['product']} ({content['date']}, driver",
        f"{software['driver']}, kernels {content['kernel_revision']}).",
        "",
        _row(["tokens", *names]),
        _row(["---:"] * (1 + len(names))),
    ]
    for tokens in lengths:
        cells = [_micros(found[name].get(tokens)) for name in names]
        lines.append(_row([f"{tokens:,}", *cells]))
    lines += ["", "| mixer | faster than softmax attention from | rung |"]
    lines += ["|---|---|---|"]
    for name in names[1:]:
        since = overtakes(found[name], found[names[0]])
        where = "nowhere up to here" if since is None else f"{since:,} tokens"
        lines.append(_row([name, where, f"`{found[name][max(found[name])]['kernel']}`"]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _micros(row: Row | None) -> str:
    return "-" if row is None else f"{row['time_s'] * 1e6:,.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run on a device, or write the page from a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="time every mixer on this device")
    run.add_argument("--out", type=Path, required=True, help="the measurement file")
    run.add_argument("--device-name", help="the spec that the device's figures belong to")
    page = verbs.add_parser("table", help="write the page")
    page.add_argument("file", type=Path)
    page.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.verb == "table":
        options.out.write_text(table(json.loads(options.file.read_text())))
        return 0
    rows: list[Row] = []
    for row in measure(lambda line: print(line, flush=True)):  # noqa: T201 -- a command
        rows.append(row)
        # Written as they come: what was measured before a hang is not lost.
        write_json(options.out, measurement_file(gpu_device(options.device_name), rows))
    return int(len({r["workload"]["op"] for r in rows}) < 5)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PerfModelError as refused:
        sys.stderr.write(f"error: {refused}\n")
        sys.exit(refused.exit_code)
