"""The system user that PostgreSQL runs as. It refuses to run as root, so root lends it an account of its own."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nooble.errors import EngineError

SYSTEM_USER = "nooble-postgres"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A system user by id; without ids, the user that this process runs as."""

    user_id: int | None = None
    group_id: int | None = None

    def subprocess_options(self) -> dict[str, Any]:
        """What makes ``subprocess.run`` run a program as this user."""
        if self.user_id is None:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give the file (made if it is missing) or directory to this user, and to nobody else."""
        if not path.is_dir():
            path.touch(mode=0o600)
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)

    def reach(self, path: Path) -> None:
        """Let another user walk to ``path``: directories on the way become searchable, not readable, where need be."""
        if self.user_id is None:
            return
        for directory in path.parents:
            mode = directory.stat().st_mode
            if not mode & stat.S_IXOTH:
                directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)

    def owns(self, path: Path) -> bool:
        return path.stat().st_uid == (os.geteuid() if self.user_id is None else self.user_id)


def server_account() -> Account:
    """The account for PostgreSQL: our own, or for root that of a system user, made when there is none yet."""
    if os.geteuid() != 0:
        return Account()
    entry = _entry() or _create()
    return Account(user_id=entry.pw_uid, group_id=entry.pw_gid)


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None


def _create() -> pwd.struct_passwd:
    useradd = shutil.which("useradd") or "useradd"
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    # Two first starts may race for it; the loser finds the user made.
    subprocess.run(command, check=False, capture_output=True)  # noqa: S603  # constant arguments
    entry = _entry()
    if entry is None:
        raise EngineError(f"PostgreSQL does not run as root and {SYSTEM_USER} could not be made: run as another user.")
    return entry
