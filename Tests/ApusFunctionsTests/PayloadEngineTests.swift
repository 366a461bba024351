import ApusFunctions
import Foundation
import NIOCore
import Pickle
import TestPython
import Testing

/// Buffers as text, for a script's input and output.
private enum BufferText {
    static func text(_ buffers: [ByteBuffer]) -> [String] { buffers.map { Data($0.readableBytesView).base64EncodedString() } }
    static func buffers(_ text: [String]) throws -> [ByteBuffer] {
        try text.map { ByteBuffer(bytes: try #require(Data(base64Encoded: $0))) }
    }
}

@Suite("Payloads and Python's ipyparallel", .enabled(if: TestPython.exists), .serialized)
struct PayloadEngineTests {
    @Test("What is serialised here, ipyparallel deserialises, and the other way round")
    func objects() throws {
        let large = ByteBuffer(repeating: UInt8(ascii: "q"), count: 2000)
        let samples: [(PickleValue, python: String)] = [
            (.none, "None"), (21, "21"), (.bytes("small".utf8), "b'small'"), (.bytes(large), "b'q' * 2000"),
            ([.bytes(large), 1], "[b'q' * 2000, 1]"),
            (["b": .bytes(large), "a": .bytes(large)], "{'a': b'q' * 2000, 'b': b'q' * 2000}"),
            (.array(NDArray([1.0, 2])), "np.array([1.0, 2])"),
            (.array(NDArray(Array(0..<600), shape: [200, 3])), "np.arange(600).reshape(200, 3)"),
            (.array(NDArray([2.5], shape: [])), "np.array(2.5)"),
            (.array(NDArray([Double](), shape: [0, 3])), "np.zeros((0, 3))"),
            ([1: "int", "a": "text"], "{1: 'int', 'a': 'text'}"), (.list((0..<100).map { .int($0) }), "list(range(100))"),
            (.tuple([.array(NDArray([true, false])), "x"]), "(np.array([True, False]), 'x')"), (.set([1, 2]), "{1, 2}"),
        ]
        let script = """
            import base64, json, sys
            import numpy as np
            from ipyparallel.serialize import deserialize_object, serialize_object
            def same(ours, theirs):
                if isinstance(theirs, np.ndarray): return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
                if isinstance(theirs, tuple): return all(map(same, ours, theirs))
                return ours == theirs
            for expression, buffers in json.load(sys.stdin):
                ours, rest = deserialize_object([base64.b64decode(b) for b in buffers])
                expected = eval(expression)
                if rest or not same(ours, expected): sys.exit(f'{expression} is different: {ours}')
                if expression.startswith('{1:'): expected = ours
                print(json.dumps([base64.b64encode(bytes(b)).decode() for b in serialize_object(expected)]))
            """
        let input = try JSONSerialization.data(
            withJSONObject: samples.map { [$0.python, BufferText.text(ObjectBuffers.serialize($0.0))] })
        let lines = try TestPython.run(script, input: String(decoding: input, as: UTF8.self)).split(separator: "\n")
        #expect(lines.count == samples.count)
        for (line, (value, python)) in zip(lines, samples) {
            var buffers = try BufferText.buffers(JSONDecoder().decode([String].self, from: Data(line.utf8)))[...]
            #expect(try ObjectBuffers.deserialize(&buffers) == value, "\(python)")
            #expect(buffers.isEmpty)
        }
    }

    @Test("Decorated and partial functions of a Python client can be looked into")
    func wrappedFunctions() throws {
        let script = """
            import base64, functools, json
            import numpy as np
            import ipyparallel as ipp
            from ipyparallel.serialize import serialize_object
            def f(a, b): return a
            @ipp.depend(f, 1, b=2)
            def g(): pass
            @ipp.require('numpy')
            def h(): pass
            samples = [functools.partial(f, np.arange(500.0), b=b'z' * 2000), g, h, functools.partial(print, 1)]
            for sample in samples: print(json.dumps([base64.b64encode(bytes(b)).decode() for b in serialize_object(sample)]))
            """
        let values = try TestPython.run(script).split(separator: "\n").map { line in
            var buffers = try BufferText.buffers(JSONDecoder().decode([String].self, from: Data(line.utf8)))[...]
            let value = try ObjectBuffers.deserialize(&buffers)
            #expect(buffers.isEmpty)
            return value
        }
        let partial = try #require(values[0].partialCall)
        #expect(partial.function.pythonFunctionName == PickleGlobal(module: "__main__", name: "f"))
        #expect(partial.arguments == [.array(NDArray((0..<500).map(Double.init)))])
        #expect(partial.keywords.map(\.0) == ["b"])
        #expect(partial.keywords.map(\.1) == [.bytes(ByteBuffer(repeating: UInt8(ascii: "z"), count: 2000))])
        let dependent = try #require(values[1].dependentCall)
        #expect(dependent.function.pythonFunctionName?.name == "g" && dependent.condition.pythonFunctionName?.name == "f")
        #expect(dependent.arguments == [1] && dependent.keywords.map(\.0) == ["b"] && dependent.keywords.map(\.1) == [2])
        let required = try #require(values[2].dependentCall)
        #expect(PythonHelper(required.condition) == .require && required.arguments == ["numpy"])
    }

    /// Calls sent to one stock engine, in order, and what each must give.
    private static let calls: [(String, ApplyPayload, result: PickleValue)] = [
        ("an imported function", ApplyPayload(function: PythonCall.imported("sqrt", from: "math"), arguments: [16]), 4.0),
        ("push", ApplyPayload(function: PythonCall.pushFunction, keywords: [("a", 5), ("b", [1, 2])]), .none),
        ("push to an expression", ApplyPayload(function: PythonCall.pushFunction, keywords: [("b[0]", 9)]), .none),
        ("pull one", ApplyPayload(function: PythonCall.pullFunction, arguments: ["a"]), 5),
        ("pull several", ApplyPayload(function: PythonCall.pullFunction, arguments: [["a", "b"]]), [5, [9, 2]]),
        ("pull an expression", ApplyPayload(function: PythonCall.pullFunction, arguments: ["a + len(b)"]), 7),
        ("a name in the namespace", ApplyPayload(function: PythonCall.source("b.index"), arguments: [2]), 1),
        ("a lambda that sees the namespace", ApplyPayload(function: PythonCall.source("lambda x: x * a"), arguments: [3]), 15),
        ("eval", ApplyPayload(function: PythonCall.imported("eval", from: "builtins"), arguments: ["a * 2"]), 10),
        (
            "map",
            ApplyPayload(
                function: PythonCall.mapFunction, arguments: [PythonCall.source("lambda x, y: x + y + a"), [1, 2], [10, 20]]),
            [16, 27]
        ),
        (
            "map of an imported function",
            ApplyPayload(function: PythonCall.mapFunction, arguments: [PythonCall.imported("str", from: "builtins"), [1, 2]]),
            ["1", "2"]
        ),
        (
            "map over names",
            ApplyPayload(function: PythonCall.broadcastMapFunction, arguments: [PythonCall.source("lambda x: -x"), "b"]),
            [-9, -2]
        ),
        ("names are gone after that", ApplyPayload(function: PythonCall.pullFunction, arguments: ["'b' in globals()"]), false),
        (
            "a reference as an argument",
            ApplyPayload(function: PythonCall.imported("abs", from: "builtins"), arguments: [PythonCall.source("-a")]), 5
        ),
        (
            "an array both ways",
            ApplyPayload(
                function: PythonCall.source("lambda v, scale: v * scale"),
                arguments: [.array(NDArray((0..<300).map(Double.init)))], keywords: [("scale", 2)]),
            .array(NDArray((0..<300).map { Double($0) * 2 }))
        ),
        (
            "bytes both ways",
            ApplyPayload(
                function: PythonCall.source("lambda v: v + v"), arguments: [.bytes(ByteBuffer(repeating: 1, count: 3000))]),
            .bytes(ByteBuffer(repeating: 1, count: 6000))
        ),
        (
            "a large result dictionary", ApplyPayload(function: PythonCall.source("lambda: {i: str(i) for i in range(100)}")),
            .dictionary((0..<100).map { (.int($0), .string("\($0)")) })
        ),
    ]

    @Test("A stock engine does what a request without Python code asks: push, pull, map, expressions", .timeLimit(.minutes(2)))
    func stockEngine() throws {
        let script = """
            import base64, json, logging, sys
            import ipyparallel as ipp, psutil
            started = []
            with ipp.Cluster(n=1, log_level=logging.ERROR) as client:
                client.wait_for_engines(1, timeout=60)
                started = psutil.Process().children(recursive=True)
                # The client sends our buffers in place of its own, and hands out a reply's as they came.
                from ipyparallel import serialize
                serialize.deserialize_object = lambda buffers, g=None: ([bytes(b) for b in buffers], [])
                for buffers in json.load(sys.stdin):
                    serialize.pack_apply_message = lambda *_, **__: [base64.b64decode(b) for b in buffers]
                    try:
                        reply = client[0].apply_async(print).get(timeout=30)
                        print(json.dumps(dict(buffers=[base64.b64encode(b).decode() for b in reply])))
                    except Exception as error:
                        print(json.dumps(dict(error=str(error))))
            # A controller that is stopped can leave its schedulers behind.
            for process in started:
                try: process.kill()
                except psutil.NoSuchProcess: pass
            """
        struct Reply: Decodable {
            let buffers: [String]?
            let error: String?
        }
        let input = try JSONSerialization.data(withJSONObject: Self.calls.map { BufferText.text($0.1.encode()) })
        let replies = try TestPython.run(script, input: String(decoding: input, as: UTF8.self)).split(separator: "\n")
            .filter { $0.hasPrefix("{") }.map { try JSONDecoder().decode(Reply.self, from: Data($0.utf8)) }
        #expect(replies.count == Self.calls.count)
        for (reply, call) in zip(replies, Self.calls) {
            guard let text = reply.buffers else {
                Issue.record("\(call.0): \(reply.error ?? "")")
                continue
            }
            var buffers = try BufferText.buffers(text)[...]
            #expect(try ObjectBuffers.deserialize(&buffers) == call.result, "\(call.0)")
        }
    }
}
