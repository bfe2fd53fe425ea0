"""A change of what is predicted is a decision: recorded, and named in the changelog."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "tests" / "golden" / "predictions.json").read_text())


def test_predictions_are_those_recorded(python):
    """200 scenarios as recorded (else: tools/predictions.py --write "words of the changelog")."""
    found = python("tools/predictions.py")

    assert found.returncode == 0, found.stdout


def test_the_record_has_two_hundred_scenarios():
    """At least 200, most of them answered."""
    answered = [p for p in RECORD["predictions"].values() if "refused" not in p]

    assert len(RECORD["predictions"]) >= 200
    assert len(answered) >= 180


def test_the_last_change_is_named_in_the_changelog():
    """The reason that the record gives is read by those who upgrade."""
    assert RECORD["because"] in (ROOT / "CHANGELOG.md").read_text()


def test_a_changed_prediction_is_told(monkeypatch):
    """A time that moved is named with its ratio; a lost scenario is named too."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    predictions = sys.modules.get("predictions") or __import__("predictions")
    old = {"a": {"time_s": 1.0, "bound": "memory"}, "b": {"time_s": 1.0}}
    new = {"a": {"time_s": 2.0, "bound": "tensor"}}

    told = predictions.changes(old, new)

    assert told == ["a: time_s 1 -> 2 (x 2.000), bound memory -> tensor", "b: gone"]
