"""``perfmodel compare``: one question on two to six devices, side by side."""

from __future__ import annotations

from perfmodel.cli._options import (
    Batch,
    Chunk,
    Context,
    Dtype,
    Ep,
    Fields,
    KvDtype,
    OnSeveral,
    Phase,
    Pp,
    Price,
    Prompt,
    Subject,
    Tp,
    WeightDtype,
    count,
    each,
    given,
    optional_count,
    several,
)
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    subject: Subject,
    fields: Fields = None,
    *,
    on: OnSeveral,
    phase: Phase = None,
    batch: Batch = "1",
    context: Context = None,
    prompt: Prompt = None,
    tp: Tp = "1",
    pp: Pp = "1",
    ep: Ep = "1",
    dtype: Dtype = None,
    weight_dtype: WeightDtype = None,
    kv_dtype: KvDtype = None,
    chunk: Chunk = None,
    price: Price = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Compare devices on an operator or a model's step: time, room in memory, cost."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.cli._subjects import (
        model_named,
        op_named,
        phase_of,
        refuse_for_operator,
        workload,
    )
    from perfmodel.report.times import comparison_shown

    op = op_named(subject)
    counted = {"batch": batch, "context": context, "prompt": prompt, "tp": tp, "pp": pp, "ep": ep}
    types = {"dtype": dtype, "weight_dtype": weight_dtype, "kv_dtype": kv_dtype}
    if op is not None:
        refuse_for_operator(op, phase=phase, chunk=chunk, **counted, **types)
        found = api.compare(workload(op, fields or []), several(on), price=price)
    else:
        shape = model_named(subject, fields or [])
        sizes = each(count, **counted)
        more = given(chunk=optional_count(chunk, "chunk"), price=price)
        asked = phase_of(shape, phase)
        found = api.compare(shape, several(on), phase=asked, **given(**types), **sizes, **more)
    show(found.to_dict(), comparison_shown(found), as_json=json, as_csv=csv)
    return 0
