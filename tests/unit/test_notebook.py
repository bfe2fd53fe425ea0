"""Answers in a notebook: each kind is drawn, words are escaped, and nothing happens elsewhere."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

import perfmodel as pm
from perfmodel import catalog
from perfmodel.report import notebook
from perfmodel.report.shown import Shown
from perfmodel.report.tables import Column, Table

ASKED = {
    "Estimate": lambda: pm.estimate(pm.Gemm(m=64, n=64, k=64), "h100-sxm-80gb"),
    "CapacityAnswer": lambda: pm.capacity("llama-3-8b", "h100-sxm-80gb", context=1024),
    "PlanAnswer": lambda: pm.plan(
        "llama-3-8b", "h100-sxm-80gb", users=2, prompt=128, output=16, relax=False
    ),
    "Comparison": lambda: pm.compare(pm.Gemm(m=64, n=64, k=64), ["h100-sxm-80gb", "h200-sxm"]),
    "Crossover": lambda: pm.crossover("h200-sxm", shortest=64, longest=256),
    "ArenaPlan": lambda: pm.arena("ds-cnn", "stm32l4r5"),
    "ModelShape": lambda: pm.model("llama-3-8b"),
    "Device": lambda: pm.device("h100-sxm-80gb"),
    "SweepResult": lambda: pm.sweep("llama-3-8b", "h200-sxm", batch=[1, 2], context=64, lean=True),
    "FileReport": lambda: pm.validate(catalog.find("measured", catalog.names("measured")[0]))[0],
}


class Formatter:
    """Records what IPython would be told."""

    def __init__(self):
        self.told = {}

    def for_type_by_name(self, module, name, draw):
        self.told[module, name] = draw


@pytest.fixture
def formatter(monkeypatch):
    """A running IPython, as far as this package looks."""
    found = Formatter()
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": found}))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return found


@pytest.mark.parametrize("kind", ASKED)
def test_every_answer_is_drawn(formatter, kind):
    """The type that a question answers with is the type that IPython was told of."""
    assert notebook.register()
    answer = ASKED[kind]()
    draw = formatter.told[type(answer).__module__, kind]

    assert "<strong>" in draw(answer)
    assert "<table>" in draw(answer)


def test_every_registered_type_exists():
    """No renderer waits for a type that is gone."""
    for module, name in notebook.RENDERERS:
        assert hasattr(importlib.import_module(module), name)
    assert {name for _, name in notebook.RENDERERS} == set(ASKED)


def test_words_are_escaped():
    """A name with markup in it stays text."""
    table = Table(title="<t>", columns=(Column(key="a", title="<b>"),), rows=({"a": "<i>"},))
    html = notebook.to_html(Shown(lead=("<x>",), tables=(table,), notes=("<n>",)))

    assert not {"<x>", "<t>", "<b>", "<i>", "<n>"} & set(html.replace(">", "> ").split())
    assert "&lt;x&gt;" in html


def test_outside_a_notebook_nothing_is_told(monkeypatch):
    """Without IPython, or with it but no shell."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.register()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not notebook.register()
