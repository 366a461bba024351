import Foundation
import NIOCore
import Pickle
import TestPython
import Testing

/// Python expressions whose values are plain data on both sides.
private let expressions = [
    "None", "True", "False", "0", "1", "255", "256", "65535", "65536", "-1", "-129", "2**31 - 1", "2**31", "-2**31", "-2**31 - 1",
    "2**40", "2**63 - 1", "-2**63", "2**63", "2**64", "-2**63 - 1", "2**70", "-2**70", "3**1000", "-3**1000", "128**100",
    "-(128**100)",
    "256**255 // 2", "256**300", "0.0", "-0.0", "1.5", "1e16", "1e-5", "1e300", "5e-324", "float('inf')", "float('-inf')",
    "float('nan')",
    "0.1 + 0.2", "123456789012345680.0", "1 + 2j", "-0.5j", "complex(1, float('inf'))",
    "''", "'abc'", "'a' * 300", "'héllo ✓ 🐳'", "'line\\nand\\ttab and \\\\ and \\x00'", "\"it's\"", "'it\\'s \"both\"'",
    "b''", "b'abc'", "bytes(range(256))", "b'q' * 2000", "bytearray()", "bytearray(b'abc')", "bytearray(b'z' * 3000)",
    "[]", "[1]", "[1, 'a', None]", "list(range(3000))", "[[], [[]], [[[]]]]", "()", "(1,)", "(1, 2)", "(1, 2, 3)",
    "(1, 2, 3, 4, 5)",
    "((), ((),), (1, (2, (3, [4]))))", "{}", "{'a': 1}", "{'b': 2, 'a': [1, 2]}",
    "{1: 'one', 'two': 2, (3, 4): None, None: True, 2.5: b'x'}",
    "{'x': {'y': (1,)}}", "{i: str(i) for i in range(2000)}", "set()", "{1}", "{'only'}", "frozenset()", "frozenset({1})",
    "frozenset({(1, frozenset({2}))})", "[{1}, {2}]",
    "datetime.date(2024, 2, 29)", "datetime.date(1, 1, 1)", "datetime.date(9999, 12, 31)",
    "datetime.time(1, 2)", "datetime.time(23, 59, 59, 999999)", "datetime.time(1, 30, fold=1)",
    "datetime.time(1, 2, 3, tzinfo=utc)",
    "datetime.datetime(2024, 1, 2, 3, 4)", "datetime.datetime(1969, 12, 31, 23, 59, 59, 5, tzinfo=utc)",
    "datetime.datetime(2024, 10, 27, 1, 30, fold=1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3.5)))",
    "datetime.datetime(2024, 1, 1, 0, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=1), 'CET'))",
    "datetime.timedelta(0)", "datetime.timedelta(days=-1, seconds=5, microseconds=7)", "datetime.timedelta(days=999999999)",
    "utc",
    "[shared, shared, {'k': shared}]", "(shared_tuple, [shared_tuple, shared_tuple])",
]

private let prelude = """
    import base64, datetime, json, pickle, sys
    utc = datetime.timezone.utc
    shared = [1, 2]
    shared_tuple = ('a', shared)

    """

@Suite("Python and Swift read each other's pickles", .enabled(if: TestPython.exists))
struct PythonCrossTests {
    private struct Sample: Decodable {
        let expression: String
        let version: Int
        let pickle: Data
        let repr: String
    }

    @Test("What Python pickles, in every protocol, reads as the same value")
    func readsPython() throws {
        let script =
            prelude + """
                for expression in json.load(sys.stdin):
                    value = eval(expression)
                    for version in range(0, min(5, pickle.HIGHEST_PROTOCOL) + 1):
                        data = pickle.dumps(value, version)
                        # What Python itself reads back: protocols below 4 lose the fold of a time.
                        text = repr(pickle.loads(data))
                        data = base64.b64encode(data).decode()
                        print(json.dumps(dict(expression=expression, version=version, pickle=data, repr=text)))
                """
        let output = try TestPython.run(script, input: String(decoding: JSONEncoder().encode(expressions), as: UTF8.self))
        let samples = try output.split(separator: "\n").map { try JSONDecoder().decode(Sample.self, from: Data($0.utf8)) }
        #expect(samples.count >= expressions.count * 5)
        for sample in samples {
            let value = try PickleReader().read(ByteBuffer(bytes: sample.pickle))
            #expect(value.description == sample.repr, "\(sample.expression) in protocol \(sample.version)")
        }
    }

