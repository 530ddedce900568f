"""docs/settings.md is made from the settings: `python tests/test_settings_page.py > docs/settings.md`."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from spotjob.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

The operator and the API read the same variables; each uses those that concern it. In a cluster they stand in the
ConfigMap `spotjob-settings` (`deploy/parts/kustomization.yaml`). AWS's own variables (`AWS_REGION`, credentials,
`AWS_ENDPOINT_URL`) are read by boto3 as usual.

This page is made from `operator/spotjob/settings.py`: `python tests/test_settings_page.py > docs/settings.md`.

| Variable | Default | Meaning |
|---|---|---|
"""


def row(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, "", ()) else f"`{field.default}`"
    return f"| `SPOTJOB_{name.upper()}` | {default} | {' '.join((field.description or '').split())} |\n"


def page() -> str:
    return HEAD + "".join(row(name, field) for name, field in Settings.model_fields.items())


def test_the_page_shows_every_setting_as_it_is() -> None:
    assert PAGE.read_text() == page()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


if __name__ == "__main__":
    print(page(), end="")
