"""Types are a test."""


def test_mypy_strict(python):
    """mypy --strict, configured in pyproject.toml, finds nothing in either package."""
    found = python("-m", "mypy")

    assert found.returncode == 0, found.stdout