    @Test("What is written here reads in Python as the same value", arguments: 3...5)
    func pythonReads(version: Int) throws {
        let script =
            prelude + """
                for expression in json.load(sys.stdin):
                    print(base64.b64encode(pickle.dumps(eval(expression))).decode())
                """
        let input = String(decoding: try JSONEncoder().encode(expressions), as: UTF8.self)
        let pickles = try TestPython.run(script, input: input).split(separator: "\n")
        let rewritten = try pickles.map { line in
            let value = try PickleReader().read(ByteBuffer(bytes: Data(base64Encoded: String(line))!))
            return Data(PickleWriter(protocolVersion: version).write(value).readableBytesView).base64EncodedString()
        }
        let check =
            prelude + """
                for expression, data in json.load(sys.stdin):
                    ours, theirs = pickle.loads(base64.b64decode(data)), eval(expression)
                    if repr(ours) != repr(theirs) or type(ours) is not type(theirs):
                        print(expression, ours)
                print('compared')
                """
        let pairs = String(decoding: try JSONEncoder().encode(zip(expressions, rewritten).map { [$0, $1] }), as: UTF8.self)
        let differences = try TestPython.run(check, input: pairs)
        #expect(differences == "compared\n")
    }

    @Test("Objects of unknown classes come back to Python as they were", arguments: 0...5)
    func opaqueObjects(version: Int) throws {
        let expressions = [
            "collections.namedtuple", "decimal.Decimal('1.50')", "fractions.Fraction(1, 3)", "uuid.UUID(int=5)",
            "range(3, 10, 2)",
            "slice(1, 2)", "ValueError('bad', 3)", "pathlib.PurePosixPath('/a/b')", "types.SimpleNamespace(a=1, b=[2])", "len",
            "functools.partial(int, base=2)", "http.HTTPStatus.OK", "Ellipsis", "NotImplemented", "type(None)", "type(...)",
            "collections.ChainMap({'a': 1})", "argparse.Namespace(a=1)", "string.Template('x')",
        ]
        let prelude = """
            import argparse, base64, collections, decimal, fractions, functools, http, json, pathlib, pickle, string, sys, types, uuid
            def show(x): return repr(x) if not isinstance(x, string.Template) else x.__dict__

            """
        let script =
            prelude + """
                for expression in json.load(sys.stdin):
                    print(base64.b64encode(pickle.dumps(eval(expression), \(version))).decode())
                """
        let input = String(decoding: try JSONEncoder().encode(expressions), as: UTF8.self)
        let rewritten = try TestPython.run(script, input: input).split(separator: "\n").map { line in
            let value = try PickleReader().read(ByteBuffer(bytes: Data(base64Encoded: String(line))!))
            return Data(PickleWriter().write(value).readableBytesView).base64EncodedString()
        }
        let check =
            prelude + """
                for expression, data in json.load(sys.stdin):
                    ours, theirs = pickle.loads(base64.b64decode(data)), eval(expression)
                    if show(ours) != show(theirs) or type(ours) is not type(theirs):
                        print(expression, ours)
                print('compared')
                """
        let pairs = String(decoding: try JSONEncoder().encode(zip(expressions, rewritten).map { [$0, $1] }), as: UTF8.self)
        let differences = try TestPython.run(check, input: pairs)
        #expect(differences == "compared\n")
    }
}

@Suite("NumPy and Swift read each other's arrays", .enabled(if: TestPython.exists))
struct NumPyCrossTests {
    private static let expressions = [
        "np.arange(3.0)", "np.arange(6, dtype='<i4').reshape(2, 3)", "np.arange(6, dtype='>i2').reshape(3, 2)",
        "np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))", "np.arange(10)[::2]", "np.array([True, False])", "np.array(1.5)",
        "np.zeros((0,))", "np.zeros((0, 3), dtype='u1')", "np.zeros((2, 0))", "np.arange(5, dtype='f4')",
        "np.arange(5, dtype='f2')",
        "np.array([1 + 2j])", "np.array(['ab', 'cde'])", "np.array([b'ab', b'c'])", "np.arange(1000, dtype='u8')",
        "np.array([(1, 2.5), (3, 4.5)], dtype=[('a', '<i4'), ('b', '<f8')])",
        "np.array([(1, [2.5, 3.5])], dtype=[('a', '<i4'), ('b', '<f8', (2,))])",
        "np.zeros(3, dtype=np.dtype([('a', 'u1'), ('b', 'f8')], align=True))",
        "np.zeros(2, dtype=np.dtype([('x', 'u2'), ('y', np.dtype([('a', 'u1'), ('b', 'f4', (2,))], align=True))], align=True))",
        "np.array(['2024-01-01', '2024-01-02'], dtype='M8[D]')", "np.array([5], dtype='m8[25s]')",
    ]

