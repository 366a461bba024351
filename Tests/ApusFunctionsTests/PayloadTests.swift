import ApusFunctions
import NIOCore
import Pickle
import Testing

@Suite("Values and calls as buffers")
struct PayloadTests {
    private let large = ByteBuffer(repeating: 7, count: 1025)
    private let small = ByteBuffer(repeating: 7, count: 1024)

    private func roundTrip(_ value: PickleValue) throws -> (value: PickleValue, buffers: Int) {
        let buffers = ObjectBuffers.serialize(value)
        var rest = buffers[...]
        let back = try ObjectBuffers.deserialize(&rest)
        #expect(rest.isEmpty)
        return (back, buffers.count)
    }

    @Test("A large block travels beside the pickle, from the value itself and from one level inside")
    func blocks() throws {
        let array = NDArray((0..<200).map(Double.init))
        let samples: [(PickleValue, Int)] = [
            (21, 1), (.bytes(small), 1), (.bytes(large), 2), (.array(array), 2), (.array(NDArray([1.0])), 1),
            ([.bytes(large), .array(array), 3], 3), (.tuple([.bytes(large), .bytes(small)]), 2),
            (["b": .bytes(large), "a": .array(array), "c": .none], 3), ([[.bytes(large)]], 1),
            (.list(Array(repeating: .bytes(large), count: 63)), 64), (.list(Array(repeating: .bytes(large), count: 64)), 1),
            (.array(NDArray([2.5], shape: [])), 1), (.array(NDArray([Double](), shape: [0, 3])), 1),
        ]
        for (value, count) in samples {
            let (back, buffers) = try roundTrip(value)
            #expect(back == value)
            #expect(buffers == count, "\(value)")
        }
    }

    @Test("A block is neither copied into the message nor out of it")
    func zeroCopy() throws {
        let array = NDArray((0..<1000).map(Double.init))
        let buffers = ObjectBuffers.serialize(.array(array))
        func address(_ buffer: ByteBuffer) -> UnsafeRawPointer? { buffer.withUnsafeReadableBytes { $0.baseAddress } }
        #expect(address(buffers[1]) == address(array.data))
        var rest = buffers[...]
        guard case .array(let received) = try ObjectBuffers.deserialize(&rest) else {
            throw PickleError(.typeMismatch, "no array")
        }
        #expect(address(received.data) == address(array.data))
    }

    @Test("A dictionary whose keys Python cannot sort is sent as one that it does not look into")
    func mixedKeys() throws {
        let mixed: PickleValue = [1: "int", "a": "text"]
        let (back, _) = try roundTrip(mixed)
        #expect(back == mixed)
        // Its pickle is not that of a plain dict, which begins with an empty one.
        #expect(ObjectBuffers.serialize(["a": 1])[0].getInteger(at: 2, as: UInt8.self) == UInt8(ascii: "}"))
        #expect(ObjectBuffers.serialize(mixed)[0].getInteger(at: 2, as: UInt8.self) != UInt8(ascii: "}"))
    }

    @Test("A call keeps its function, its arguments in order, and its keywords by name")
    func calls() throws {
        let payload = ApplyPayload(
            function: .reference("Statistics.mean"), arguments: [.array(NDArray([1.0, 2])), .bytes(large), .none],
            keywords: [("weights", .bytes(large)), ("axis", 0)])
        let buffers = payload.encode()
        #expect(buffers.count == 1 + 1 + 4 + 3)
        let back = try ApplyPayload(decoding: buffers)
        #expect(back.function.referenceName == "Statistics.mean")
        #expect(back.arguments == payload.arguments)
        #expect(back.keywords.map(\.0) == ["axis", "weights"])
        #expect(back.keywords.map(\.1) == [0, .bytes(large)])
    }

    @Test("A call with a buffer too few or too many is refused, and says so")
    func malformedCalls() throws {
        let buffers = ApplyPayload(function: .reference("f"), arguments: [1, .bytes(large)], keywords: [("k", 2)]).encode()
        for count in 0..<buffers.count {
            #expect(throws: PickleError.self, "\(count) buffers") { try ApplyPayload(decoding: buffers.prefix(count)) }
        }
        #expect(throws: PickleError.self) { try ApplyPayload(decoding: buffers + [buffers[0]]) }
        var broken = buffers
        broken[2] = ByteBuffer(string: "no pickle")
        let error = #expect(throws: PickleError.self) { try ApplyPayload(decoding: broken) }
        #expect(error?.place == "argument 1")
    }

    @Test("ipyparallel's helper functions are known by module and name")
    func helpers() {
        #expect(PythonHelper(PythonCall.pushFunction) == .push)
        #expect(PythonHelper(PythonCall.pullFunction) == .pull)
        #expect(PythonHelper(PythonCall.mapFunction) == .map)
        #expect(PythonHelper(PythonCall.broadcastMapFunction) == .broadcastMap)
        #expect(PythonHelper(PythonCall.imported("sqrt", from: "math")) == nil)
        let canned = PickleObject(
            instanceOf: PickleGlobal(module: "ipyparallel.serialize.canning", name: "CannedFunction"),
            attributes: ["module": "__main__", "__name__": "_require", "code": .none, "buffers": []])
        #expect(PythonHelper(.object(canned)) == .require)
    }
}
