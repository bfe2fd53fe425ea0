"""How long a step of a model takes: the operators of its phase, as an engine runs them.

What is asked and what the answer rests on is gathered here; :mod:`perfmodel.models.stepping` adds
up the operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.models.engines import Engine, load_engine
from perfmodel.models.flow import Dtypes
from perfmodel.models.host import host_fit
from perfmodel.models.parallel import Split, check_split
from perfmodel.models.phases import Phase, encoder_length, ops
from perfmodel.models.shape import AttentionMixer, LayerGroup, ModelShape
from perfmodel.models.stepping import Serving, combine, step_features
from perfmodel.ops.numbers import ceil_div, f64
from perfmodel.roofline.choice import runs_kernels
from perfmodel.roofline.residuals import Residuals
from perfmodel.workload import Array, Size


def step(
    shape: ModelShape,
    device: Device,
    *,
    phase: Phase,
    batch: Size = 1,
    prompt: Size | None = None,
    context: Size | None = None,
    tp: Size = 1,
    pp: Size = 1,
    ep: Size = 1,
    sequence_parallel: bool = False,
    dtypes: Dtypes | None = None,
    chunk: Size | None = None,
    prompts: Size = 1,
    engine: str | None = None,
) -> Estimate:
    """How long one step (decode, mixed, encode) or a whole prefill takes on devices of one kind.

    ``time_s`` is the sum of its operators; ``lower_bound_s`` the largest roof of the whole step on
    one device, where only weights, cache, state and embedding rows must move, collectives apart
    (``facts["collective_lower_bound_s"]``). ``facts`` are per device. ``engine`` names the serving
    engine whose kernels run it (:mod:`perfmodel.models.engines`) and whose host overhead is added,
    once per chunk of a prefill.

    Raises:
        BadValue, ImpossibleSplit: as :func:`perfmodel.models.phases.ops`.
        UnsupportedDtype: the device has no rate for a data type.
        UnknownName: no serving engine of that name.
    """
    split = Split(tp=tp, pp=pp, ep=ep, sequence_parallel=sequence_parallel)
    types = (dtypes or Dtypes()).on(device)
    runs = None if engine is None else load_engine(engine)
    shape = shape if runs is None or runs.kernels.windows else without_windows(shape)
    listed = ops(
        shape,
        phase=phase,
        batch=batch,
        prompt=prompt,
        context=context,
        split=split,
        dtypes=types,
        chunk=chunk,
        prompts=prompts,
    )
    noted = (
        *check_split(shape, split, device),
        *_beyond(shape, prompt, context),
        *_replaced(dtypes, types),
    )
    return combine(
        listed,
        device,
        name=f"{shape.name} {phase}",
        shape=shape,
        split=split,
        dtypes=types,
        tokens=_tokens(shape, phase, batch, prompt, chunk, prompts),
        steps=_steps(phase, prompt, chunk),
        assumptions=noted,
        serving=Serving(
            engine=runs, residuals=_residuals(shape, device, phase, split, types, runs)
        ),
    )


def features(
    shape: ModelShape,
    device: Device,
    engine: Engine,
    *,
    phase: Phase,
    tp: Size = 1,
    dtypes: Dtypes | None = None,
    **sizes: Size,
) -> dict[str, Array]:
    """A step's seconds by feature, as :func:`step` of ``engine`` adds them up; for fits.

    Raises: as :func:`step`.
    """
    shape = shape if engine.kernels.windows else without_windows(shape)
    types = (dtypes or Dtypes()).on(device)
    listed = ops(shape, phase=phase, split=Split(tp=tp), dtypes=types, **sizes)
    return step_features(
        listed, device, engine=engine, model=shape.name, steps=np.float64(1.0), tp=tp
    )


def without_windows(shape: ModelShape) -> ModelShape:
    """The model as engines without windowed kernels run it: every token stays in the cache."""
    return replace(shape, layers=tuple(_unbounded(group) for group in shape.layers))


def _unbounded(group: LayerGroup) -> LayerGroup:
    mixer = group.mixer
    if isinstance(mixer, AttentionMixer) and mixer.window is not None:
        return replace(group, mixer=replace(mixer, window=None))
    return group


def _residuals(
    shape: ModelShape,
    device: Device,
    phase: Phase,
    split: Split,
    dtypes: Dtypes,
    engine: Engine | None,
) -> Residuals | None:
    """Residuals of whole served steps, where the question is of the kind that was fitted."""
    fitted = host_fit()
    apart = bool(np.any(np.asarray(split.pp) > 1) or np.any(np.asarray(split.ep) > 1))
    if fitted is None or phase == "encode" or apart:
        return None
    known = device.vendor in fitted.vendors and dtypes.act in fitted.dtypes
    attends = all(isinstance(g.mixer, AttentionMixer) for g in shape.layers)
    if not (known and attends and runs_kernels(device)):
        return None
    return fitted.residuals["bare" if engine is None else "step"]


def _tokens(
    shape: ModelShape,
    phase: Phase,
    batch: Size,
    prompt: Size | None,
    chunk: Size | None,
    prompts: Size,
) -> Array:
    """Tokens that one step reads or makes, over all sequences."""
    if phase == "decode":
        return f64(batch)
    if phase == "mixed":
        assert chunk is not None
        return f64(batch) + f64(prompts) * f64(chunk)
    length = encoder_length(shape, prompt) if phase == "encode" else prompt
    assert length is not None
    return f64(batch) * f64(length)


def _replaced(asked: Dtypes | None, used: Dtypes) -> Iterator[str]:
    wide = (asked or Dtypes()).wide
    if used.wide != wide:
        yield f"between matrix products activations are {used.wide}: the device has no {wide}"


def _steps(phase: Phase, prompt: Size | None, chunk: Size | None) -> Array:
    """Engine steps of the phase: one, or one per chunk of a prefill."""
    if phase != "prefill" or chunk is None or prompt is None:
        return np.float64(1.0)
    return ceil_div(prompt, chunk)


def _beyond(shape: ModelShape, prompt: Size | None, context: Size | None) -> Iterator[str]:
    """Lengths that the model was not made for, said rather than refused."""
    for field, value in (("prompt", prompt), ("context", context)):
        if value is not None and shape.max_context and np.max(value) > shape.max_context:
            yield f"{field} {int(np.max(value))} exceeds the model's {shape.max_context} tokens"
