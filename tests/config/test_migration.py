"""A migrated configuration has every field, keeps all it had, and leaves a copy of what it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force.config.claude_json import load_settings
from claude_force.config.fields import FIELDS
from claude_force.config.migration import migrate
from claude_force.domain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    path = folder / "claude.json"
    path.write_text(text, "utf-8")
    return path


def test_missing_fields_are_added_and_a_copy_is_kept(tmp_path: Path) -> None:
    before = '{"cache": {"enabled": false}, "mine": ["ü", 1.0]}'
    path = write(tmp_path, before)
    migration = migrate(path)
    assert migration is not None
    assert migration.added == tuple(f.path for f in FIELDS if f.path != "cache.enabled")
    assert migration.backup.read_text("utf-8") == before
    after = json.loads(path.read_text("utf-8"))
    assert after["mine"] == ["ü", 1.0]
    assert "ü" in path.read_text("utf-8")
    assert after["cache"]["enabled"] is False
    assert load_settings(path).cache.enabled is False
    assert migrate(path) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claude.json", "claude.json.bak"]


def test_every_migration_keeps_a_copy_of_its_own(tmp_path: Path) -> None:
    for number in range(3):
        migration = migrate(write(tmp_path, json.dumps({"turn": number})))
        assert migration is not None
        assert json.loads(migration.backup.read_text()) == {"turn": number}
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["claude.json", "claude.json.bak", "claude.json.bak.1", "claude.json.bak.2"]


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key not in {"performance", "cache"}),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=6,
        ),
        max_size=4,
    )
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
def test_nothing_of_a_file_is_lost(tmp_path: Path, document: dict[str, Any]) -> None:
    path = write(tmp_path, json.dumps(document))
    migration = migrate(path)
    assert migration is not None
    migration.backup.unlink()
    after = json.loads(path.read_bytes())
    assert {key: after[key] for key in document} == document
    assert list(after)[: len(document)] == list(document)


def test_half_of_a_surrogate_pair_survives(tmp_path: Path) -> None:
    path = write(tmp_path, '{"mine": "\\ud800"}')
    assert migrate(path) is not None
    assert json.loads(path.read_bytes())["mine"] == "\ud800"


def test_permissions_of_the_file_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "{}")
    path.chmod(0o600)
    migration = migrate(path)
    assert migration is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert migration.backup.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["claude.json.new", "claude.json.bak", ".claude.json.new"])
def test_link_that_somebody_laid_is_not_written_through(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    project = tmp_path / "project"
    project.mkdir()
    (project / name).symlink_to(precious)
    assert migrate(write(project, "{}")) is not None
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("section", ["performance", "cache"])
def test_section_that_is_no_object_is_left_as_it_is(tmp_path: Path, section: str) -> None:
    path = write(tmp_path, json.dumps({section: 1}))
    with pytest.raises(ConfigError, match=f"{section} has to be an object"):
        migrate(path)
    assert json.loads(path.read_text()) == {section: 1}
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_cannot_be_written_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "{}")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.open", full)
    with pytest.raises(ConfigError, match=r"No space left on device\. It is as it was"):
        migrate(path)
    assert path.read_text() == "{}"
