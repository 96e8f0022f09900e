#!/usr/bin/env python
"""The command line of nooble: ``python manage.py up`` starts everything."""

import os
import sys

#: Commands that need neither database nor Redis. All others find the embedded engines running.
OFFLINE = {
    *("check", "collectstatic", "document_errors", "document_settings", "spectacular"),
    *("help", "version", "--help", "--version"),
}


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE") or "settings.dev"

    from django.core.management import execute_from_command_line  # noqa: PLC0415  # the settings module first

    from nooble import embedded  # noqa: PLC0415
    from nooble.errors import EngineError  # noqa: PLC0415

    if len(sys.argv) > 1 and (sys.argv[1] not in OFFLINE or "--database" in sys.argv):
        try:
            embedded.ensure()
        except EngineError as error:
            sys.exit(f"manage.py: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
