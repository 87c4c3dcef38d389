"""Configurations of other versions: migrated, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ldmlab.apps.config import migrations
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.migrations import VERSION, migrate
from ldmlab.apps.config.run_base import load_config
from ldmlab.core.errors import UserError


def test_composed_configuration_has_the_present_version() -> None:
    assert compose().config_version == VERSION
    assert set(migrations.MIGRATIONS) == set(range(1, VERSION))


def test_migrations_apply_every_step_from_the_stored_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rename(tree: dict[str, Any]) -> dict[str, Any]:
        return {"second": tree["first"], "steps": [1]}

    def double(tree: dict[str, Any]) -> dict[str, Any]:
        return {"second": 2 * tree["second"], "steps": [*tree.get("steps", []), 2]}

    monkeypatch.setattr(migrations, "VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: rename, 2: double})
    old = {"config_version": 1, "first": 4}
    assert migrate(old) == {"config_version": 3, "second": 8, "steps": [1, 2]}
    assert old == {"config_version": 1, "first": 4}
    assert migrate({"config_version": 2, "second": 4})["steps"] == [2]
    assert migrate({"config_version": 3, "second": 4}) == {"config_version": 3, "second": 4}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("", "before ldmlab 0.2.0"),
        (f"config_version: {VERSION + 1}", "or a newer one"),
        ("config_version: 0", "is not known"),
        ("config_version: true", "is not known"),
        ("config_version: one", "is not known"),
    ],
)
def test_unknown_config_version_is_refused(tmp_path: Path, version: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{version}\nseed: 0\n")
    with pytest.raises(UserError, match=words) as refused:
        load_config(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
