"""Importing a package without others that it imports at once and that nothing here uses."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def left_out(*names: str, optional: Collection[str], of: str) -> Iterator[None]:
    """Leave packages out of imports within this block.

    Imports of these packages find stand-ins, from which any name can be imported; packages that are `optional` look as
    if they were not installed.

    Afterwards the stand-ins are gone, and so is all of the package `of` that was imported meanwhile: whoever imports it
    later, for what needs these, gets it whole. Nothing is left out where one of `names` or `of` is imported already.
    """
    if not sys.modules.keys().isdisjoint({*names, of}):
        yield
        return
    finder, absent = _StandIns(names), [each for each in optional if each not in sys.modules]
    sys.meta_path.insert(0, finder)
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))  # None is the import system's word for absent
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for module in [each for each in sys.modules if each in absent or each.partition(".")[0] in {*names, of}]:
            del sys.modules[module]


class _Any(type):
    """Of a class that can be called, and asked for anything, and stays what it is."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *_: object, **__: object) -> Any:
        return cls


class _StandIn(metaclass=_Any):
    """A class, a function or a decorator of a package that is left out."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn


class _StandIns(MetaPathFinder, Loader):
    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self._names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing: the module is a stand-in."""
