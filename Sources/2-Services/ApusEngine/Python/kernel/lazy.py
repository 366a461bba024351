"""Postpones the code of packages until it is needed, so that a kernel starts sooner.

A call needs `ipyparallel.serialize`, and importing that runs `ipyparallel/__init__.py`, which imports a whole
client, numpy and much else. A postponed package can be imported at first with only a few modules, which do
without its own code. The first use of anything else in the package runs that code, before any other module of
the package is imported. The end of the second call runs the code as well: no answer waits for it then, and later
calls find everything imported.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import threading


class Postponed:
    """Stands for a package whose own code has not run, and runs that code when another of its modules is imported."""

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
        # Another thread waits meanwhile, as for any import; the package's own code, on this thread, does not wait for itself.
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
        # The package's own code has imported the module, so this import must give the same one and not a second.
        module = sys.modules[name]
        loader = Present(module, module.__spec__)
        module.__spec__ = importlib.util.spec_from_loader(name, loader)
        return module.__spec__

    def withdraw(self):
        """Removes the package's modules, as if nothing of it had been imported."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name == self.name or name.startswith(self.name + ".")]:
            del sys.modules[name]


class Present:
    """A loader that gives a module which has been imported already."""

    def __init__(self, module, spec):
        self.module = module
        self.spec = spec

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


class AfterImport:
    """Calls a function with a module once it has been imported. `actions` has the functions by the modules' names."""

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
    """Runs the code of packages that are still postponed. A failure is ignored here, and comes again where the package is used."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, Postponed)]:
        try:
            finder.run()
        except Exception:
            pass


def import_alone(name, **free):
    """Imports a module without the own code of some packages, if that works: package=its modules that do without that code."""
    postponed = []
    try:
        for package, modules in free.items():
            if package not in sys.modules and importlib.util.find_spec(package) is not None:
                postponed.append(Postponed(package, modules))
        return importlib.import_module(name)
    except ImportError:
        # Another release of the package, whose modules need its own code.
        for package in postponed:
            package.withdraw()
        return importlib.import_module(name)
