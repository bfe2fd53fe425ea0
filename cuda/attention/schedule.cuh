// Who sees what and who works on what: pure integer functions. Includes nothing, so that a host
// compiler builds the same text and the tests can run it against the definition.
//
// Query i of a sequence is the token at position kv_len - q_len + i (bottom-right alignment).
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define ATTENTION_BOTH __host__ __device__ __forceinline__
#else
#define ATTENTION_BOTH inline
#endif

namespace attention {

ATTENTION_BOTH int smaller(int a, int b) { return a < b ? a : b; }
ATTENTION_BOTH int larger(int a, int b) { return a > b ? a : b; }
ATTENTION_BOTH int blocks_of(int count, int size) { return (count + size - 1) / size; }

// A half-open range of keys, or of blocks of keys; empty when first >= last.
struct Range {
    int first, last;
};

// The keys that query `row` sees. `window` keeps the last so many of them; 0 keeps all.
ATTENTION_BOTH Range visible_keys(int row, int q_len, int kv_len, int causal, int window) {
    const int end = causal ? smaller(kv_len, larger(0, row + 1 + kv_len - q_len)) : kv_len;
    return {window > 0 ? larger(0, end - window) : 0, end};
}

// The blocks of keys that a tile of queries needs, and those among them that every one of its
// queries sees whole, so that no score there needs a mask.
struct Blocks {
    Range needed, whole;
    ATTENTION_BOTH int count() const { return needed.last - needed.first; }
    ATTENTION_BOTH bool masked(int block) const {
        return block < whole.first || block >= whole.last;
    }
};

// Both ends of visible_keys grow with the row: the first query bounds the left, the last the right.
ATTENTION_BOTH Blocks key_blocks(int first_row, int rows, int block_keys, int q_len, int kv_len,
                                 int causal, int window) {
    const int last_row = smaller(first_row + rows, q_len) - 1;
    const Range head = visible_keys(first_row, q_len, kv_len, causal, window);
    const Range tail = visible_keys(last_row, q_len, kv_len, causal, window);
    Blocks blocks{{head.first / block_keys, blocks_of(tail.last, block_keys)},
                  {blocks_of(tail.first, block_keys), head.last / block_keys}};
    if (first_row >= q_len || tail.last <= head.first) blocks.needed.last = blocks.needed.first;
    return blocks;
}

// ---------------------------------------------------------------- prefill: tiles of queries

struct Tile {
    int block, head, sequence;
};

// Tile `index` of sequences of one length. `section` (sequence, head) pairs are worked together,
// so that their keys and values stay in L2; within a section the tiles with the most keys under a
// causal mask come first, so that the last ones to be handed out are the shortest.
ATTENTION_BOTH Tile uniform_tile(int index, int blocks, int heads, int sequences, int section) {
    const int pairs = heads * sequences;
    const int chapter = index / (blocks * section);
    const int within = index - chapter * blocks * section;
    const int width = smaller(section, pairs - chapter * section);
    const int pair = chapter * section + within % width;
    return {blocks - 1 - within / width, pair % heads, pair / heads};
}

// Walks tiles of packed sequences of any length in ascending order of `index`: amortised, a step
// costs a constant. `starts` holds sequences + 1 cumulative lengths.
struct PackedTiles {
    int sequence = 0;
    int first_index = 0;

