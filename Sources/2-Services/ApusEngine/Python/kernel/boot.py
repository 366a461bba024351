# The code that `python -c` runs: reads the kernel's sources from the engine and starts the kernel.
import importlib.machinery, json, linecache, os, socket, struct, sys, types


class Sources:
    """Imports the modules that came in the first frame."""

    def __init__(self, texts):
        self.texts = texts

    def find_spec(self, name, path=None, target=None):
        short = name[len("apus_kernel."):]
        if name == f"apus_kernel.{short}" and short in self.texts:
            return importlib.machinery.ModuleSpec(name, self, origin=f"<{name}>")

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        text, name = self.texts[module.__name__.rpartition(".")[2]], f"<{module.__name__}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), module.__dict__)


def boot():
    for descriptor in (3, 4, 5):
        os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=3)

    # Reads not a byte more than the first frame: the kernel reads the following frames itself.
    def take(count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                sys.exit("the engine is gone")
            data += piece
        return data

    (count,) = struct.unpack("<I", take(4))
    lengths = struct.unpack(f"<{count}Q", take(8 * count))
    texts, settings = (json.loads(take(length)) for length in lengths)
    if "memory" not in settings:
        os.close(5)
    package = types.ModuleType("apus_kernel")
    package.__path__ = []
    sys.modules["apus_kernel"] = package
    sys.meta_path.append(Sources(texts))
    from apus_kernel.kernel import main

    main(sock, settings)


boot()
