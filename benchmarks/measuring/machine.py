"""The machine: cores of processes, what a server uses, and CPU time lost to the host. Only for Linux."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))  # at import, because we pin ourselves to some of them later
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Use:
    """Of a process with its descendants. ``cpu``: seconds until now, user and system."""

    cpu: float
    resident_kb: int
    threads: int


def use(pid: int) -> Use:
    # A process that has ended meanwhile has no figures.
    stats = [stat for process in _process_tree(pid) if (stat := _stat(process))]
    # proc_pid_stat(5): the fields from the third on. 13 and 14 are of children that have ended.
    cpu = sum(int(stat[field]) for stat in stats for field in (11, 12, 13, 14)) / TICKS
    return Use(cpu, sum(int(stat[21]) for stat in stats) * PAGE_KB, sum(int(stat[17]) for stat in stats))


def pin(pid: int, cores: Iterable[int]) -> None:
    """Limit a process with its current and future descendants to these cores."""
    for process in _process_tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


def split(for_server: int) -> tuple[set[int], set[int]]:
    """The cores of a server, and the cores of its clients and database. On a small machine they overlap."""
    return set(CORES[:for_server]), set(CORES[for_server:]) or set(CORES)


def stolen() -> tuple[int, int]:
    """(ticks that the host gave to other machines, all ticks) since the boot, over all cores."""
    ticks = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"
    )


def version_of(*command: str) -> str:
    """The first line of the command's output; empty if the program is not installed."""
    if not shutil.which(command[0]):
        return ""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout or result.stderr).partition("\n")[0].strip()


def _process_tree(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            parents[int(entry.name)] = int(stat[1])
    family = [pid]
    for member in family:  # grows as it is read
        family += [child for child, parent in parents.items() if parent == member]
    return [member for member in family if _stat(member)]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:  # it has ended meanwhile
        return []
