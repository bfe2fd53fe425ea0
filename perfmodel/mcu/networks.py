"""Networks by name: the four of MLPerf Tiny, DeiT-T, and the search space of MCUFormer.

MLPerf Tiny (Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021, arXiv 2106.07597): int8, batch
normalisation and ReLU folded into the products. A name may be followed by parameters:
``mcuformer:dim=216,heads=4,patch=16``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.catalog import find, fold, name_or_path, read_toml
from perfmodel.errors import BadValue, UnknownName
from perfmodel.mcu.build import Builder
from perfmodel.mcu.network import Network

MAX_TOKENS = 4096
MAX_DEPTH = 64
MAX_WIDTH = 8192
"""Larger transformers are refused: no microcontroller holds them, and planning takes long."""


def resnet8() -> Network:
    """Image classification: ResNet8 on 32 x 32 x 3, 12,501,632 multiply-accumulates."""
    b = Builder("resnet8")
    x = b.conv(b.input(1, 32, 32, 3), 16, (3, 3))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = b.conv(x, filters, (3, 3), (stride, stride))
        y = b.conv(y, filters, (3, 3))
        if stride > 1:
            x = b.conv(x, filters, (1, 1), (stride, stride))
        x = b.add(x, y)
    x = b.pool(x, (8, 8))
    (x,) = b.dense(b.reshape(x, 1, 64), 10)
    return b.network(b.rows(x, "softmax"))


def ds_cnn() -> Network:
    """Keyword spotting: DS-CNN on 49 x 10 cepstral features, 2,656,768 multiply-accumulates."""
    b = Builder("ds-cnn")
    x = b.conv(b.input(1, 49, 10, 1), 64, (10, 4), (2, 2))
    for _ in range(4):
        x = b.conv(x, 64, (3, 3), depthwise=True)
        x = b.conv(x, 64, (1, 1))
    x = b.pool(x, (25, 5))
    (x,) = b.dense(b.reshape(x, 1, 64), 12)
    return b.network(b.rows(x, "softmax"))


def mobilenet_v1() -> Network:
    """Person detection: MobileNetV1 x 0.25 on 96 x 96 x 3, 7,489,664 multiply-accumulates."""
    b = Builder("mobilenet-v1-0.25-96")
    x = b.conv(b.input(1, 96, 96, 3), 8, (3, 3), (2, 2))
    layers = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    channels = 8
    for filters, stride in (*layers, *[(128, 1)] * 5, (256, 2), (256, 1)):
        x = b.conv(x, channels, (3, 3), (stride, stride), depthwise=True)
        x = b.conv(x, filters, (1, 1))
        channels = filters
    x = b.pool(x, (3, 3))
    (x,) = b.dense(b.reshape(x, 1, 256), 2)
    return b.network(b.rows(x, "softmax"))


def autoencoder() -> Network:
    """Anomaly detection: ten dense layers on 640 features, 264,192 multiply-accumulates."""
    b = Builder("autoencoder")
    x = b.input(1, 640)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        (x,) = b.dense(x, width)
    return b.network(x)


def deit_t(image: int = 224, patch: int = 16, classes: int = 1000) -> Network:
    """DeiT-Tiny in int8 (Touvron et al., arXiv 2012.12877): 192 wide, 3 heads, 12 layers."""
    return transformer(
        "deit-t", image=image, patch=patch, dim=192, heads=3, depth=12, mlp=4.0, classes=classes
    )


def mcuformer(
    dim: int = 216,
    heads: int = 4,
    depth: int = 12,
    mlp: float = 4.0,
    patch: int = 16,
    image: int = 240,
    rank: float = 0.4,
    head_dim: int = 64,
    classes: int = 1000,
) -> Network:
    """A vision transformer of MCUFormer's search space (Liang et al., NeurIPS 2023), int8.

    The published space: width 168, 192 or 216; 3 or 4 heads of 64; 12 to 14 layers; MLP ratio 3.5
    or 4; rank ratio 0.40 to 0.95; patches of 16 to 32 on 240 x 240 images. Each matrix of a block
    is three, ``k x r``, ``r x r``, ``r x n`` with ``r = floor(rank * width)``; ``rank`` 0 keeps it
    whole. ``head_dim`` 0 divides the width among the heads. Tokens are averaged before the
    classifier.
    """
    return transformer(
        "mcuformer",
        image=image,
        patch=patch,
        dim=dim,
        heads=heads,
        depth=depth,
        mlp=mlp,
        rank=rank,
        head_dim=head_dim or None,
        classes=classes,
        average=True,
        assumptions=("relative positions are looked up while scores are made, not stored",),
    )


def transformer(
    name: str,
    *,
    image: int,
    patch: int,
    dim: int,
    heads: int,
    depth: int,
    mlp: float,
    rank: float = 0.0,
    head_dim: int | None = None,
    classes: int = 1000,
    average: bool = False,
    assumptions: tuple[str, ...] = (),
) -> Network:
    """A pre-norm vision transformer with a class token; raises BadValue on absurd sizes."""
    _check(image=image, patch=patch, dim=dim, heads=heads, depth=depth, mlp=mlp, rank=rank)
    if head_dim is None and dim % heads:
        msg = f"must divide the width, got {heads} for {dim}"
        raise BadValue(msg, field="heads", fix="a divisor of the width")
    b = Builder(name)
    x = _tokens(b, image, patch, dim)
    inner = heads * (head_dim or dim // heads)
    narrow = int(dim * rank)
    for _ in range(depth):
        q, k, v = _linear(b, b.rows(x, "norm"), (inner, inner, inner), narrow)
        (y,) = _linear(b, b.attention(q, k, v, heads), (dim,), narrow)
        x = b.add(x, y)
        (y,) = _linear(b, b.rows(x, "norm"), (int(dim * mlp),), narrow)
        (y,) = _linear(b, b.activation(y, "gelu"), (dim,), narrow)
        x = b.add(x, y)
    x = b.rows(x, "norm")
    x = b.mean_rows(x) if average else b.first_row(x)
    (x,) = b.dense(x, classes)
    return b.network(x, assumptions=assumptions)


def _tokens(b: Builder, image: int, patch: int, dim: int) -> str:
    """The patch embedding, a class token above it, positions added."""
    side = image // patch
    x = b.conv(b.input(1, image, image, 3), dim, (patch, patch), (patch, patch), valid=True)
    x = b.reshape(x, side * side, dim)
    x = b.concat_rows(b.weight("class_token", 1, dim), x)
    return b.add(x, b.weight("positions", side * side + 1, dim))


def _linear(b: Builder, x: str, widths: tuple[int, ...], rank: int) -> tuple[str, ...]:
    """One matrix, or its three low-rank factors; the bias belongs to the last."""
    if rank:
        (x,) = b.dense(x, rank, bias=False)
        (x,) = b.dense(x, rank, bias=False)
    return b.dense(x, *widths)


def _check(
    *, image: int, patch: int, dim: int, heads: int, depth: int, mlp: float, rank: float
) -> None:
    limits = {
        "patch": (patch, 1, image),
        "dim": (dim, 1, MAX_WIDTH),
        "heads": (heads, 1, dim),
        "depth": (depth, 1, MAX_DEPTH),
        "mlp": (mlp, 1.0 / dim if dim > 0 else 0.0, MAX_WIDTH / max(dim, 1)),
        "rank": (rank, 0.0, 1.0),
        "image": ((image // patch) ** 2 if patch > 0 else 0, 1, MAX_TOKENS),
    }
    for field, (value, least, most) in limits.items():
        if not least <= value <= most:
            what = "tokens" if field == "image" else "value"
            msg = f"{field}: the {what} {value} lies outside {least:g} to {most:g}"
            raise BadValue(msg, field=field, fix="dim=216,heads=4,depth=12,patch=16,image=240")


BUILT_IN: dict[str, Callable[..., Network]] = {
    "resnet8": resnet8,
    "ds-cnn": ds_cnn,
    "mobilenet-v1-0.25-96": mobilenet_v1,
    "autoencoder": autoencoder,
    "deit-t": deit_t,
    "mcuformer": mcuformer,
}
"""Built-in networks by name."""


def find_network(named: str | Path) -> Network:
    """The network in a ``.tflite`` or ``.onnx`` file, or the built-in one of that name.

    Raises:
        UnknownName, BadValue: as :func:`built_in`; neither a text nor a path.
        MissingFile, MissingExtra, MalformedFile: as :func:`perfmodel.mcu.reading.read_network`.
    """
    from perfmodel.mcu.reading import read_network

    text = name_or_path(named, "network")
    return read_network(named) if _is_file(named) else network_named(text)


def network_named(text: str) -> Network:
    """A built-in network under any of its spellings (``specs/mcu/networks.toml``); raises as
    :func:`built_in`."""
    return built_in(_spelled(text))


def is_network(text: str) -> bool:
    """Whether :func:`find_network` takes ``text`` for a network's name or file."""
    return _is_file(text) or fold(_spelled(text).partition(":")[0]) in BUILT_IN


