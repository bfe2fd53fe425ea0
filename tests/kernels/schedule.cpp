// The integer functions of cuda/attention/schedule.cuh, for ctypes.
#include "attention/schedule.cuh"

extern "C" {

void visible_keys(int row, int q_len, int kv_len, int causal, int window, int* out) {
    const attention::Range r = attention::visible_keys(row, q_len, kv_len, causal, window);
    out[0] = r.first;
    out[1] = r.last;
}

void key_blocks(int first_row, int rows, int keys, int q_len, int kv_len, int causal, int window,
                int* out) {
    const attention::Blocks b =
        attention::key_blocks(first_row, rows, keys, q_len, kv_len, causal, window);
    out[0] = b.needed.first;
    out[1] = b.needed.last;
    for (int i = b.needed.first; i < b.needed.last; ++i) out[2 + i] = b.masked(i);
}

void uniform_tiles(int blocks, int heads, int sequences, int section, int* out) {
    for (int i = 0; i < blocks * heads * sequences; ++i) {
        const attention::Tile t = attention::uniform_tile(i, blocks, heads, sequences, section);
        out[3 * i] = t.block;
        out[3 * i + 1] = t.head;
        out[3 * i + 2] = t.sequence;
    }
}

// As CTA `cta` of `ctas` would find them if all CTAs took turns.
int packed_tiles(const int* starts, int sequences, int heads, int rows, int cta, int ctas, int* out) {
    attention::PackedTiles tiles;
    attention::Tile t;
    int count = 0;
    for (int i = cta; tiles.find(i, starts, sequences, heads, rows, t); i += ctas, ++count) {
        out[3 * count] = t.block;
        out[3 * count + 1] = t.head;
        out[3 * count + 2] = t.sequence;
    }
    return count;
}

int share_begin(int cta, int ctas, int units) {
    const attention::Shares shares = attention::uneven_shares(units, 0, ctas);
    return cta < shares.ctas ? shares.share(cta).first : units;
}
int share_owner(int unit, int ctas, int units) {
    return attention::uneven_shares(units, 0, ctas).owner(unit);
}
int quotient(int a, int b) { return attention::quotient(a, b); }

// Begins of the CTAs' shares, and the end of the last; returns how many CTAs have one.
int even_shares(int lists, int list_units, int most, int* begins) {
    const attention::Shares shares = attention::even_shares(lists, list_units, most);
    for (int cta = 0; cta < shares.ctas; ++cta) {
        begins[cta] = shares.share(cta).first;
        begins[cta + 1] = shares.share(cta).last;
    }
    return shares.ctas;
}
int even_owner(int lists, int list_units, int most, int unit) {
    return attention::even_shares(lists, list_units, most).owner(unit);
}
int piece_slot(int cta, int list, int begin) { return attention::piece_slot(cta, list, begin); }
int find_entry(const int* prefix, int count, int value) {
    return attention::find_entry(prefix, count, value);
}
int first_key(int q_len, int kv_len, int window, int tile) {
    return attention::first_key(q_len, kv_len, window, tile);
}
}
