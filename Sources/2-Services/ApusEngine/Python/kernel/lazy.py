"""Packages whose own code runs when it is needed, so that a kernel starts without it.

A call needs `ipyparallel.serialize`, and importing that runs `ipyparallel/__init__.py`, which imports a whole
client, numpy and much else. A postponed package is there with a few modules that do without its own code; the
first use of anything else of it runs that code, before any other module of it is imported, and so does the end
of the second call: its answer does not wait for it, and later ones find everything there.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import threading


class Postponed:
    """A package in place of itself, and the finder that waits for imports of its modules."""

    def __init__(self, name, free):
        self.name = name
        self.free = free
        self.is_run = False
        self._lock = threading.RLock()
        self._spec = importlib.util.find_spec(name)
        self.module = importlib.util.module_from_spec(self._spec)
        self.module.__getattr__ = self._missing
        sys.modules[name] = self.module
        sys.meta_path.insert(0, self)

    def run(self):
        # Whoever asks meanwhile on another thread waits, as for any import; the package's own code does not wait for itself.
        with self._lock:
            if self.is_run:
                return
            self.is_run = True
            try:
                self._spec.loader.exec_module(self.module)
            except BaseException:
                self.is_run = False
                raise
            sys.meta_path.remove(self)
            if self.module.__dict__.get("__getattr__") == self._missing:
                del self.module.__getattr__

    def _missing(self, attribute):
        with self._lock:
            if not self.is_run:
                self.run()
                return getattr(self.module, attribute)
            if attribute in self.module.__dict__:
                return self.module.__dict__[attribute]
        raise AttributeError(f"module {self.name!r} has no attribute {attribute!r}")

    def find_spec(self, name, path=None, target=None):
        if not name.startswith(self.name + ".") or name.split(".")[1] in self.free or self.is_run:
            return None
        self.run()
        if name not in sys.modules:
            return None
        # It has imported the module, and whoever asked shall get that one and not a second.
        module = sys.modules[name]
        loader = Present(module, module.__spec__)
        module.__spec__ = importlib.util.spec_from_loader(name, loader)
        return module.__spec__

    def withdraw(self):
        """Makes as if nothing of the package had been imported."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name == self.name or name.startswith(self.name + ".")]:
            del sys.modules[name]


class Present:
    """Gives a module that is there."""

    def __init__(self, module, spec):
        self.module = module
        self.spec = spec

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


class AfterImport:
    """Does something with a module once it has been imported: its name to what is called with it."""

    def __init__(self, actions):
        self._actions = actions

    def find_spec(self, name, path=None, target=None):
        action = self._actions.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if action else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_act(module):
            run(module)
            action(module)

        spec.loader.exec_module = run_and_act
        return spec


def run_all():
    """Runs the code of what is still postponed. What fails there fails again where it is used."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, Postponed)]:
        try:
            finder.run()
        except Exception:
            pass


def import_alone(name, **free):
    """Imports a module without the code of these packages, where it does without: package=its modules that do as well."""
    postponed = []
    try:
        for package, modules in free.items():
            if package not in sys.modules and importlib.util.find_spec(package) is not None:
                postponed.append(Postponed(package, modules))
        return importlib.import_module(name)
    except ImportError:
        # Another release, built otherwise.
        for package in postponed:
            package.withdraw()
        return importlib.import_module(name)
