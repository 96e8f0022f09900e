"""Engines of the deployment's own: with their addresses set, nothing embedded is started."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import worker_environment

ROOT = Path(__file__).resolve().parents[2]


def test_with_urls_of_its_own_a_process_starts_no_engine(database: None, tmp_path: Path) -> None:
    environment = {**os.environ, **worker_environment(), "NOOBLE_DATA_DIR": str(tmp_path)}
    environment["DJANGO_SETTINGS_MODULE"] = "settings.dev"
    command = [sys.executable, "manage.py", "check", "--database", "default", "--database", "owner"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
