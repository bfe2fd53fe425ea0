"""Style is a test: what ruff says here is what it says everywhere."""


def test_ruff_check(python):
    """No lint finding anywhere in the repository."""
    found = python("-m", "ruff", "check", ".")

    assert found.returncode == 0, found.stdout


def test_ruff_format(python):
    """Every file is formatted as ruff formats it."""
    found = python("-m", "ruff", "format", "--check", ".")

    assert found.returncode == 0, found.stdout
