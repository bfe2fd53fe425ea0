"""``perfmodel estimate`` of networks on boards, and of small language models on edge devices."""

from __future__ import annotations

import json

import pytest

from perfmodel.cli import main

BOARD = ("--on", "stm32l4r5", "--runtime", "x-cube-ai-9")
EDGE = ("raspberry-pi-5-8gb", "jetson-orin-nx-16gb", "apple-m2-pro-gpu")


def answer(capsys, *args):
    """Exit code and JSON."""
    code = main([*args, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_network_answers_with_the_usual_keys(capsys):
    """The keys of every estimate, energy beside them, one part an operator."""
    code, found = answer(capsys, "estimate", "resnet8", *BOARD)

    assert code == 0
    keys = {"time_s", "low_s", "high_s", "lower_bound_s", "bound", "terms", "source", "assumptions"}
    assert keys <= set(found)
    assert found["source"] == "calibrated"
    assert len(found["parts"]) == 16
    assert found["energy"]["energy_j"] == pytest.approx(0.042 * found["time_s"])
    assert "battery" not in found


def test_battery(capsys):
    """Battery life for a duty cycle; each option needs the other."""
    options = ("--battery", "1000 mAh", "--every", "10s")
    code, found = answer(capsys, "estimate", "resnet8", *BOARD, *options)

    assert code == 0
    assert found["battery"]["life_days"] == pytest.approx(found["battery"]["life_s"] / 86400)
    assert main(["estimate", "resnet8", *BOARD, "--every", "10s"]) == 2
    assert main(["estimate", "resnet8", *BOARD, "--battery", "1 J", "--every", "1ms"]) == 2
    assert main(["estimate", "resnet8", "--on", "rp2040", *options]) == 3


def test_for_people(capsys):
    """The verdict, energy, and the derivation."""
    assert main(["estimate", "ds-cnn", *BOARD, "--explain"]) == 0
    shown = capsys.readouterr().out

    assert "inferences per joule" in shown
    assert "depthwise" in shown


def test_one_name_two_meanings(capsys):
    """deit-t is a network on a board and a model elsewhere."""
    _, small = answer(capsys, "estimate", "deit-t", "--on", "stm32h743")
    _, large = answer(capsys, "estimate", "deit-t", "--on", "a40", "--phase", "encode")

    assert small["facts"]["core"] == "cortex-m7"
    assert large["time_s"] < small["time_s"]


def test_training_step(capsys):
    """A phase of its own, with memory."""
    code, found = answer(capsys, "estimate", "resnet8", "--on", "gap9", "--phase", "train")

    assert code == 0
    assert found["facts"]["fits"] is True
    assert set(found["facts"]["memory"]) >= {"weights", "activations"}


@pytest.mark.parametrize(
    "args",
    [("resnet8", "--on", "stm32l4r5", "--runtime", "abacus"),
     ("resnet8", "--on", "h100-sxm-80gb"),
     ("resnet8", "--on", "stm32l4r5", "--dtype", "fp16"),
     ("resnet8", "--on", "stm32l4r5", "--clock", "fast"),
     ("resnet8", "--on", "stm32l4r5", "--context", "5"),
     ("resnet8", "--on", "stm32l4r5", "--phase", "decode"),
     ("resnet8", "m=1", "--on", "stm32l4r5"),
     ("resnet9000", "--on", "stm32l4r5"),
     ("phi-2", "--on", "a40", "--phase", "decode", "--context", "9", "--runtime", "hale"),
     ("gemm", "m=1", "n=1", "k=1", "--on", "a40", "--every", "1s")],
)  # fmt: skip
def test_badly_posed(args, capsys):
    """One clear message, exit code 2."""
    assert main(["estimate", *args]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_missing_file(capsys):
    """A network file that is not there: exit code 3."""
    assert main(["estimate", "absent.tflite", "--on", "stm32l4r5"]) == 3


@pytest.mark.parametrize("device", EDGE)
@pytest.mark.parametrize("model", ["phi-2", "llama-3.2-1b", "llama-3-8b"])
def test_small_language_models_at_the_edge(device, model, capsys):
    """Fit and tokens per second, bound and estimate, with their source."""
    question = ("--on", device, "--phase", "decode", "--context", "512", "--weights", "q4")
    code, found = answer(capsys, "estimate", model, *question)
    fit, held = answer(
        capsys, "capacity", model, "--on", device, "--context", "512", "--weights", "q4"
    )

    assert (code, fit) == (0, 0)
    assert held["fits"] is True
    assert "operating system" in held["stack"]
    assert found["bound"] == "memory"
    assert found["lower_bound_s"] < found["time_s"] < 20 * found["lower_bound_s"]
    assert found["source"] in ("analytic", "mixed")
