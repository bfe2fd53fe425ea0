"""The documentation site builds without a warning, holds every page, and asks nobody outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["'](https?:)?//[^"']+""")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, built strictly; the folder and what was said."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_builds_without_a_warning(built):
    """Strict, and nothing is warned of."""
    assert "WARNING" not in built[1]


def test_every_document_has_a_page(built):
    """Each Markdown file of docs/ is a page of the site."""
    sources = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")]

    assert [p for p in sources if not (built[0] / p.with_suffix(".html")).is_file()] == []


def test_pages_load_nothing_from_elsewhere(built):
    """Scripts, styles and pictures lie beside the pages."""
    found = {
        match[0]
        for page in built[0].rglob("*.html")
        for match in LOADED.finditer(page.read_text())
        if 'rel="canonical"' not in match[0]
    }

    assert found == set()


def test_links_out_of_the_documents_became_code(built):
    """No page links to a file of the source tree, which the site does not hold."""
    pages = [p.read_text() for p in built[0].rglob("*.html")]

    assert not [p for p in pages if re.search(r'href="[^"]*\.(?:py|toml|cu)"', p)]
