"""Laws of shapes and caches, and: whatever a configuration holds, no untyped error escapes."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel import catalog
from perfmodel.errors import PerfModelError
from perfmodel.models.cache import kv_bytes, kv_bytes_per_token, state_bytes
from perfmodel.models.describe import model_sheet
from perfmodel.models.hf import load_model, model_names, shape_from_config
from perfmodel.models.parameters import parameter_count, weight_bytes

NAMES = model_names()
CONFIGS = {name: json.loads(catalog.find("models", name).read_text()) for name in NAMES}

names = st.sampled_from(NAMES)
decoders = st.sampled_from([n for n in NAMES if load_model(n).decoder])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 9),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw):
    """A shipped configuration with up to three keys dropped, replaced, or moved elsewhere."""
    config = dict(CONFIGS[draw(names)])
    if "text_config" in config and draw(st.booleans()):
        config["text_config"] = dict(config["text_config"])
        target = config["text_config"]
    else:
        target = config
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(target)))
        if draw(st.booleans()):
            target[key] = draw(junk)
        else:
            target.pop(key)
        if not target:
            break
    return config


@given(mutated())
def test_mutations_end_in_an_answer_or_a_typed_error(config):
    """A wrong value is refused by a typed error with a message; what passes can be counted."""
    shape = None
    with contextlib.suppress(PerfModelError):
        shape = shape_from_config(config, "mutated.json")
    if shape is not None:
        assert model_sheet(shape)["params"]["total"] > 0
        assert np.isfinite(weight_bytes(shape))
        assert np.isfinite(kv_bytes(shape, 100))


@given(names, st.data())
def test_truncated_files_are_refused(tmp_path_factory, name, data):
    """Any proper prefix of a configuration's text is malformed, not half read."""
    text = json.dumps(CONFIGS[name])
    cut = data.draw(st.integers(0, len(text) - 1))
    path = tmp_path_factory.mktemp("cut") / "cut.json"
    path.write_text(text[:cut])
    with pytest.raises(PerfModelError, match=r"cut\.json"):
        load_model(path)


@given(decoders, st.integers(0, 10**6), st.integers(0, 10**6))
def test_cache_is_linear_in_tokens(name, a, b):
    """Without windows bytes are proportional to tokens; with them no more than that."""
    shape = load_model(name)
    per_token = kv_bytes_per_token(shape)
    windows = any(getattr(g.mixer, "window", None) for g in shape.layers)
    both = kv_bytes(shape, a) + kv_bytes(shape, b)
    if windows:
        assert kv_bytes(shape, a + b) <= both
        assert kv_bytes(shape, a) <= a * per_token
    else:
        assert kv_bytes(shape, a + b) == both == (a + b) * per_token


@given(decoders, st.integers(1, 10**5), st.sampled_from([1, 16, 64, 100]))
def test_pages_are_exact_at_their_boundaries(name, tokens, page):
    """A whole number of pages costs what its tokens cost; one token more costs a page more."""
    shape = load_model(name)
    whole = -(-tokens // page) * page
    paged = kv_bytes(shape, tokens, page_size=page)
    assert paged >= kv_bytes(shape, tokens)
    if not any(getattr(g.mixer, "window", None) for g in shape.layers):
        assert paged == kv_bytes(shape, whole) == kv_bytes(shape, whole, page_size=page)
        more = kv_bytes(shape, whole + 1, page_size=page) - paged
        assert more == page * kv_bytes_per_token(shape)


@given(st.integers(1, 64), st.sampled_from([16, 64, 128]), st.integers(1, 8))
def test_grouped_with_as_many_kv_heads_is_multi_head(heads, head_dim, layers):
    """GQA with kv_heads = heads has the cache and the parameters of multi-head attention."""
    config = {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "vocab_size": 1000,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "head_dim": head_dim,
    }
    multi = shape_from_config(config, "mha")
    grouped = shape_from_config({**config, "num_key_value_heads": heads}, "gqa")
    assert kv_bytes_per_token(multi) == kv_bytes_per_token(grouped) == 4 * layers * heads * head_dim
    assert parameter_count(multi) == parameter_count(grouped)


@given(decoders, st.integers(1, 10**6))
def test_state_is_independent_of_context(name, context):
    """A model without attention keeps the same bytes at every context."""
    shape = load_model(name)
    if not kv_bytes_per_token(shape):
        assert kv_bytes(shape, context) == 0
        assert state_bytes(shape) > 0


@given(decoders, st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_arrays_equal_scalars(name, contexts):
    """One call over many contexts equals the scalar calls, bit for bit."""
    shape = load_model(name)
    together = kv_bytes(shape, np.array(contexts), page_size=16)
    apart = [kv_bytes(shape, c, page_size=16) for c in contexts]
    assert np.broadcast_to(together, len(contexts)).tolist() == apart


@given(names, st.sampled_from([1, 2, 4, 8]), st.sampled_from(["bf16", "fp8", "int4"]))
def test_devices_together_hold_at_least_the_model(name, tp, dtype):
    """Splitting never loses a byte, and one device never holds more than the whole."""
    shape = load_model(name)
    whole, part = weight_bytes(shape, dtype), weight_bytes(shape, dtype, tp=tp)
    # a row split leaves shorter columns: at most one more scale each
    assert part <= whole
    assert part * tp >= whole * (1 - 1e-12)
