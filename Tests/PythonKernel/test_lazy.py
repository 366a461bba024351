"""What a kernel does not import until it is used."""

import pytest
from nanny import Nanny

serialize = pytest.importorskip("ipyparallel.serialize")


@pytest.fixture
def nanny():
    nanny = Nanny(plain=True)
    yield nanny
    nanny.close()


def run(nanny, code):
    """The result of the last line, called the way clients call."""

    def evaluate(code):
        import ast

        tree = ast.parse(code)
        last = ast.Expression(tree.body.pop().value)
        exec(compile(tree, "<code>", "exec"), globals())
        return eval(compile(last, "<code>", "eval"), globals())

    evaluate.__module__ = "__main__"
    content, buffers = nanny.apply(*map(bytes, serialize.pack_apply_message(evaluate, (code,), {})))
    assert content == {"status": "ok"}, content
    return serialize.deserialize_object(buffers)[0]


def test_a_call_imports_neither_a_client_nor_numpy(nanny):
    code = "import sys\n[name for name in ('numpy', 'ipyparallel.client', 'ipyparallel.cluster') if name in sys.modules]"
    assert run(nanny, code) == []


def test_the_package_is_whole_as_soon_as_it_is_used(nanny):
    assert run(nanny, "import ipyparallel\nipyparallel.Client.__name__") == "Client"
    assert run(nanny, "import ipyparallel.client.client as c\nc.Client is ipyparallel.Client")
    assert run(nanny, "import jupyter_client\njupyter_client.KernelClient.__name__") == "KernelClient"


FIRST = ["client.remotefunction.RemoteFunction", "client.asyncresult.AsyncResult", "util.interactive", "error.RemoteError",
         "controller.dependency.Dependency"]


@pytest.mark.parametrize("path", FIRST)
def test_any_module_can_be_the_first_and_is_there_once(nanny, path):
    name, _, thing = path.rpartition(".")
    code = f"import sys, ipyparallel.{name} as m\nsys.modules['ipyparallel.{name}'] is m and m.__spec__.loader.name"
    assert run(nanny, code) == f"ipyparallel.{name}"
    assert run(nanny, f"import ipyparallel\nipyparallel.{thing} is m.{thing} is ipyparallel.{path}")


def test_names_that_are_nowhere_are_errors(nanny):
    assert run(nanny, "import ipyparallel\n(hasattr(ipyparallel, 'nothing'), hasattr(ipyparallel, 'nothing'))") == (False, False)


def test_a_numpy_result_crosses_as_an_array_once_numpy_is_there(nanny):
    pytest.importorskip("numpy")
    assert run(nanny, "1") == 1
    assert run(nanny, "import numpy\nnumpy.arange(1000)").sum() == 499500


def test_a_dependent_function_crosses(nanny):
    code = "import ipyparallel\n@ipyparallel.depend(lambda: True)\ndef f(x): return x\nf.__module__ = '__main__'\nf"
    assert type(run(nanny, code)).__name__ == "dependent"
