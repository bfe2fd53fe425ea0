"""Reading measurements: tidy CSV, pytest-benchmark JSON, Measurement files."""

from __future__ import annotations

import json

import pytest

from perfmodel.errors import BadValue, MalformedFile, MissingFile
from perfmodel.measure import read_measurements, read_roofs
from perfmodel.workload import Attention, Collective, Conv, DeltaRule, Gemm, Norm, stack, stack_key

HEADER = "source,device,op,framework,kernel,dtype,m,n,k,measured,unit,roofline,flag\n"
ROW = "aic,H100-SXM-80GB,gemm,trtllm-1.0.0,,int8_w8a16,1,256,768,0.5,ms,0.25,\n"


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_gemm_row(tmp_path):
    """Milliseconds become seconds; a weight-only type is 16-bit activations and int8 weights."""
    (m,) = read_measurements(write(tmp_path, HEADER + ROW))

    assert (m.value, m.naive, m.quantity, m.device) == (5e-4, 2.5e-4, "latency", "H100-SXM-80GB")
    assert isinstance(m.workload, Gemm)
    assert (m.workload.dtype, m.workload.weight_dtype) == ("bf16", "int8")
    assert m.implementation == "trtllm"


@pytest.mark.parametrize(
    ("columns", "row", "kind", "expected"),
    [
        (
            "batch,q_len,kv_len,n_head,n_kv_head,head_dim", "2,8,64,32,4,128",
            Attention, {"batch": 2, "q_len": 8, "kv_len": 64, "heads": 32, "kv_heads": 4},
        ),
        ("num_gpus,bytes", "8,4096", Collective, {"ranks": 8, "bytes": 4096, "kind": "all_gather"}),
        ("m,n", "4096,32", Norm, {"rows": 4096, "cols": 32, "kind": "softmax"}),
    ],
    ids=["attention", "collective", "softmax"],
)  # fmt: skip
def test_rows_by_operator(tmp_path, columns, row, kind, expected):
    """Each operator name reads its own shape columns."""
    op = {Attention: "attn_decode", Collective: "all_gather", Norm: "softmax"}[kind]
    text = f"device,op,dtype,{columns},measured,unit\na100,{op},fp16,{row},1,us\n"
    (m,) = read_measurements(write(tmp_path, text))

    assert isinstance(m.workload, kind)
    assert {k: getattr(m.workload, k) for k in expected} == expected


@pytest.mark.parametrize(
    ("kernel", "phase", "kind"),
    [
        ("causal_conv1d_fn", "context", Conv),
        ("chunk_gated_delta_rule", "context", DeltaRule),
        ("fused_recurrent", "generation", DeltaRule),
    ],
)
def test_gated_delta_kernels(tmp_path, kernel, phase, kind):
    """One layer's rows are its convolution or its delta rule; generation is one token."""
    text = (
        "device,op,kernel,phase,dtype,batch,seq_len,d_conv,n_k_head,k_dim,n_v_head,v_dim,measured,unit\n"
        f"h100,gdn,{kernel},{phase},bf16,4,512,4,2,128,8,128,1,ms\n"
    )
    (m,) = read_measurements(write(tmp_path, text))

    assert isinstance(m.workload, kind)
    if kind is Conv:
        assert m.workload.in_channels == 2 * 2 * 128 + 8 * 128
    else:
        assert m.workload.seq_len == (1 if phase == "generation" else 512)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("op,measured\ngemm,1\n", "file"),
        (HEADER + ROW.replace("0.5", "fast"), "measured"),
        (HEADER + ROW.replace("0.5", "-1"), "measured"),
        (HEADER + ROW.replace("0.5", "nan"), "measured"),
        (HEADER + ROW.replace(",ms,", ",fortnight,"), "unit"),
        (HEADER + ROW.strip() + ",one,too,many\n", "file"),
        (HEADER + "aic,H100\n", "file"),
        ("", "file"),
    ],
    ids=["columns", "text", "negative", "nan", "unit", "long", "short", "empty"],
)
def test_malformed_table(tmp_path, text, field):
    """A broken table is refused naming the field; nothing is dropped in silence."""
    with pytest.raises(MalformedFile) as caught:
        read_measurements(write(tmp_path, text))

    assert caught.value.field == field


