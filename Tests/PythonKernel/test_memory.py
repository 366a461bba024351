"""Large arrays, which cross in memory that both processes see."""

import contextlib
import sys

import pytest
from nanny import Nanny

numpy = pytest.importorskip("numpy")
serialize = pytest.importorskip("ipyparallel.serialize")

SIZE = 1 << 18  # numbers: two megabytes


# Only Linux has such memory.
@pytest.fixture(params=["socket", "memory"] if sys.platform.startswith("linux") else ["socket"])
def nanny(request):
    nanny = Nanny(plain=True, lends=request.param == "memory")
    assert nanny.lends == (request.param == "memory")
    nanny.execute("import os", silent=True)
    yield nanny
    nanny.close()


def push(nanny, **values):
    keep = serialize.pack_apply_message(keep_there, (), values)
    content, _ = nanny.apply(*map(bytes, keep))
    assert content == {"status": "ok"}, content


def keep_there(**values):
    globals().update(values)


keep_there.__module__ = "__main__"


def value(nanny, expression):
    content, buffers = nanny.call(eval, expression)
    assert content == {"status": "ok"}, content
    return serialize.deserialize_object(buffers)[0]


def descriptors(nanny):
    return value(nanny, "len(os.listdir('/dev/fd'))")


def test_an_array_is_there_whole_and_can_be_written_to(nanny):
    push(nanny, a=numpy.arange(SIZE))
    assert value(nanny, "(a.flags.writeable, a.sum())") == (True, SIZE * (SIZE - 1) // 2)
    nanny.execute("a[0] = 7", silent=True)
    assert value(nanny, "a")[0] == 7


def test_a_small_array_can_be_written_to_as_well(nanny):
    push(nanny, a=numpy.arange(1000))
    assert value(nanny, "a.flags.writeable")


def test_a_result_is_what_the_array_was(nanny):
    nanny.execute("import numpy\nb = numpy.arange(1 << 18) * 2.0", silent=True)
    assert (value(nanny, "b") == numpy.arange(SIZE) * 2.0).all()
    assert (value(nanny, "b[::2]") == numpy.arange(0, SIZE, 2) * 2.0).all()
    assert (value(nanny, "[b, b]")[1] == numpy.arange(SIZE) * 2.0).all()


def test_what_came_goes_back_and_so_does_a_part_of_it(nanny):
    push(nanny, a=numpy.arange(SIZE))
    assert (value(nanny, "a") == numpy.arange(SIZE)).all()
    assert (value(nanny, "a[1000:]") == numpy.arange(1000, SIZE)).all()


def test_a_process_that_a_task_forks_writes_to_its_own(nanny):
    push(nanny, a=numpy.zeros(SIZE))
    code = "pid = os.fork()\nif not pid:\n    a[:] = 1\n    os._exit(int(a.sum()) == 1 << 18)\nstatus = os.waitpid(pid, 0)[1]"
    nanny.execute(code, silent=True)
    assert value(nanny, "(status, a.sum())") == (256, 0)
    nanny.execute("a += 2", silent=True)
    assert value(nanny, "a").sum() == 2 * SIZE


def test_nothing_stays_when_the_namespace_lets_go(nanny):
    push(nanny, a=numpy.zeros(SIZE))
    value(nanny, "a")
    nanny.execute("del a", silent=True)
    before = descriptors(nanny)
    for _ in range(100):
        push(nanny, a=numpy.zeros(SIZE))
        value(nanny, "a + 1")
    nanny.execute("del a", silent=True)
    assert descriptors(nanny) == before


def test_user_code_keeps_its_descriptors_however_many_arrays_there_are(nanny):
    before = descriptors(nanny)
    for number in range(80):
        push(nanny, **{f"a{number}": numpy.full(SIZE, number)})
    assert descriptors(nanny) - before <= 2 * 64
    assert value(nanny, "[globals()[f'a{number}'][0] for number in range(80)]") == list(range(80))


# Only Linux keeps a process from more memory.
if sys.platform.startswith("linux"):

    def test_a_request_for_which_there_is_no_memory_ends_the_kernel(nanny):
        size = "int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"
        limit = f"resource.setrlimit(resource.RLIMIT_AS, ({size} + (32 << 20), resource.RLIM_INFINITY))"
        nanny.execute(f"import resource\n{limit}", silent=True)
        with contextlib.suppress(BrokenPipeError):
            nanny.request("apply_request", buffers=[bytes(64 << 20)])
        with contextlib.suppress(ConnectionResetError):
            while parts := nanny.receive():
                assert parts[0] == b"P"
        assert nanny.process.wait(10) == 1
