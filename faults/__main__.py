"""``matrix``: faults of the database under load. ``soak``: mixed traffic, to measure the growth of memory."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.environment import FOLDER, prepare
from chatbackend.dev.processes import StartError, say
from faults.database import database
from faults.matrix import FAULTS, matrix
from faults.soak import soak

USERS, SESSIONS = 300, 900


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m faults", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["matrix", "soak"], default="matrix")
    parser.add_argument("--faults", default=",".join(FAULTS), help=",".join(FAULTS))
    parser.add_argument("--minutes", type=float, default=5, help="duration of the soak")
    options = parser.parse_args(arguments)
    names = options.faults.split(",")
    if unknown := set(names) - set(FAULTS):
        raise StartError(f"{', '.join(unknown)}: choose from {', '.join(FAULTS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        database(Path(folder)) as running,
        prepare(USERS, SESSIONS, running.url) as environment,
    ):
        is_soak = options.command == "soak"
        say(soak(environment, options.minutes) if is_soak else matrix(environment, running, names))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except StartError as exc:
        sys.exit(f"\n{exc}")
