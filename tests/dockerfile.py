"""The steps of a Dockerfile, taken without a container engine.

Each stage is a plain folder, and the paths in the steps are moved into it; so is a process that runs in the
last one. That is no container: the machine's own system stands in for the base image, ``useradd`` only notes
what it was asked, and a path that only appears inside of a program is not moved.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

OURS = re.compile(r"(?<![\w./-])(?=/(?:app|build|opt|var/lib/chatbackend)(?![\w-]))")
# What a step asks of the system, and not of the folder.
NOTED = ["useradd"] if os.geteuid() == 0 else ["useradd", "chown"]


@dataclass
class Stage:
    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    said: dict[str, str] = field(default_factory=dict)  # CMD, HEALTHCHECK, STOPSIGNAL, VOLUME, EXPOSE

    def path(self, inside: str) -> Path:
        return self.root / (Path("/", self.workdir) / inside).relative_to("/")

    def moved(self, text: str) -> str:
        return OURS.sub(str(self.root), text)

    def environment(self) -> dict[str, str]:
        return {name: self.moved(value) for name, value in self.env.items()}

    def command(self, name: str = "CMD") -> list[str]:
        """In exec form, for ``Popen``: as the image's user and in its working directory.

        A user who is no longer root may still read everything, as the interpreter may be in root's own
        folder; to write is up to the modes of the files.
        """
        argv = json.loads(self.said[name].rpartition("CMD ")[2])
        return [*self.as_its_user(), *map(self.moved, argv)]

    def as_its_user(self) -> list[str]:
        command = [shutil.which("env") or "env", f"--chdir={self.path('.')}"]
        if os.geteuid() != 0:
            return command
        uid, gid = self.user.split(":")
        caps = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return [
            *command,
            shutil.which("setpriv") or "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            *caps,
        ]


def build(dockerfile: Path, place: Path) -> Stage:
    """Take every step; return the last stage. Raises ``CalledProcessError`` with what a step printed."""
    context, stages, names = _context(dockerfile.parent, place / "context"), [], {}
    for instruction, value in steps(dockerfile.read_text()):
        if instruction == "FROM":
            stages.append(_begin(place / str(len(stages))))
            _image, *named = re.split(r"\s+as\s+", value, flags=re.IGNORECASE)
            names[named[0] if named else str(len(stages) - 1)] = stages[-1]
            continue
        stage = stages[-1]
        match instruction:
            case "ENV" | "ARG":
                stage.env |= dict(
                    each.split("=", 1) for each in shlex.split(Template(value).safe_substitute(stage.env))
                )
            case "WORKDIR":
                stage.workdir = value
                stage.path(".").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = value
            case "COPY":
                _copy(stage, context, names, value)
            case "RUN":
                _run(stage, value)
            case _:
                stage.said[instruction] = value
    return stages[-1]


def steps(text: str) -> list[tuple[str, str]]:
    """Instruction and value, lines joined and comments left out."""
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(instruction.upper(), " ".join(value.split())) for instruction, value in pairs]


def ignored(rules: str, path: str) -> bool:
    """Whether .dockerignore keeps the path out: the last rule that says something of it counts."""
    result = False
    for rule in rules.splitlines():
        pattern = (
            re.escape(rule.strip().removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        )
        if rule.strip() and not rule.startswith("#") and re.fullmatch(f"{pattern}(?:/.*)?", path):
            result = not rule.startswith("!")
    return result


def _begin(root: Path) -> Stage:
    """A base image: this Python, and what only the system could do."""
    tools = root / "usr/local/bin"
    tools.mkdir(parents=True)
    programs = {each: f'echo "{each} $*" >> {root}/noted' for each in NOTED}
    programs["python"] = f'exec {sys.executable} "$@"'
    for name, program in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{program}\n")
        (tools / name).chmod(0o755)
    return Stage(root, env={"PATH": f"{tools}:{os.environ['PATH']}"})


def _context(source: Path, copy: Path) -> Path:
    """What ``docker build`` would send."""
    rules = (source / ".dockerignore").read_text()
    known = [top for top in source.iterdir() if not ignored(rules, top.name)]  # and not all of node_modules
    for path in [*known, *(path for top in known for path in top.rglob("*"))]:
        name = str(path.relative_to(source))
        if path.is_file() and not ignored(rules, name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy / name)
    return copy


def _copy(stage: Stage, context: Path, names: dict[str, Stage], value: str) -> None:
    words = value.split()
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    *sources, target = (word for word in words if not word.startswith("--"))
    for source in sources:
        path = names[options["from"]].path(source) if "from" in options else context / source
        to = stage.path(target)
        if path.is_dir():
            shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True)
        else:
            to = to / path.name if target.endswith("/") else to
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


def _run(stage: Stage, value: str) -> None:
    # pip's cache is this machine's, and none of the image's.
    env = os.environ | stage.environment()
    for name in ("PIP_NO_CACHE_DIR", "PYTHONDEVMODE", "PYTHONPATH", "VIRTUAL_ENV"):
        env.pop(name, None)
    command = ["sh", "-ec", stage.moved(value)]
    done = subprocess.run(command, cwd=stage.path("."), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"RUN {value}\n{done.stdout}{done.stderr}")
