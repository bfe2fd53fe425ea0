"""The integer functions that the attention kernels schedule and mask by, built for the host."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import numpy as np
import pytest

from refkernels._sources import data_dir
from refkernels.attention.naive import Form, visible

SOURCE = Path(__file__).with_name("schedule.cpp")


@pytest.fixture(scope="module")
def schedule(build):
    return build(SOURCE, f"-I{data_dir('cuda')}")


def ints(count):
    return (ctypes.c_int * count)()


MASKS = list(
    itertools.product(
        [(1, 1), (5, 5), (3, 11), (11, 3), (40, 40), (17, 50)], [0, 1], [0, 1, 2, 7, 100]
    )
)


@pytest.mark.parametrize(("lens", "causal", "window"), MASKS)
def test_visible_keys_are_the_mask(schedule, lens, causal, window):
    """Row by row, the range is what the definition's mask lets through."""
    q_len, kv_len = lens
    mask = visible(q_len, kv_len, Form(causal=bool(causal), window=window or None))
    out = ints(2)
    for row in range(q_len):
        schedule.visible_keys(row, q_len, kv_len, causal, window, out)
        expected = np.zeros(kv_len, bool)
        expected[out[0] : out[1]] = True
        assert (mask[row] == expected).all(), row


@pytest.mark.parametrize(("lens", "causal", "window"), MASKS)
def test_key_blocks_cover_the_mask(schedule, lens, causal, window):
    """Every visible pair lies in a needed block, and a block left unmasked hides nothing."""
    q_len, kv_len = lens
    mask = visible(q_len, kv_len, Form(causal=bool(causal), window=window or None))
    for rows, keys in ((4, 3), (8, 8), (64, 16)):
        for first in range(0, q_len, rows):
            out = ints(2 + kv_len)
            schedule.key_blocks(first, rows, keys, q_len, kv_len, causal, window, out)
            tile = mask[first : first + rows]
            needed = np.zeros(kv_len, bool)
            needed[max(0, out[0] * keys) : max(0, out[1] * keys)] = True
            assert not (tile & ~needed).any()
            for block in range(out[0], out[1]):
                if not out[2 + block]:
                    whole = tile[:, block * keys : (block + 1) * keys]
                    assert whole.shape[1] == keys
                    assert whole.all()