    @Test("Arrays pass both ways with type, shape and elements", arguments: 0...5)
    func arrays(version: Int) throws {
        let prelude = "import base64, json, pickle, sys\nimport numpy as np\n"
        let script =
            prelude + """
                for expression in json.load(sys.stdin):
                    print(base64.b64encode(pickle.dumps(eval(expression), \(version))).decode())
                """
        let input = String(decoding: try JSONEncoder().encode(Self.expressions), as: UTF8.self)
        let rewritten = try TestPython.run(script, input: input).split(separator: "\n").map { line in
            let value = try PickleReader().read(ByteBuffer(bytes: Data(base64Encoded: String(line))!))
            guard case .array = value else { throw TestPython.Failure(description: "no array: \(value)") }
            return Data(PickleWriter(protocolVersion: max(3, version)).write(value).readableBytesView).base64EncodedString()
        }
        let check =
            prelude + """
                for expression, data in json.load(sys.stdin):
                    ours, theirs = pickle.loads(base64.b64decode(data)), eval(expression)
                    if ours.shape != theirs.shape or ours.dtype.descr != theirs.dtype.descr or ours.tobytes() != theirs.tobytes():
                        print(expression, repr(ours), ours.dtype.descr, theirs.dtype.descr)
                    if not ours.flags.writeable: print(expression, 'is read-only')
                print('compared')
                """
        let pairs = String(decoding: try JSONEncoder().encode(zip(Self.expressions, rewritten).map { [$0, $1] }), as: UTF8.self)
        let differences = try TestPython.run(check, input: pairs)
        #expect(differences == "compared\n")
    }

    @Test("NumPy's single numbers are plain numbers here", arguments: 0...5)
    func scalars(version: Int) throws {
        let script = """
            import base64, pickle
            import numpy as np
            values = [np.float64(2.5), np.int32(-3), np.uint64(2**64 - 1), np.bool_(True), np.float32(0.5), np.float16(-1.5),
                np.complex128(1+2j), np.str_('abc'), np.bytes_(b'xy'), [np.int64(7)]]
            for value in values: print(base64.b64encode(pickle.dumps(value, \(version))).decode())
            """
        let values = try TestPython.run(script).split(separator: "\n").map { line in
            try PickleReader().read(ByteBuffer(bytes: Data(base64Encoded: String(line))!))
        }
        let expected: [PickleValue] = [
            2.5, -3, .integer(UInt64.max), true, 0.5, -1.5, .complex(PickleComplex(real: 1, imaginary: 2)), "abc",
            .bytes("xy".utf8), [7],
        ]
        #expect(values == expected)
    }

    @Test("Arrays that a protocol 5 pickle left out of band are taken from the buffers beside it")
    func outOfBand() throws {
        let script = """
            import base64, pickle
            import numpy as np
            buffers = []
            value = [np.arange(3.0), np.asfortranarray([[1, 2], [3, 4]]), bytearray(b'in'), pickle.PickleBuffer(b'ro')]
            print(base64.b64encode(pickle.dumps(value, 5, buffer_callback=buffers.append)).decode())
            for buffer in buffers: print(base64.b64encode(buffer.raw()).decode())
            """
        let lines = try TestPython.run(script).split(separator: "\n").map { ByteBuffer(bytes: Data(base64Encoded: String($0))!) }
        let value = try PickleReader().read(lines[0], outOfBand: Array(lines[1...]))
        let expected: PickleValue = [
            .array(NDArray([0.0, 1, 2])), .array(NDArray([1, 2, 3, 4], shape: [2, 2])),
            .byteArray(ByteBuffer(string: "in")), .bytes(ByteBuffer(string: "ro")),
        ]
        #expect(value == expected)
        #expect(throws: PickleError.self) { try PickleReader().read(lines[0], outOfBand: Array(lines[1..<2])) }
    }
}
