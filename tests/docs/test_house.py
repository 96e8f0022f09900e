"""The drawing of the house in the architecture is of the one that stands."""

import re

import pytest
from django.apps import AppConfig, apps

from tests.docs.pages import ROOT, page

APPLICATIONS = [config for config in apps.get_app_configs() if config.name.startswith("apps.")]


def _rooms() -> dict[str, str]:
    """What is drawn of each directory, by its path."""
    [drawing] = [block for block in page("docs/architecture.md").blocks("") if block.startswith("nooble/")]
    rooms: dict[str, str] = {}
    for line in drawing.splitlines():
        # A room begins its line, and an application's stands a little to the right; what lies further goes on with it.
        found = re.match(r"(  )?(\w+)/(.*)", line)
        if found:
            path = f"apps/{found[2]}" if found[1] else found[2]
            rooms[path] = found[3]
        else:
            rooms[path] += line
    return rooms


ROOMS = _rooms()


def test_every_room_is_drawn() -> None:
    packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "apps").rglob("__init__.py")}
    applications = {name for name in packages if name.count("/") == 1}
    assert set(ROOMS) == {"nooble", "settings", "tasks", "apps", *applications}


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_drawn_of_a_room_is_there(room: str) -> None:
    named = re.findall(r"\b\w+\.py\b|\b\w[\w/]*/(?=\s|$)", ROOMS[room])
    assert [name for name in named if not (ROOT / room / name).exists()] == []


@pytest.mark.parametrize("config", APPLICATIONS, ids=lambda config: config.label)
def test_every_model_is_drawn_in_its_room(config: AppConfig) -> None:
    drawn = set(re.findall(r"\w+", ROOMS[config.name.replace(".", "/")]))
    assert [model for model in config.get_models() if model.__name__ not in drawn] == []
