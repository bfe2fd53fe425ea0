"""What ``import perfmodel as pm`` offers is pinned here: a change of it is a decision."""

import importlib
import inspect
import pkgutil

import pytest

import perfmodel as pm

OPS = {
    "Attention", "Collective", "Conv", "DeltaRule", "Elementwise", "Gemm", "LinearAttention",
    "Norm", "SelectiveScan", "Ssd",
}  # fmt: skip
ERRORS = {
    "BadInput", "BadValue", "ImpossibleSplit", "MalformedFile", "MissingCalibration",
    "MissingData", "MissingExtra", "MissingFigure", "MissingFile", "PerfModelError",
    "UnknownName", "UnsupportedDtype",
}  # fmt: skip
FUNCTIONS = {
    "arena", "capacity", "compare", "crossover", "device", "estimate", "explain", "latency",
    "model", "plan", "step", "sweep", "validate",
}  # fmt: skip
VALUES = {"Estimate", "__version__"}


def test_names():
    """Exactly these names are public."""
    assert set(pm.__all__) == OPS | ERRORS | FUNCTIONS | VALUES


@pytest.mark.parametrize("name", sorted(OPS | ERRORS | FUNCTIONS | VALUES))
def test_every_name_resolves_and_is_documented(name):
    """A public name exists, is listed by dir() and says what it is."""
    value = getattr(pm, name)

    assert name in dir(pm)
    assert isinstance(value, str) or inspect.getdoc(value)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_says_what_it_raises(name):
    """A public function names its errors."""
    assert "Raises:" in (inspect.getdoc(getattr(pm, name)) or "")


def test_unknown_name():
    """A wrong name fails as on any module."""
    with pytest.raises(AttributeError, match="no attribute 'estimat'"):
        _ = pm.estimat


def test_types_are_visible():
    """A type checker sees each public name: it is imported under TYPE_CHECKING too."""
    source = inspect.getsource(pm)

    assert [n for n in pm.__all__ if n != "__version__" and f" as {n}\n" not in source] == []


def test_no_module_shadows_a_public_name():
    """No submodule has the name of a public function, which importing it would overwrite."""
    modules = {info.name for info in pkgutil.iter_modules(pm.__path__)}

    assert modules & set(pm.__all__) == set()


def test_error_tree_is_drawn():
    """The tree at the top of errors.py shows every error there is."""
    errors = importlib.import_module("perfmodel.errors")
    defined = {
        n for n, v in vars(errors).items() if inspect.isclass(v) and issubclass(v, Exception)
    }

    assert [n for n in sorted(defined) if n not in (errors.__doc__ or "")] == []