@pytest.mark.parametrize(
    ("blocks", "heads", "sequences", "section"),
    [(1, 1, 1, 1), (5, 4, 3, 2), (8, 16, 1, 16), (3, 7, 2, 5)],
)
def test_uniform_tiles_are_each_worked_once(schedule, blocks, heads, sequences, section):
    """The order is a permutation of all tiles; within a section the long ones come first."""
    count = blocks * heads * sequences
    out = ints(3 * count)
    schedule.uniform_tiles(blocks, heads, sequences, section, out)
    tiles = np.array(out).reshape(count, 3)

    assert len({tuple(t) for t in tiles}) == count
    assert (tiles.min(0) >= 0).all()
    assert (tiles.max(0) == (blocks - 1, heads - 1, sequences - 1)).all()
    pairs = tiles[:, 2] * heads + tiles[:, 1]
    for chapter in range(-(-heads * sequences // section)):
        inside = tiles[pairs // section == chapter, 0]
        assert (np.diff(inside) <= 0).all()


@pytest.mark.parametrize("ctas", [1, 3, 132])
def test_packed_tiles_are_each_worked_once(schedule, ctas):
    """All CTAs together find every block of every head, empty sequences and all."""
    lens, heads, rows = (5, 0, 128, 129, 1, 300, 0), 3, 64
    starts = ints(len(lens) + 1)
    starts[:] = np.concatenate(([0], np.cumsum(lens)))
    found = []
    for cta in range(ctas):
        out = ints(3 * 100)
        count = schedule.packed_tiles(starts, len(lens), heads, rows, cta, ctas, out)
        found += [tuple(t) for t in np.array(out).reshape(-1, 3)[:count]]
    expected = [
        (block, head, i)
        for i, n in enumerate(lens)
        for head in range(heads)
        for block in range(-(-n // rows))
    ]

    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("ctas", [1, 2, 7, 132])
@pytest.mark.parametrize("units", [1, 2, 131, 132, 133, 1000])
def test_shares_are_even_and_owned(schedule, ctas, units):
    """Shares follow one another, differ by one unit at most, and each unit finds its owner."""
    begins = [schedule.share_begin(c, ctas, units) for c in range(ctas + 1)]

    assert (begins[0], begins[-1]) == (0, units)
    assert set(np.diff(begins)) <= {units // ctas, units // ctas + 1}
    for unit in range(units):
        owner = schedule.share_owner(unit, ctas, units)
        assert begins[owner] <= unit < begins[owner + 1]


def test_every_piece_has_a_slot_of_its_own(schedule):
    """Pieces of lists that several CTAs share never meet in a slot; two slots a CTA are enough."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        ctas = int(rng.integers(1, 20))
        prefix = np.concatenate(([0], np.cumsum(rng.integers(1, 12, rng.integers(1, 15)))))
        units, slots = int(prefix[-1]), set()
        for begin, end in itertools.pairwise(int(x) for x in prefix):
            first = schedule.share_owner(begin, ctas, units)
            last = schedule.share_owner(end - 1, ctas, units)
            for cta in range(first, last + 1) if last > first else ():
                slot = schedule.piece_slot(cta, begin, schedule.share_begin(cta, ctas, units))
                assert 2 * cta <= slot < 2 * cta + 2
                assert slot not in slots
                slots.add(slot)


@pytest.mark.parametrize("most", [1, 3, 9, 132])
def test_lists_of_one_length_are_cut_alike(schedule, most):
    """Shares cover the line in order; the longest is at most a unit longer than need be. Where
    several CTAs make one list, or several lists one share, all are cut alike."""
    for lists, each in itertools.product((1, 2, 3, 8, 24, 64, 72, 132, 256), (1, 2, 17, 64)):
        units, raw = lists * each, ints(most + 1)
        ctas = schedule.even_shares(lists, each, most, raw)
        begins = list(raw)[: ctas + 1]

        assert ctas <= min(units, most)
        assert (begins[0], begins[-1]) == (0, units)
        assert min(np.diff(begins)) > 0
        assert max(np.diff(begins)) <= -(-units // most) + 1
        if ctas % lists == 0 or lists % ctas == 0:
            cuts = [[b - x for b in begins if x < b < x + each] for x in range(0, units, each)]
            assert all(c == cuts[0] for c in cuts)


@pytest.mark.parametrize(("lists", "each", "most"), [(8, 64, 132), (64, 7, 9), (3, 17, 7)])
def test_owners_are_those_whose_share_holds_the_unit(schedule, lists, each, most):
    """However the lists are cut."""
    raw = ints(most + 1)
    ctas = schedule.even_shares(lists, each, most, raw)
    begins = list(raw)[: ctas + 1]
    for unit in range(lists * each):
        owner = schedule.even_owner(lists, each, most, unit)
        assert begins[owner] <= unit < begins[owner + 1]


@pytest.mark.parametrize(
    ("lists", "each", "ctas"),
    [(8, 512, 128), (64, 64, 128), (256, 16, 128), (256, 64, 132), (72, 64, 132), (8, 4096, 132)],
)
def test_a_device_of_132_multiprocessors(schedule, lists, each, ctas):
    """8 KV heads, 268 MB: 16 CTAs to a list, 2 to a list, 2 lists to a CTA. Four times as much and
    more is cut anywhere: 3 % of a share are more than a unit there."""
    assert schedule.even_shares(lists, each, 132, ints(133)) == ctas


def test_quotients_are_exact(schedule):
    """As Python's, up to the largest line of units: 1024 sequences of a million keys, 64 heads."""
    rng = np.random.default_rng(1)
    for _ in range(20_000):
        b = int(np.exp(rng.uniform(0, np.log(2**24))))
        a = int(rng.integers(0, min(2**31, b * 2**21)))
        assert schedule.quotient(a, b) == a // b
        edge = min(a // b * b, 2**31 - 1)
        assert schedule.quotient(edge, b) == edge // b


def test_find_entry_is_a_search(schedule):
    """As NumPy's searchsorted on the same prefix."""
    prefix = np.concatenate(([0], np.cumsum([1, 5, 2, 9, 1, 1, 30]))).astype(np.int32)
    raw = ints(len(prefix))
    raw[:] = prefix
    for value in range(int(prefix[-1])):
        expected = int(np.searchsorted(prefix, value, side="right")) - 1
        assert schedule.find_entry(raw, len(prefix) - 1, value) == expected


def test_first_key_reaches_the_window(schedule):
    """No key that the first query sees lies before it, and it starts a tile."""
    for q_len, kv_len, window in itertools.product((1, 4, 16), (16, 100, 333), (0, 1, 16, 99)):
        first = schedule.first_key(q_len, kv_len, window, 16)
        mask = visible(q_len, kv_len, Form(causal=True, window=window or None))
        assert first % 16 == 0
        assert first <= int(np.flatnonzero(mask.any(0))[0])
