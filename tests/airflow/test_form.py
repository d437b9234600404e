"""The connection form, as the versions of Airflow read it: from methods of the hook, and from literals."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import pytest
from jsonschema import validate  # type: ignore[import-untyped,unused-ignore]

from airflow_360.get_provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR, get_provider_info
from airflow_360.hooks.three_sixty import ThreeSixtyHook

AIRFLOW = Path(airflow.__file__).parent


class Field:
    """A replacement for a field of wtforms, which keeps its arguments until it is bound to a form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries for forms: the real ones on Airflow 2, which has them, else Airflow 3's replacement."""
    if importlib.util.find_spec("flask_appbuilder") is None:
        stand_ins: dict[str, dict[str, type]] = {
            "wtforms": {"StringField": Field},
            "flask_appbuilder": {},
            "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": Field},
        }
        for name, content in stand_ins.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)


def schema(name: str) -> Any:
    return json.loads((AIRFLOW / name).read_text("utf-8"))


def test_fields_of_the_hook(forms: None) -> None:
    """Airflow before 3.2 shows every field with its label, its help text and its default."""
    shown = {
        name: (field.args[0], field.kwargs["description"], field.kwargs["default"])
        for name, field in ThreeSixtyHook.get_connection_form_widgets().items()
    }
    assert shown == {
        name: (field["label"], field["description"], str(field["schema"]["default"]))  # type: ignore[index]
        for name, field in CONN_FIELDS.items()
    }


def test_behaviour_of_the_hook() -> None:
    """Airflow before 3.2 accepts the behaviour of the form's fields, and drops the parts it does not know."""
    behaviour = ThreeSixtyHook.get_ui_field_behaviour()
    validate(behaviour, schema("customized_form_field_behaviours.schema.json"))
    assert behaviour == {
        "hidden_fields": UI_FIELD_BEHAVIOUR["hidden-fields"],
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"],
        "placeholders": UI_FIELD_BEHAVIOUR["placeholders"],
    }


def test_provider_info() -> None:
    """Airflow accepts the provider's description."""
    validate(get_provider_info(), schema("provider_info.schema.json"))


@pytest.mark.skipif(
    "conn-fields" not in (AIRFLOW / "provider.yaml.schema.json").read_text("utf-8")
    if (AIRFLOW / "provider.yaml.schema.json").exists()
    else True,
    reason="This Airflow does not read the form from literals.",
)
def test_literal_form() -> None:
    """Airflow from 3.2 accepts the connection type's fields, by the strict rules for its own providers."""
    whole = schema("provider.yaml.schema.json")
    validate(get_provider_info()["connection-types"], whole["properties"]["connection-types"])


def test_every_field_is_described() -> None:
    """Each field has a label that fits its column, a help text that is a sentence, and a default."""
    for field in CONN_FIELDS.values():
        assert len(str(field["label"])) < 30
        assert str(field["description"]).endswith(".")
        assert "default" in field["schema"]  # type: ignore[operator]
