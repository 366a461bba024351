"""Reads calls as clients send them, and writes results as clients expect them.

Where ipyparallel is installed, its own code reads and writes them, so that everything works that users
have registered there (dill, cloudpickle, their own canning). Elsewhere stand-ins of the same names read the
calls of Python's and Swift's clients and write plain pickles.
"""

import contextlib
import importlib
import importlib.util
import pickle
import sys
import types

from apus_kernel.channel import LARGEST
from apus_kernel.lazy import import_alone, run_all



class Calls:
    """Reads requests' buffers and writes results'."""

    def __init__(self, publisher):
        self._publisher = publisher
        self._serialize = None
        self._canners = {}
        self._answers = 0

    def prepare(self):
        """Imports what the first call would otherwise wait for."""
        if self._serialize is None:
            if importlib.util.find_spec("ipyparallel") is not None:
                self._serialize = import_alone(
                    "ipyparallel.serialize",
                    ipyparallel=("serialize",), jupyter_client=("session", "_version", "adapter", "jsonutil"),
                )
                self._postpone_canners()
            else:
                self._serialize = stand_in()
                offer_helpers()
            self._offer_publication()
        return self._serialize

    # ipyparallel's table of types names two types by text, and imports their packages when the first value is looked up. That
    # is not needed: there is no value of a type whose module has not been imported.

    def _postpone_canners(self):
        table = self._serialize.canning.can_map
        modules = {"numpy.ndarray": "numpy", "ipyparallel.dependent": "ipyparallel.controller.dependency"}
        self._canners = {module: (name, table.pop(name)) for name, module in modules.items() if name in table}

    def _add_canners(self):
        for module in [module for module in self._canners if module in sys.modules]:
            name, canner = self._canners.pop(module)
            if name == "numpy.ndarray":
                canner = any_array(canner)
            self._serialize.canning.can_map[name] = canner

    def complete(self):
        """Called after each answer: after the second it imports modules that later calls most likely need.

        Not after the first, when all engines of a cluster are starting and would take each other's time.
        """
        self._answers += 1
        if self._answers == 2:
            run_all()
            # Stock engines have NumPy from their first answer on; memory.py needs ctypes, for which the first array should not wait.
            for module in ["ctypes", *[name for name in self._canners if name == "numpy"]]:
                with contextlib.suppress(Exception):
                    importlib.import_module(module)

    def unpack(self, buffers, namespace):
        """The function, its arguments and its keyword arguments."""
        return self.prepare().unpack_apply_message(buffers, namespace)

    def pack(self, value):
        serialize = self.prepare()
        if self._canners:
            self._add_canners()
        buffers = serialize.serialize_object(value)
        if any(memoryview(buffer).nbytes > LARGEST for buffer in buffers):
            raise ValueError("a result of more than 4 GiB fits in no message; give it back in parts")
        return buffers

    def publish_data(self, data):
        """Publishes a dictionary of objects while a task runs: ipyparallel's `datapub`."""
        self._publisher.publish("datapub", "data_message", {"keys": list(data)}, buffers=self.pack(data))

    def _offer_publication(self):
        # ipyparallel's own module looks for ipykernel's shell, which is not here.
        module = types.ModuleType("ipyparallel.engine.datapub", "Publishing native (typically pickled) objects.")
        module.publish_data = self.publish_data
        module.ZMQDataPublisher = type("ZMQDataPublisher", (), {"publish_data": lambda _, data: self.publish_data(data)})
        sys.modules["ipyparallel.engine.datapub"] = module


# ipyparallel sends the memory of an array, and NumPy gives no access to that of dates (its issue 4983) and of some rarer types.


def plain(array):
    """The array in a form whose memory NumPy gives access to; None where there is no such form."""
    if array.dtype.hasobject:
        return None
    if array.dtype.kind in "mM":
        array = array.view("i8")
    try:
        memoryview(array)
    except (BufferError, TypeError, ValueError):
        return None
    return array


def any_array(canner):
    """Extends ipyparallel's canner of arrays to every array, in forms that its clients read."""

    def can_array(array):
        numbers = plain(array)
        if numbers is not None and sum(array.shape) > 0:
            canned = canner(numbers)
            if numbers is not array:
                canned.dtype = array.dtype.str
            return canned
        canned = canner.__new__(canner)
        canned.shape, canned.dtype, canned.pickled = array.shape, array.dtype.str, True
        canned.buffers = [pickle.dumps(array)]
        return canned

    return can_array


# What follows stands in for ipyparallel where it is not installed.


