"""Applies a mutant to a module that is already imported.

Other modules have references to its functions and classes. These objects stay the same, and get the
mutant's code.
"""

import sys
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from tests.mutation.mutants import Mutant

OWN_ATTRIBUTES = {"__dict__", "__weakref__", "__slots__", "__doc__", "__module__"}


def apply(mutant: Mutant) -> None:
    name = ".".join(mutant.file.with_suffix("").parts)
    namespace = vars(sys.modules[name])
    before, met = dict(namespace), set[tuple[int, int]]()
    exec(compile(mutant.code, str(mutant.file), "exec"), namespace)
    for each, old in before.items():
        new = namespace.get(each)
        if new is old or getattr(old, "__module__", name) != name:
            continue
        if _update(old, new, met):
            namespace[each] = old
        else:
            for module in [*sys.modules.values()]:
                if vars(module).get(each) is old:
                    setattr(module, each, new)


def _update(old: Any, new: Any, met: set[tuple[int, int]]) -> bool:
    """Give the old object the new object's code if both have the same kind. ``met``: visited pairs."""
    if old is new or (id(old), id(new)) in met:
        return True
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        if old.__code__.co_freevars != new.__code__.co_freevars:
            return False
        met.add((id(old), id(new)))
        for ours, theirs in zip(old.__closure__ or (), new.__closure__ or (), strict=True):
            if not _update(ours.cell_contents, theirs.cell_contents, met):
                ours.cell_contents = theirs.cell_contents
        old.__code__, old.__defaults__, old.__kwdefaults__ = (
            new.__code__,
            new.__defaults__,
            new.__kwdefaults__,
        )
        return True
    if isinstance(old, type) and isinstance(new, type):
        met.add((id(old), id(new)))
        for name, member in vars(new).items():
            if name in OWN_ATTRIBUTES or isinstance(member, MemberDescriptorType | GetSetDescriptorType):
                continue
            if not _update(vars(old).get(name), member, met):
                setattr(old, name, member)
        return True
    return False
