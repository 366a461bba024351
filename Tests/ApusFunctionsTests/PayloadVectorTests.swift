import ApusFunctions
import Foundation
import NIOCore
import Pickle
import Testing

/// Buffers recorded from ipyparallel 9.2.
struct RecordedPayloads: Decodable {
    struct Object: Decodable {
        let name: String
        let repr: String
        let buffers: [Data]
    }

    struct Call: Decodable {
        struct Info: Decodable {
            let nargs: Int
            let kw_keys: [String]
        }
        let name: String
        let info: Info
        let buffers: [Data]
    }

    struct HandMade: Decodable {
        let name: String
        let bytes: Data
        let next_buffer: Data?
    }

    let serialize_object: [Object]
    let pack_apply_message: [Call]
    let handmade_pickles_accepted_by_python: [HandMade]

    static let all: RecordedPayloads = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Vectors/serialize.json")
        return try! JSONDecoder().decode(RecordedPayloads.self, from: Data(contentsOf: file))
    }()

    static func buffers(_ data: [Data]) -> [ByteBuffer] { data.map { ByteBuffer(bytes: $0) } }
}

@Suite("Payloads recorded from ipyparallel")
struct PayloadVectorTests {
    private static let recorded = RecordedPayloads.all

    /// Whether the recorded representation is also ours: not an abbreviation, an object, or a dictionary in the order that it had
    /// before sending sorted it.
    private static func isPlain(_ object: RecordedPayloads.Object) -> Bool {
        let others = [
            "dict", "exception", "numpy scalar", "Reference", "function", "function with default", "closure", "partial",
            "builtin function",
        ]
        let isWord = object.repr.allSatisfy { $0.isLetter } && !["None", "True"].contains(object.repr)
        return !isWord && !others.contains(object.name) && !object.name.hasPrefix("ndarray") && !object.repr.contains(" of ")
    }

    @Test("Every recorded object reads, and reads the same after it is written here")
    func objects() throws {
        for object in Self.recorded.serialize_object {
            var buffers = RecordedPayloads.buffers(object.buffers)[...]
            let value = try ObjectBuffers.deserialize(&buffers)
            #expect(buffers.isEmpty, "\(object.name)")
            if Self.isPlain(object) { #expect(value.description == object.repr, "\(object.name)") }
            let written = ObjectBuffers.serialize(value)
            var again = written[...]
            #expect(try ObjectBuffers.deserialize(&again) == value, "\(object.name)")
            #expect(again.isEmpty, "\(object.name)")
            #expect(written.count == object.buffers.count, "\(object.name) has as many blocks taken out")
        }
    }

    @Test("Blocks are taken out above 1024 bytes, and byte strings and arrays come back as such")
    func blocks() throws {
        func value(_ name: String) throws -> PickleValue {
            let object = try #require(Self.recorded.serialize_object.first { $0.name == name })
            var buffers = RecordedPayloads.buffers(object.buffers)[...]
            return try ObjectBuffers.deserialize(&buffers)
        }
        #expect(try value("bytes small") == .bytes("small".utf8))
        #expect(try value("bytes 1025 (extracted)") == .bytes(Array(repeating: UInt8(ascii: "q"), count: 1025)))
        guard case .array(let array) = try value("ndarray f8 (200,) extracted") else {
            throw PickleError(.typeMismatch, "no array")
        }
        #expect(try array.elements(as: Double.self) == (0..<200).map(Double.init))
        guard case .array(let matrix) = try value("ndarray i4 (2,3)") else { throw PickleError(.typeMismatch, "no array") }
        #expect(matrix.shape == [2, 3] && matrix.scalarType.description == "<i4")
        guard case .array(let number) = try value("ndarray 0-d") else { throw PickleError(.typeMismatch, "no array") }
        #expect(number.shape == [])
        guard case .array(let records) = try value("ndarray structured") else { throw PickleError(.typeMismatch, "no array") }
        #expect(records.scalarType.fields != nil)
        #expect(try value("Reference").referenceName == "x")
        #expect(try value("function").pythonFunctionName == PickleGlobal(module: "__main__", name: "add"))
        #expect(try value("function").isPythonCode)
        let partial = try #require(try value("partial").partialCall)
        #expect(partial.function.pythonFunctionName?.name == "add")
        #expect(partial.arguments == [1] && partial.keywords.isEmpty)
    }

    @Test("Every recorded call reads, and reads the same after it is written here")
    func calls() throws {
        for call in Self.recorded.pack_apply_message {
            let payload = try ApplyPayload(decoding: RecordedPayloads.buffers(call.buffers))
            #expect(payload.arguments.count == call.info.nargs, "\(call.name)")
            #expect(payload.keywords.map(\.0) == call.info.kw_keys, "\(call.name)")
            let written = payload.encode()
            #expect(written.count == call.buffers.count, "\(call.name)")
            let again = try ApplyPayload(decoding: written)
            #expect(again.function == payload.function && again.arguments == payload.arguments, "\(call.name)")
            #expect(again.keywords.map(\.1) == payload.keywords.map(\.1), "\(call.name)")
        }
    }

    @Test("Pickles without frames or memo, in old protocols, read as Python reads them")
    func handMade() throws {
        let expected: [String: (PickleValue) -> Bool] = [
            "Reference": { $0.referenceName == "double" },
            "the builtin eval": { $0 == .global(module: "builtins", name: "eval") },
            "info": { $0 == ["nargs": 1, "narg_bufs": 1, "kw_keys": []] },
            "int 21": { $0 == 21 },
            "str": { $0 == "double(4)+1" },
            "None": { $0 == .none },
            "CannedBytes": { $0 == .bytes("data".utf8) },
            "CannedArray": { $0 == .array(NDArray([1.0, 2, 3])) },
        ]
        for sample in Self.recorded.handmade_pickles_accepted_by_python {
            let check = try #require(expected.first { sample.name.hasPrefix($0.key) }, "\(sample.name)").value
            var buffers = RecordedPayloads.buffers([sample.bytes, sample.next_buffer ?? Data("data".utf8)])[...]
            #expect(check(try ObjectBuffers.deserialize(&buffers)), "\(sample.name)")
        }
    }
}
