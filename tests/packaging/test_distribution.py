"""What people install: the wheel alone, the sdist, and an editable tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tools.setup import create

ROOT = Path(__file__).resolve().parents[2]
PLAN = (
    "plan", "llama-3.1-70b", "--on", "h100-sxm-80gb", "--users", "64", "--prompt", "8192",
    "--output", "512", "--ttft", "2s", "--tpot", "50ms",
)  # fmt: skip


def run(*command: str | Path, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command outside the repository's reach: no PYTHONPATH leads back to it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PERFMODEL"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0 or not ok, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done


def build(target: str, source: Path, into: Path) -> Path:
    """Build the wheel or the sdist of ``source``."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, cwd=source)
    (built,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.splitlines())


def test_wheel_carries_everything_it_needs(tmp_path):
    """Code, type marker, licence, and each tracked spec, CUDA source and page are in the wheel."""
    names = names_in(build("wheel", ROOT, tmp_path))

    assert {"perfmodel/__init__.py", "perfmodel/py.typed", "refkernels/__init__.py"} <= names
    assert "perfmodel/_data/docs/accuracy.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {f"perfmodel/_data/{name}" for name in tracked("specs", "cuda", "dashboards")} <= names


def test_wheel_carries_nothing_else(tmp_path):
    """No tests, caches or tools are installed beside the packages."""
    names = names_in(build("wheel", ROOT, tmp_path))

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "perfmodel",
        "refkernels",
    }
    assert [name for name in names if name.endswith((".pyc", ".cubin"))] == []


def test_sdist_builds_the_same_wheel(tmp_path):
    """The source distribution is complete: the wheel built from it has the same files."""
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "tree", **safely)
    (tree,) = (tmp_path / "tree").iterdir()

    assert (tree / "tests").is_dir()
    direct = names_in(build("wheel", ROOT, tmp_path / "direct"))
    assert names_in(build("wheel", tree, tmp_path / "again")) == direct


def test_wheel_alone_answers(tmp_path):
    """Installed alone in an empty environment, from an empty folder, the wheel answers."""
    wheel = build("wheel", ROOT, tmp_path / "wheel")
    create(tmp_path / "env", str(wheel))
    program = tmp_path / "env" / "bin" / "perfmodel"
    empty = tmp_path / "empty"
    empty.mkdir()

    devices = json.loads(run(program, "devices", "--json", cwd=empty).stdout)
    shown = run(program, "show", "h100-sxm-80gb", cwd=empty).stdout
    plan = run(program, *PLAN, "--json", cwd=empty, ok=False)

    assert devices
    assert "TB/s" in shown
    assert plan.returncode in (0, 1), plan.stderr
    assert json.loads(plan.stdout)["plans"]
    facts = json.loads(run(program, "doctor", "--json", cwd=empty).stdout)
    assert [Path(f).parts[-3:] for f in facts["specs"]["folders"]] == [
        ("perfmodel", "_data", "specs")
    ]
    assert str(ROOT) not in json.dumps(facts["specs"])


def test_editable_tree_finds_the_specs_of_the_repository(tmp_path):
    """An editable install reads specs/ of the tree itself, so an edited figure counts at once."""
    tree = tmp_path / "tree"
    for name in sorted(tracked()):
        if (
            name.startswith(("perfmodel/", "refkernels/", "specs/", "cuda/", "dash", "docs/acc"))
            or "/" not in name
        ):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    wheel = editable_wheel(tree, tmp_path / "wheel")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import site; site.addsitedir({str(site)!r})\n"
        "from perfmodel import catalog; print(catalog.shipped_dir())"
    )

    found = run(sys.executable, "-S", "-c", code, cwd=tmp_path).stdout.strip()
    assert Path(found) == tree / "specs"


def editable_wheel(tree: Path, into: Path) -> Path:
    """What ``pip install -e`` asks the build backend for (PEP 660)."""
    into.mkdir()
    code = f"from hatchling.build import build_editable; build_editable({str(into)!r})"
    run(sys.executable, "-c", code, cwd=tree)
    (wheel,) = into.glob("*.whl")
    return wheel