    ATTENTION_BOTH bool find(int index, const int* starts, int sequences, int heads,
                             int block_rows, Tile& tile) {
        for (; sequence < sequences; ++sequence) {
            const int blocks = blocks_of(starts[sequence + 1] - starts[sequence], block_rows);
            const int within = index - first_index;
            if (within < blocks * heads) {
                tile = {blocks - 1 - within / heads, within % heads, sequence};
                return true;
            }
            first_index += blocks * heads;
        }
        return false;
    }
};

// ---------------------------------------------------------------- decode: shares of all the keys
//
// The keys of every (sequence, group of heads) are cut into units; all units stand in one line, of which
// every CTA takes a share: they differ by one unit at most. A share may span several lists of keys, and a
// list several shares.

// a / b for 0 <= a, 0 < b and a quotient below 2^21, in 10 instructions instead of a division's 25: what is
// walked once per launch takes as long as fetching it.
ATTENTION_BOTH int quotient(int a, int b) {
#if defined(__CUDA_ARCH__)
    const int about = static_cast<int>(__fdividef(static_cast<float>(a), static_cast<float>(b)));
#else
    const int about = static_cast<int>(static_cast<float>(a) / static_cast<float>(b));
#endif
    const int rest = a - about * b;
    return about + (rest >= b) - (rest < 0);
}

// The CTA of `ctas` whose share of `units` holds `unit`.
ATTENTION_BOTH int share_owner(int unit, int ctas, int units) {
    const int each = quotient(units, ctas), longer = units - each * ctas, before = longer * (each + 1);
    return unit < before ? quotient(unit, each + 1) : longer + quotient(unit - before, each);
}

// Who takes what of the line: each stretch of it is shared evenly by a group of CTAs. The whole line is one
// stretch, or each list is, so that all are cut at the same places.
struct Shares {
    int ctas;            // that have a share
    int list_units;      // of each list, or 0: they differ
    int group, stretch;  // CTAs, and the units that they share

    ATTENTION_BOTH Range share(int cta) const {
        const int part = quotient(cta, group), rank = cta - part * group;
        const int each = quotient(stretch, group), longer = stretch - each * group;
        const int first = part * stretch + rank * each + smaller(rank, longer);
        return {first, first + each + (rank < longer ? 1 : 0)};
    }

    // The CTA whose share holds `unit`.
    ATTENTION_BOTH int owner(int unit) const {
        const int part = quotient(unit, stretch);
        return part * group + share_owner(unit - part * stretch, group, stretch);
    }
};

// Of `most` CTAs as many as have a unit.
ATTENTION_BOTH Shares uneven_shares(int units, int list_units, int most) {
    const int ctas = smaller(most, units);
    return {ctas, list_units, ctas, units};
}

// Lists of one length are cut alike, by fewer CTAs, or stay whole, several to a CTA, where that makes no
// share longer by more than a unit: a second piece costs its CTA about as much (2.5 us beside 1.9 us for a
// unit of 64 KB, an H200's share of 4.5 TB/s).
ATTENTION_BOTH Shares even_shares(int lists, int list_units, int most) {
    const int units = lists * list_units;
    const int per_list = smaller(quotient(most, lists), list_units);
    const int together = quotient(lists + most - 1, most), apart = quotient(lists, together);
    const int longest = quotient(units + most - 1, most) + 1;
    if (per_list > 0 && quotient(list_units + per_list - 1, per_list) <= longest)
        return {per_list * lists, list_units, per_list, list_units};
    const bool whole = apart * together == lists && together * list_units <= longest;
    return uneven_shares(units, list_units, whole ? apart : most);
}

// The piece of a list that CTA `cta` has lies in slot 2 cta where its share begins in that list, in
// 2 cta + 1 where the list begins inside its share.
ATTENTION_BOTH int piece_slot(int cta, int list_begin, int share_begin) {
    return 2 * cta + (list_begin > share_begin ? 1 : 0);
}

// The first key a decode step has to read: the left edge of its first query's window, rounded down
// to a tile so that every warp starts at the beginning of one.
ATTENTION_BOTH int first_key(int q_len, int kv_len, int window, int tile) {
    return window > 0 ? larger(0, kv_len - q_len + 1 - window) / tile * tile : 0;
}

// The entry of ascending `prefix` (prefix[0] = 0, `count` + 1 entries) with
// prefix[i] <= value < prefix[i + 1].
ATTENTION_BOTH int find_entry(const int* prefix, int count, int value) {
    int low = 0, high = count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (prefix[middle] <= value) low = middle;
        else high = middle;
    }
    return low;
}

}  // namespace attention
