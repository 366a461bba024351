"""What a kernel does not import until it is used."""

import pathlib
import re

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


ARRAYS = [
    "numpy.array(['2026-01-01', '2026-01-02'], 'M8[D]')",
    "numpy.arange('2026-01-01', '2027-01-01', dtype='M8[m]').reshape(-1, 2)[:, ::2]",
    "numpy.arange(4).astype('m8[ns]')",
    "numpy.array([], 'M8[s]')",
    "numpy.array([(1, '2026-01-01')], [('n', 'i4'), ('day', 'M8[D]')])",
    "numpy.array([(1, [2])], [('n', 'i4'), ('o', [('x', 'O')])])",
    "numpy.array('2026-01-01', 'M8[D]')",
]


@pytest.mark.parametrize("array", ARRAYS)
def test_an_array_crosses_whatever_its_type(nanny, array):
    numpy = pytest.importorskip("numpy")
    assert run(nanny, "import numpy\n1") == 1
    result, expected = run(nanny, array), eval(array)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert (result == expected).all()
    assert (run(nanny, f"{{'a': [{array}]}}")["a"][0] == expected).all()


def test_the_lines_of_the_article_send_dates(nanny):
    numpy = pytest.importorskip("numpy")
    article = pathlib.Path(__file__).resolve().parents[2] / "docs" / "ComingFromIPyparallel.md"
    lines = re.search(r"^```python\n(import numpy\n.*?)^```$", article.read_text(), re.MULTILINE | re.DOTALL)[1]
    dates = numpy.array(["2026-01-01", "2026-02-01"], "M8[D]")
    known = dict(serialize.canning.can_map)
    try:
        exec(lines, {})
        content, buffers = nanny.apply(*map(bytes, serialize.pack_apply_message(first_of, (dates,), {})))
    finally:
        serialize.canning.can_map.clear()
        serialize.canning.can_map.update(known)
    assert content == {"status": "ok"}, content
    assert serialize.deserialize_object(buffers)[0] == "2026-01-01"


def first_of(array):
    return str(array[0])


first_of.__module__ = "__main__"


def test_a_dependent_function_crosses(nanny):
    code = "import ipyparallel\n@ipyparallel.depend(lambda: True)\ndef f(x): return x\nf.__module__ = '__main__'\nf"
    assert type(run(nanny, code)).__name__ == "dependent"
