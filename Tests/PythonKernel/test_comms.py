"""Comms: what an engine's widgets send is published, and what the client's notebook answers reaches them."""

import json

import pytest
from nanny import Nanny

pytest.importorskip("IPython")
pytest.importorskip("comm")


@pytest.fixture(scope="module")
def nanny():
    kernel = Nanny()
    yield kernel
    kernel.close()


def run(nanny, code):
    reply = nanny.execute(code, silent=True)
    assert reply["status"] == "ok", "\n".join(reply["traceback"])
    return nanny.published


def deliver(nanny, kind, content, buffers=()):
    """Sends what a client relays; there is no reply, so what its handler published comes before that of the next request."""
    nanny.published = []
    nanny.request(kind, content, buffers)
    parts = nanny.receive()
    while parts[0] == b"P":
        nanny.published.append((parts[2].decode(), parts[3].decode(), json.loads(parts[5]), parts[6:]))
        parts = nanny.receive()
    assert parts[:2] == [b"R", b"none"]
    return nanny.published


def test_a_comm_is_opened_used_and_closed_on_the_wire_as_by_stock_engines(nanny):
    shown = run(
        nanny,
        "from comm import create_comm\n"
        "c = create_comm(target_name='a', data={'x': 1}, metadata={'version': '2'}, buffers=[b'abc'])\n"
        "c.send({'y': float('inf')})\nc.close({'z': 3})\nname = c.comm_id",
    )
    name = shown[0][2]["comm_id"]
    assert shown == [
        (f"comm-{name}", "comm_open", {"data": {"x": 1}, "comm_id": name, "target_name": "a", "target_module": None}, [b"abc"]),
        (f"comm-{name}", "comm_msg", {"data": {"y": "inf"}, "comm_id": name}, []),
        (f"comm-{name}", "comm_close", {"data": {"z": 3}, "comm_id": name}, []),
    ]


def test_a_message_says_which_engine_sent_it(nanny):
    nanny.request("execute_request", {"code": "c = create_comm(target_name='a', metadata={'version': '2'})", "silent": True})
    parts = nanny.receive()
    assert (parts[3], json.loads(parts[4])) == (b"comm_open", {"version": "2", "engine": "uuid-7"})
    nanny.reply()


def test_what_the_client_sends_reaches_the_comm_and_is_not_replied(nanny):
    (_, _, content, _), *_ = run(
        nanny,
        "c = create_comm(target_name='a')\ngot = []\n"
        "c.on_msg(lambda message: (got.append((message['content']['data'], [bytes(b) for b in message['buffers']])), c.send('heard')))\n"
        "c.on_close(lambda message: got.append('closed'))",
    )
    name = content["comm_id"]
    sent = deliver(nanny, "comm_msg", {"comm_id": name, "data": {"x": 1}}, [b"12", b"3" * 5000])
    assert [(kind, content["data"]) for _, kind, content, _ in sent] == [("comm_msg", "heard")]
    assert deliver(nanny, "comm_close", {"comm_id": name, "data": {}}) == []
    run(nanny, f"assert got == [({{'x': 1}}, [b'12', b'3' * 5000]), 'closed'], got")


def test_a_comm_can_be_opened_by_the_client(nanny):
    run(nanny, "import comm\ncomm.get_comm_manager().register_target('there', lambda c, message: (globals().update(theirs=c), c.send(message['content']['data'])))")
    sent = deliver(nanny, "comm_open", {"comm_id": "abc", "target_name": "there", "data": 5})
    assert sent == [("comm-abc", "comm_msg", {"data": 5, "comm_id": "abc"}, [])]
    nanny.request("comm_info_request", {"target_name": "there"})
    assert nanny.reply()[0] == {"status": "ok", "comms": {"abc": {"target_name": "there"}}}
    run(nanny, "assert get_ipython().kernel.comm_manager.comms['abc'] is theirs")


def test_messages_for_unknown_comms_and_failing_handlers_harm_nothing(nanny):
    for content in ({"comm_id": "nowhere", "data": {}}, {}, {"comm_id": None}):
        for kind in ("comm_open", "comm_msg", "comm_close"):
            nanny.request(kind, content)
            parts = nanny.receive()
            while parts[0] != b"R":
                parts = nanny.receive()
            assert parts[1] == b"none"
    run(nanny, "c = create_comm(target_name='a')\nc.on_msg(lambda message: 1 / 0)")
    name = nanny.published[0][2]["comm_id"]
    sent = deliver(nanny, "comm_msg", {"comm_id": name, "data": {}})
    assert "ZeroDivisionError" in "".join(content["text"] for _, kind, content, _ in sent if kind == "stream")
    run(nanny, "x = 1")


@pytest.mark.parametrize("first", ["import ipykernel.ipkernel", "import ipyparallel", "pass"])
def test_comms_work_whatever_else_is_imported(first):
    pytest.importorskip("ipykernel")
    nanny = Nanny()
    run(nanny, first)
    shown = run(nanny, "import comm\nc = comm.create_comm(target_name='a')")
    assert [kind for _, kind, _, _ in shown] == ["comm_open"]
    shown = run(nanny, "import ipykernel.ipkernel\nc = comm.create_comm(target_name='a')")
    assert "comm_open" in [kind for _, kind, _, _ in shown]
    # Its older home, which some packages still use.
    shown = run(nanny, "from ipykernel.comm import Comm\nc = Comm(target_name='a', data={'x': 1}, show_warning=False)\nc.send(5)")
    assert [kind for _, kind, _, _ in shown if kind.startswith("comm")] == ["comm_open", "comm_msg"]
    nanny.close()


def test_a_widget_is_moved_by_the_client(nanny):
    pytest.importorskip("ipywidgets")
    shown = run(nanny, "import ipywidgets\nslider = ipywidgets.IntSlider(value=3)\nseen = []\nslider.observe(lambda change: seen.append(change['new']), 'value')")
    models = [content["data"]["state"]["_model_name"] for _, kind, content, _ in shown if kind == "comm_open"]
    assert models == ["LayoutModel", "SliderStyleModel", "IntSliderModel"]
    (name,) = [content["comm_id"] for _, kind, content, _ in shown if kind == "comm_open"][2:]
    deliver(nanny, "comm_msg", {"comm_id": name, "data": {"method": "update", "state": {"value": 42}, "buffer_paths": []}})
    run(nanny, "assert (slider.value, seen) == (42, [42])")
    nanny.execute("slider")
    assert nanny.shown("execute_result")[0]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] == name


def test_a_plain_interpreter_passes_over_comms():
    nanny = Nanny(plain=True)
    deliver(nanny, "comm_msg", {"comm_id": "nowhere", "data": {}})
    assert nanny.execute("x = 1")["status"] == "ok"
    nanny.close()