class CannedObject:
    """An object in the form in which it is sent: the state to rebuild it from."""

    def get_object(self, namespace):
        if type(self) is not CannedObject:
            raise TypeError(f"a {type(self).__name__} needs ipyparallel in this interpreter: {sys.executable}")
        for key in self.keys:
            setattr(self.obj, key, uncan(getattr(self.obj, key), namespace))
        if self.hook:
            uncan(self.hook, namespace)(self.obj, namespace)
        return self.obj


class UnmetDependency(Exception):
    pass


class dependent:
    """A function with a condition on the engine that runs it: ipyparallel's `@depend` and `@require`."""

    def check_dependency(self):
        if self.df(*self.dargs, **self.dkwargs) is False:
            raise UnmetDependency

    def __call__(self, *arguments, **keywords):
        return self.f(*arguments, **keywords)


class Reference(CannedObject):
    def get_object(self, namespace):
        return eval(self.name, namespace)


class CannedBytes(CannedObject):
    def __init__(self, data):
        self.buffers = [data]

    def get_object(self, namespace):
        return bytes(self.buffers[0])


class CannedMemoryView(CannedBytes):
    def get_object(self, namespace):
        return memoryview(self.buffers[0])


class CannedArray(CannedObject):
    def __init__(self, array):
        import numpy

        self.shape = array.shape
        self.dtype = array.dtype.descr if array.dtype.fields else array.dtype.str
        numbers = plain(array)
        self.pickled = sum(array.shape) == 0 or numbers is None
        if self.pickled:
            self.buffers = [pickle.dumps(array)]
        else:
            self.buffers = [numpy.ascontiguousarray(numbers, dtype=None)]

    def get_object(self, namespace):
        import numpy

        if self.pickled:
            return pickle.loads(self.buffers[0])
        return numpy.frombuffer(self.buffers[0], dtype=self.dtype).reshape(self.shape)


class CannedCell(CannedObject):
    def get_object(self, namespace):
        return types.CellType(uncan(self.cell_contents, namespace))


class CannedPartial(CannedObject):
    def get_object(self, namespace):
        import functools

        keywords = {name: uncan(value, namespace) for name, value in self.keywords.items()}
        return functools.partial(
            uncan(self.func, namespace), *(uncan(value, namespace) for value in self.args), **keywords
        )


class CannedFunction(CannedObject):
    def get_object(self, namespace):
        helper = HELPERS.get((self.module, self.__name__))
        if helper:
            return helper(namespace)
        if self.module and self.module != "__main__":
            namespace = importlib.import_module(self.module).__dict__
        closure = getattr(self, "closure", None)
        function = types.FunctionType(
            self.code,
            namespace,
            self.__name__,
            tuple(uncan(value, namespace) for value in self.defaults) if self.defaults else None,
            tuple(uncan(cell, namespace) for cell in closure) if closure else None,
        )
        keywords = getattr(self, "kwdefaults", None)
        if keywords:
            function.__kwdefaults__ = {name: uncan(value, namespace) for name, value in keywords.items()}
        function.__annotations__ = getattr(self, "annotations", None) or {}
        return function


def code_ctor(*fields):
    return types.CodeType(*fields)


def push_into(namespace):
    def push(**values):
        for name, value in values.items():
            namespace["_apus_value"] = value
            exec(f"{name} = _apus_value", namespace)
        namespace.pop("_apus_value", None)

    return push


def pull_from(namespace):
    def pull(keys):
        if isinstance(keys, (list, tuple, set)):
            return [eval(key, namespace) for key in keys]
        return eval(keys, namespace)

    return pull


def map_all(namespace):
    return lambda function, *sequences: list(map(function, *sequences))


def map_scattered(namespace):
    return lambda function, *names: list(map(function, *(namespace.pop(name) for name in names)))


def check_dependency_in(namespace):
    return lambda function, namespace=None: function.check_dependency()


# ipyparallel's own helpers, which its client sends as code that imports ipyparallel.
HELPERS = {
    ("ipyparallel.util", "_push"): push_into,
    ("ipyparallel.util", "_pull"): pull_from,
    ("ipyparallel.client.remotefunction", "_map"): map_all,
    ("ipyparallel.client.view", "_broadcast_map"): map_scattered,
    ("ipyparallel.serialize.canning", "_uncan_dependent_hook"): check_dependency_in,
}


class Helper(CannedObject):
    """One of the helpers as Apus's clients send it: by its name alone."""

    def __init__(self, make):
        self.make = make

    def get_object(self, namespace):
        return self.make(namespace)


