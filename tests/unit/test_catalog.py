"""The catalog finds specs by any spelling, in the user's folder first, and reads them safely."""

from __future__ import annotations

import os

import pytest

from perfmodel import catalog
from perfmodel.errors import MalformedFile, MissingFile, UnknownName
from perfmodel.files import read_json


@pytest.fixture
def folder(tmp_path):
    """A user's spec folder with one device, one alias and one model."""
    (tmp_path / "hw").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "hw" / "my-gpu-80gb.toml").write_text("a = 1\n")
    (tmp_path / "hw" / "_template.toml").write_text("a = 1\n")
    (tmp_path / "hw" / "aliases.toml").write_text('"My Card" = "my-gpu-80gb"\n')
    (tmp_path / "models" / "tiny.json").write_text('{"a": 1}')
    return tmp_path


@pytest.mark.parametrize("name", ["my-gpu-80gb", "MY_GPU 80GB", "My card", "my__card"])
def test_find_folds_spelling(folder, name):
    """Case, underscores, dashes and spaces do not matter, for names and aliases alike."""
    with catalog.using_specs(folder):
        assert catalog.find("hw", name) == folder / "hw" / "my-gpu-80gb.toml"


def test_names_leave_out_templates_and_aliases(folder):
    """Only devices are listed; outside the context the folder is forgotten."""
    with catalog.using_specs(folder):
        names = catalog.names("hw")
        assert "my-gpu-80gb" in names
        assert not {"_template", "aliases"} & set(names)
        assert catalog.aliases_of("hw", "my-gpu-80gb") == ("My Card",)
    assert "my-gpu-80gb" not in catalog.names("hw")


def test_environment_names_folders(folder, monkeypatch):
    """PERFMODEL_SPECS is searched before the shipped folder; one that is absent is an error."""
    monkeypatch.setenv("PERFMODEL_SPECS", os.fspath(folder))
    assert catalog.spec_dirs() == (folder, catalog.shipped_dir())
    assert catalog.find("models", "tiny").parent == folder / "models"
    monkeypatch.setenv("PERFMODEL_SPECS", os.fspath(folder / "absent"))
    with pytest.raises(MissingFile, match="PERFMODEL_SPECS"):
        catalog.spec_dirs()


def test_the_users_folder_wins(folder, tmp_path):
    """The first folder that has the name provides it, and its alias table wins."""
    inner = tmp_path / "inner"
    (inner / "hw").mkdir(parents=True)
    (inner / "hw" / "my-gpu-80gb.toml").write_text("a = 2\n")
    (inner / "hw" / "other.toml").write_text("a = 3\n")
    (inner / "hw" / "aliases.toml").write_text('"My Card" = "other"\n')
    with catalog.using_specs(inner, folder):
        assert catalog.read_toml(catalog.find("hw", "my-gpu-80gb")) == {"a": 2}
        assert catalog.find("hw", "my card") == inner / "hw" / "other.toml"


def test_an_edited_alias_table_is_read_again(folder):
    """Aliases are cached by file time and size, so an edit shows without a restart."""
    path = folder / "hw" / "aliases.toml"
    with catalog.using_specs(folder):
        assert catalog.aliases_of("hw", "my-gpu-80gb") == ("My Card",)
        path.write_text('"My Other Card" = "my-gpu-80gb"\n')
        assert catalog.aliases_of("hw", "my-gpu-80gb") == ("My Other Card",)


def test_unknown_names_offer_the_nearest(folder):
    """A misspelt name names its neighbours; an alias to nothing is unknown too."""
    with catalog.using_specs(folder):
        with pytest.raises(UnknownName, match="did you mean my-gpu-80gb"):
            catalog.find("hw", "my-gpu-81gb")
        (folder / "hw" / "aliases.toml").write_text('"dangling" = "nothing"\n')
        with pytest.raises(UnknownName):
            catalog.find("hw", "dangling")


def test_paths_are_files(folder):
    """A path is taken as it is; one that is absent, a folder or unusable is MissingFile."""
    path = folder / "hw" / "my-gpu-80gb.toml"
    assert catalog.find("hw", path) == path
    assert catalog.find("hw", os.fspath(path)) == path
    for bad in (folder / "none.toml", folder, "none.toml", "a/\0.toml", "x/" + "y" * 5000):
        with pytest.raises(MissingFile):
            catalog.find("hw", bad)


@pytest.mark.parametrize("folder_name", ["--specs", "/no/such/folder"])
def test_using_an_absent_folder_is_refused(folder_name):
    """A folder that does not exist is named, not silently skipped."""
    with pytest.raises(MissingFile, match="no such folder"), catalog.using_specs(folder_name):
        pass


@pytest.mark.parametrize(
    "content",
    [b"a = ", b"a = 1\na = 2\n", b"\xff\xfe", b"a = " + b"[" * 5000, b"x" * (2**20 + 1)],
    ids=["truncated", "duplicate", "not utf-8", "deep", "huge"],
)
def test_malformed_toml(tmp_path, content):
    """Whatever the bytes, a broken TOML file is MalformedFile naming the file."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(MalformedFile, match=r"x\.toml"):
        catalog.read_toml(path)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1',
        b"[1]",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"\xff",
        b"[" * 200_000,
        b"",
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=[
        "truncated",
        "list",
        "nan",
        "infinite",
        "not utf-8",
        "deep",
        "empty",
        "a key twice",
        "digits",
    ],
)
def test_malformed_json(tmp_path, content):
    """Whatever the bytes, a broken JSON file is MalformedFile naming the file."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(MalformedFile, match=r"x\.json"):
        read_json(path)


def test_malformed_alias_table(folder):
    """An alias must stand for a name."""
    (folder / "hw" / "aliases.toml").write_text("x = 3\n")
    with catalog.using_specs(folder), pytest.raises(MalformedFile, match="x"):
        catalog.aliases("hw")