def _is_file(named: str | Path) -> bool:
    from perfmodel.mcu.reading import SUFFIXES

    return isinstance(named, Path) or named.lower().endswith(SUFFIXES)


def _spelled(text: str) -> str:
    """``text`` with the name that its spelling stands for."""
    path = find("mcu", "networks")
    name, colon, given = text.partition(":")
    return _aliases(path, path.stat().st_mtime_ns).get(fold(name), name) + colon + given


@lru_cache(maxsize=4)
def _aliases(path: Path, mtime_ns: int) -> dict[str, str]:
    del mtime_ns  # part of the cache key: an edited file is read again
    return {fold(k): str(v) for k, v in read_toml(path).get("aliases", {}).items()}


def built_in(text: str) -> Network:
    """The network that ``name`` or ``name:parameter=value,...`` names.

    Raises:
        UnknownName: no such network, or it has no such parameter.
        BadValue: a parameter that is no number, or out of range.
    """
    name, _, given = text.partition(":")
    key = name.strip().lower().replace("_", "-")
    if key not in BUILT_IN:
        raise UnknownName("network", name, BUILT_IN, fix="a name, or a .tflite or .onnx file")
    build = BUILT_IN[key]
    return build(**_parameters(build, given))


SPACE: dict[str, tuple[float, ...]] = {
    "patch": (20, 24, 28, 32),
    "heads": (3,),
    "dim": (192, 168),
    "rank": (0.8, 0.6, 0.4),
    "depth": (12,),
    "mlp": (3.5,),
}
"""Values to which a transformer may shrink: MCUFormer's search space, in the direction of less
memory."""