def test_malformed_shape_is_a_refused_row(tmp_path):
    """A row whose shape makes no sense is kept, with the reason, beside the good ones."""
    rows = read_measurements(write(tmp_path, HEADER + ROW + ROW.replace(",1,256,", ",0,256,")))

    assert [r.refusal for r in rows] == [None, "malformed shape: m"]


@pytest.mark.parametrize("name", ["absent.csv", "absent.json"])
def test_absent_file(tmp_path, name):
    """A file that is not there is missing, not malformed."""
    with pytest.raises(MissingFile):
        read_measurements(tmp_path / name)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', '{"schema": 1, "measurements": 3}'])
def test_malformed_json(tmp_path, text):
    """JSON of another kind, or cut short, is refused."""
    with pytest.raises(MalformedFile):
        read_measurements(write(tmp_path, text, "m.json"))


def measurement_file(tmp_path, **changes):
    kernel = {
        "kind": "kernel",
        "workload": Gemm(m=4, n=8, k=16, dtype="int8").to_dict(),
        "kernel": "refkernels.int8_gemm/05",
        "launch": "stream",
        "time_s": 2e-6,
        "gate": {"passed": True},
    }
    roof = {"kind": "roof", "quantity": "dram_read", "value": 4.4e12, "unit": "B/s", "spread": 0.01}
    data = {
        "schema": 1,
        "device": {"name": "h200-sxm"},
        "date": "2026-11-23",
        "measurements": [kernel | changes, roof],
    }
    return write(tmp_path, json.dumps(data), "m.json")


def test_measurement_file(tmp_path):
    """Kernel entries and roofs are read apart."""
    path = measurement_file(tmp_path)
    (m,), (roof,) = read_measurements(path), read_roofs(path)

    assert (m.device, m.value, m.launch) == ("h200-sxm", 2e-6, "stream")
    assert (roof.quantity, roof.value, roof.spread) == ("dram_read", 4.4e12, 0.01)


def test_red_gate_is_never_scored(tmp_path):
    """A time whose correctness gate is red carries a refusal."""
    (m,) = read_measurements(measurement_file(tmp_path, gate={"passed": False}))

    assert m.refusal == "correctness gate is red"


@pytest.mark.parametrize(
    "changes", [{"time_s": 0}, {"time_s": "1"}, {"workload": {"op": "gemm"}}, {"workload": None}]
)
def test_malformed_measurement(tmp_path, changes):
    """A broken entry names its place and field."""
    with pytest.raises(MalformedFile):
        read_measurements(measurement_file(tmp_path, **changes))


def test_pytest_benchmark_file(tmp_path):
    """Event time in extra_info wins over the wall median; other benchmarks are passed over."""
    info = {"workload": {"op": "norm", "rows": 8, "cols": 64}, "device": "t4", "time_s": 3e-6}
    data = {
        "machine_info": {},
        "benchmarks": [
            {"name": "a", "extra_info": info, "stats": {"median": 9e-6}},
            {"name": "b", "extra_info": {}, "stats": {"median": 1.0}},
        ],
    }
    (m,) = read_measurements(write(tmp_path, json.dumps(data), "b.json"))

    assert (m.value, m.device) == (3e-6, "t4")


def test_stack_keeps_order_and_values():
    """A stacked workload equals its members, element by element."""
    members = [Gemm(m=m, n=8, k=16) for m in (3, 1, 2)]
    whole = stack(members)

    assert whole.shape == (3,)
    assert whole.m.tolist() == [3, 1, 2]


def test_stack_refuses_a_mixture():
    """Different data types are different kernels: they do not stack."""
    mixed = [Gemm(m=1, n=1, k=1), Gemm(m=1, n=1, k=1, dtype="fp16")]
    assert stack_key(mixed[0]) != stack_key(mixed[1])

    with pytest.raises(BadValue):
        stack(mixed)


def test_stack_tells_a_figure_from_none():
    """A window is not lost among rows without one."""
    shape = {"batch": 1, "q_len": 64, "kv_len": 64, "heads": 1, "head_dim": 64}
    windowed = [Attention(**shape), Attention(**shape, window=8)]

    with pytest.raises(BadValue):
        stack(windowed)
    assert stack([windowed[1], windowed[1]]).window.tolist() == [8, 8]