def offer_helpers():
    """Puts the helpers into the modules in which unpickling looks for their names."""
    for (module, name), make in HELPERS.items():
        setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, Helper(make))


SEQUENCES = (list, tuple, set)
# Elements are looked at one by one only where there are fewer than this; clients have the same limit.
ITEM_LIMIT = 64
# Smaller blocks stay inside the pickle.
BLOCK_LIMIT = 1024


def can(value):
    if type(value) is bytes:
        return CannedBytes(value)
    if type(value) is memoryview:
        return CannedMemoryView(value)
    numpy = sys.modules.get("numpy")
    if numpy and type(value) is numpy.ndarray:
        return CannedArray(value)
    return value


def uncan(value, namespace):
    if isinstance(value, CannedObject):
        return value.get_object(namespace)
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        return type(value)(uncan(item, namespace) for item in value)
    if type(value) is dict and len(value) < ITEM_LIMIT:
        return {key: uncan(item, namespace) for key, item in value.items()}
    return value


def elements(value):
    """The elements that may have blocks of their own, in the order in which the blocks follow."""
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        return list(value)
    if type(value) is dict and len(value) < ITEM_LIMIT:
        return [value[key] for key in sorted(value)]
    return [value]


def serialize_object(value):
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        canned = type(value)([can(item) for item in value])
    elif type(value) is dict and len(value) < ITEM_LIMIT:
        canned = {key: can(value[key]) for key in sorted(value)}
    else:
        canned = can(value)
    blocks = []
    for item in elements(canned):
        for index, block in enumerate(getattr(item, "buffers", ()) if isinstance(item, CannedObject) else ()):
            if memoryview(block).nbytes > BLOCK_LIMIT:
                item.buffers[index] = None
                blocks.append(block)
            else:
                item.buffers[index] = bytes(block)
    return [pickle.dumps(canned), *blocks]


def deserialize_object(buffers, namespace):
    buffers = list(buffers)
    canned = pickle.loads(buffers.pop(0))
    for item in elements(canned):
        if isinstance(item, CannedObject):
            for index, block in enumerate(getattr(item, "buffers", None) or ()):
                if block is None:
                    item.buffers[index] = buffers.pop(0)
    return uncan(canned, namespace), buffers


def unpack_apply_message(buffers, namespace):
    if len(buffers) < 2:
        raise ValueError("a call has two buffers at least")
    function, buffers = deserialize_object(buffers, namespace)
    counts = pickle.loads(buffers[0])
    rest, keyword_buffers = buffers[1 : 1 + counts["narg_bufs"]], buffers[1 + counts["narg_bufs"] :]
    arguments = []
    for _ in range(counts["nargs"]):
        value, rest = deserialize_object(rest, namespace)
        arguments.append(value)
    keywords = {}
    for key in counts["kw_keys"]:
        keywords[key], keyword_buffers = deserialize_object(keyword_buffers, namespace)
    if rest or keyword_buffers:
        raise ValueError("a call has buffers that no argument uses")
    return function, tuple(arguments), keywords


def use_pickle():
    pass


def stand_in():
    """Puts these classes where the pickles of ipyparallel's clients look for them."""
    modules = {"ipyparallel": types.ModuleType("ipyparallel", "Stands in for ipyparallel, which is not installed here.")}
    for name in (
        "serialize", "serialize.canning", "serialize.codeutil", "engine", "controller", "controller.dependency", "error",
    ):
        parent, _, last = f"ipyparallel.{name}".rpartition(".")
        modules[f"ipyparallel.{name}"] = types.ModuleType(f"ipyparallel.{name}")
        setattr(modules[parent], last, modules[f"ipyparallel.{name}"])
        modules[parent].__path__ = []
    serialize, canning = modules["ipyparallel.serialize"], modules["ipyparallel.serialize.canning"]
    for kind in (
        CannedObject, Reference, CannedBytes, CannedMemoryView, CannedArray, CannedCell, CannedPartial, CannedFunction,
        use_pickle, can, uncan,
    ):
        put(kind, canning)
    put(UnmetDependency, modules["ipyparallel.error"])
    put(dependent, modules["ipyparallel.controller.dependency"])
    modules["ipyparallel.serialize.codeutil"].code_ctor = code_ctor
    for function in (serialize_object, deserialize_object, unpack_apply_message, can, uncan):
        setattr(serialize, function.__name__, function)
    sys.modules.update(modules)
    return serialize


def put(thing, module):
    thing.__module__ = module.__name__
    setattr(module, thing.__name__, thing)