def alternatives(named: str | Path) -> tuple[tuple[str, Network], ...]:
    """Smaller networks of the family that ``named`` is of, each with one parameter changed; none
    of a file's."""
    if _is_file(named):
        return ()
    name, _, given = _spelled(str(named)).partition(":")
    build = BUILT_IN[name.strip().lower().replace("_", "-")]
    known = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    now = known | _parameters(build, given)
    found = []
    for field, values in SPACE.items():
        for value in values if field in now else ():
            less = value > now[field] if field == "patch" else value < (now[field] or 1.0)
            if less and (field != "patch" or value <= now["image"]):
                network = build(**(now | {field: value}))
                found.append((f"{field} {value:g} instead of {now[field]:g}", network))
    return tuple(found)


def _parameters(build: Callable[..., Network], given: str) -> dict[str, Any]:
    known = inspect.signature(build).parameters
    values: dict[str, Any] = {}
    for part in filter(None, given.split(",")):
        field, _, value = part.partition("=")
        field = field.strip()
        if field not in known:
            fix = "the name alone" if not known else None
            raise UnknownName("parameter", field, known, fix=fix)
        whole = isinstance(known[field].default, int)
        try:
            values[field] = int(value) if whole else float(value)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            msg = f"must be {kind}, got {value[:40]!r}"
            raise BadValue(msg, field=field, fix=f"{field}={known[field].default}") from None
    return values
