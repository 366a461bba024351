import ApusFunctions
import NIOCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

@testable import Pickle

extension FuzzTarget {
    /// One pickle of any protocol, read, shown, and written again.
    static let pickles = FuzzTarget("pickles", of: ["Pickle"], longestInput: 200, seeds: pickleSeeds, words: pickleWords) {
        input in
        guard let value = try read(input) else { return }
        let text = value.description
        _ = value.hashValue
        for version in 3...5 {
            let written = PickleWriter(protocolVersion: version).write(value)
            guard let again = try? PickleReader(limits: generous).read(written) else {
                throw BrokenProperty(description: "what protocol \(version) wrote of \(text) is no pickle")
            }
            try require(again.description == text, "\(text) became \(again.description) in protocol \(version)")
        }
        var rest = input
        _ = try PickleReader(limits: limits).read(from: &rest, outOfBand: outOfBand)
        try require(rest.readableBytes < input.readableBytes, "a pickle that was read is passed")
    }

    /// A pickle, decoded as all kinds of Swift values. The first byte says which are tried.
    static let pickleDecoding = FuzzTarget(
        "pickle-decoding", of: ["Pickle"], longestInput: 160,
        seeds: pickleSeeds.enumerated().map { ByteBuffer(bytes: [UInt8($0 % 8)] + $1.readableBytesView) }, words: pickleWords
    ) { input in
        var pickle = input
        guard let choice: UInt8 = pickle.readInteger(), let value = try read(pickle) else { return }
        let decoder = PickleDecoder()
        func decode<Value: Codable>(_: Value.Type) throws {
            guard let decoded = try? decoder.decode(Value.self, from: value) else { return }
            // A value that cannot be written (a date beyond Python's, a key without an order) is an error.
            guard let encoded = try? PickleEncoder().encode(decoded) else { return }
            try require(
                (try? decoder.decode(Value.self, from: encoded)) != nil,
                "a \(Value.self) that is encoded from \(value) is decoded again")
        }
        switch choice & 7 {
        case 0:
            try decode(Int.self)
            try decode(UInt8.self)
            try decode(Int64?.self)
            try decode(UInt64.self)
        case 1:
            try decode(Double.self)
            try decode(Float.self)
            try decode(Bool.self)
            try decode(String.self)
        case 2:
            try decode([Int].self)
            try decode([Double].self)
            try decode([[UInt8]].self)
            try decode([String?].self)
        case 3:
            try decode([String: Int].self)
            try decode([Int: [String]].self)
            try decode(Set<Int>.self)
        case 4:
            try decode(Date.self)
            try decode(Data.self)
            try decode(UUID.self)
            try decode(Duration.self)
        case 5: try decode(Decimal.self)
        case 6: try decode(Sample.self)
        default:
            try decode(PickleValue.self)
            try decode(ClosedRange<Int>.self)
        }
    }

    /// NumPy's arrays and their types: pickles for which the first byte is even, else the text of a type.
    static let arrays = FuzzTarget(
        "arrays", of: ["Pickle"], longestInput: 260,
        seeds: ["<f8", "|u1", ">i4", "<M8[ns]", "<U3", "|S5", "|V12", "<c16", "=f2", "<m8[25us]"].map {
            ByteBuffer(string: "\u{1}" + $0)
        }
            + arraySeeds.map { ByteBuffer(bytes: [0] + $0.readableBytesView) },
        words: pickleWords + [
            "numpy", "dtype", "ndarray", "numpy.core.multiarray", "_reconstruct", "scalar", "_frombuffer", "names", "formats",
            "offsets", "itemsize", "numpy._core.numeric",
        ]
    ) { input in
        var rest = input
        guard let choice: UInt8 = rest.readInteger() else { return }
        if choice & 1 == 1 {
            guard let type = try? NDArrayScalarType(String(buffer: rest)) else { return }
            try require(try NDArrayScalarType(type.description) == type, "a type's text is read as it was written")
            let count = type.size <= 4096 ? 1 : 0
            try checkArray(
                NDArray(data: ByteBuffer(repeating: choice, count: count * type.size), shape: [count], scalarType: type))
            return
        }
        guard let value = try read(rest) else { return }
        switch value {
        case .array(let array): try checkArray(array)
        case .list(let values), .tuple(let values):
            for case .array(let array) in values { try checkArray(array) }
        default: break
        }
        if let type = try? NDArrayScalarType(constructorArgument: value) {
            let again = try NDArrayScalarType(constructorArgument: type.constructorArgument)
            try require(again.size == type.size, "a type of fields is read as it was written")
        }
    }

    /// The buffers of a call: a byte before each says how long it is, in steps of one, or of eight from 128 on.
    static let payloads = FuzzTarget(
        "payloads", of: ["ApusFunctions", "Pickle"], longestInput: 400,
        seeds: payloadSeeds,
        words: pickleWords + [
            "nargs", "narg_bufs", "kw_keys", "CannedArray", "CannedBytes", "buffers", "pickled", "shape", "dtype", "name",
        ]
    ) { input in
        var rest = input
        var buffers: [ByteBuffer] = []
        while let length: UInt8 = rest.readInteger() {
            let length = length < 128 ? Int(length) : 128 + Int(length - 128) * 8
            buffers.append(rest.readSlice(length: min(length, rest.readableBytes)) ?? ByteBuffer())
        }
        var objects = buffers[...]
        if let value = try? ObjectBuffers.deserialize(&objects, limits: limits) {
            var again = ObjectBuffers.serialize(value)[...]
            let reread = try ObjectBuffers.deserialize(&again)
            // Of a reference only the name is kept.
            let isSame = value.referenceName.map { $0 == reread.referenceName } ?? (reread.description == value.description)
            try require(isSame, "\(value) became \(reread) on the way")
            try require(again.isEmpty, "all buffers of a value are its own")
            _ = value.pythonFunctionName
            _ = value.partialCall
        }
        if let call = try? ApplyPayload(decoding: buffers) {
            let again = try ApplyPayload(decoding: call.encode())
            try require(again.arguments.count == call.arguments.count, "a call keeps its arguments")
        }
        if let call = try? IncompleteCall(buffers[...], places: [buffers.count - 1]) {
            _ = call.completed(with: [buffers.count - 1: [ByteBuffer(), ByteBuffer()]])
        }
    }
}

/// A pickle may not unfold to more than a little, so that showing the value takes little time.
private let limits: PickleReader.Limits = {
    var limits = PickleReader.Limits()
    limits.leastAllowedSize = 1 << 12
    limits.amplification = 8
    return limits
}()
private let generous = PickleReader.Limits()
private let outOfBand = [ByteBuffer(string: "first"), ByteBuffer()]

/// The value; nil if reading fails, for which there has to be a reason.
private func read(_ pickle: ByteBuffer) throws -> PickleValue? {
    do { return try PickleReader(limits: limits).read(pickle, outOfBand: outOfBand) } catch let error as PickleError {
        try require(!error.message.isEmpty, "what is no pickle is told why")
        return nil
    }
}

/// Checks everything that can be read from an array.
private func checkArray(_ array: NDArray) throws {
    _ = array.description
    _ = try? array.scalarValue()
    _ = try? array.scalarValues()
    _ = try? array.elements(as: Double.self)
    _ = try? array.elements(as: Int16.self)
    _ = try? array.elements(as: Bool.self)
    _ = try? array.withElements(as: Float.self) { $0.count }
    if let length = array.shape.first, length > 0 { _ = array[rows: 0..<1].description }
    let written = PickleWriter().write(.array(array))
    guard case .array(let again)? = try? PickleReader(limits: generous).read(written) else {
        throw BrokenProperty(description: "the array \(array) is none once it is written")
    }
    try require(again.shape == array.shape && again.data == array.data, "an array that is written is read as it was")
    try require(again.scalarType.size == array.scalarType.size, "an array keeps the size of its elements")
}

/// A type with all kinds of members that a user's type may have.
private struct Sample: Codable {
    enum Kind: String, Codable { case one, two }
    enum Shape: Codable {
        case point
        case circle(radius: Double)
    }
    struct Inner: Codable {
        let x: Int
        let y: Double?
    }
    let name: String
    let inner: [Inner]
    let kind: Kind?
    let shape: Shape?
    let times: [Date]?
}

private let pickleWords = [
    "\u{4}\u{95}", "builtins", "collections", "datetime", "_codecs", "copyreg", "encode", "set", "frozenset", "bytearray",
    "complex",
    "OrderedDict", "defaultdict", "Counter", "deque", "_reconstructor", "__newobj__", "timedelta", "timezone", "date", "time",
    "latin1",
    "range", "decimal", "Decimal", "uuid", "UUID", "fractions", "ipyparallel.serialize.canning", "Reference", "object",
]

private let plainValues: [PickleValue] = [
    .none, .bool(true), 5, -70000, .int(.max), .int(.min), .integer(UInt64.max), 2.5, "text", "é", .bytes([1, 2, 3]),
    .byteArray(ByteBuffer(bytes: [1])), [1, [2, [3]]], .tuple([1, .tuple([2]), "a", .none]), ["a": 1, "b": ["c": .tuple([])]],
    .set([1, 2]), .frozenSet(["x"]), .complex(PickleComplex(real: 1, imaginary: 2)),
    .date(PickleDate(year: 2024, month: 2, day: 29)),
    .dateTime(PickleDateTime(microsecondsSince1970: 5)!), .time(PickleTime(hour: 3)),
    .duration(PickleDuration(days: 3, seconds: 4)),
    .timeZone(.utc), .global(module: "math", name: "sqrt"),
    .object(PickleObject(constructor: .global(module: "decimal", name: "Decimal"), arguments: ["2.5"])),
    .object(
        PickleObject(constructor: .global(module: "uuid", name: "UUID"), arguments: ["01234567-89ab-cdef-0123-456789abcdef"])),
    .object(PickleObject(constructor: .global(module: "builtins", name: "range"), arguments: [0, 10, 2])),
    .object(PickleObject(constructor: .global(module: "collections", name: "deque"), arguments: [[]], appended: [1])),
    .object(PickleObject(constructor: .global(module: "collections", name: "OrderedDict"), entries: ["a": 1])),
    .object(PickleObject(instanceOf: PickleGlobal(module: "app", name: "Point"), attributes: ["x": 1])),
    ["name": "n", "inner": [["x": 1, "y": .none]], "kind": "one", "shape": ["circle": ["radius": 2.0]]],
    .object(
        PickleObject(
            constructor: .global(module: "app", name: "C"), construction: .new, arguments: [1], keywords: ["k": 2], state: 5,
            appended: [1],
            entries: [1: 2])),
]

/// Pickles that Python itself wrote, with frames and a memo, and old forms that no program writes any more.
private let pythonPickles = [
    "80049521000000000000007d94288c0161945d94284b014b02658c01629468028c0474657874944e8794752e",
    "286c70300a49310a614932300a614c2d393039343934373031373732393238323337393135303339303632354c0a6146322e350a615661e90a70310a614e614930310a612e",
    "8002636461746574696d650a6461746574696d650a7100635f636f646563730a656e636f64650a7101580b00000007c3a80102000000000000710258060000006c6174696e317103867104527105636461746574696d650a74696d657a6f6e650a7106636461746574696d650a74696d6564656c74610a71074b004b004b0087710852710985710a52710b86710c52710d2e",
    "635f5f6275696c74696e5f5f0a7365740a7100285d710128635f5f6275696c74696e5f5f0a66726f7a656e7365740a7102285d71034b03617471045271054b014b02657471065271072e",
    "8002636170700a540a7100298171017d71022858010000006171035d7104284b014b026558010000006271057d710658010000006b710768047375622e",
    "80059795984e302e",
].map { ByteBuffer(hexadecimal: $0) }

private let pickleSeeds: [ByteBuffer] =
    plainValues.map { PickleWriter().write($0) } + pythonPickles
    + arrayValues.prefix(2).map { PickleWriter().write(.array($0)) }

private let arrayValues: [NDArray] = [
    NDArray([1.0, 2, 3, 4], shape: [2, 2]), NDArray([true, false]), NDArray([Int32(1), 2, 3]), NDArray([UInt8(7)], shape: []),
    NDArray([Float](), shape: [0, 3]),
]

private let arraySeeds: [ByteBuffer] = {
    let dtype: PickleValue = .object(
        PickleObject(
            constructor: .global(module: "numpy", name: "dtype"), arguments: ["f8", false, true],
            state: .tuple([3, "<", .none, .none, .none, -1, -1, 0])))
    let record: PickleValue = .object(
        PickleObject(
            constructor: .global(module: "numpy", name: "dtype"), arguments: ["V12", false, true],
            state: .tuple([
                3, "|", .none, .tuple(["a", "b"]), ["a": .tuple([dtype, 0]), "b": .tuple([dtype, 4])], 12, 1, 16,
            ])))
    let reconstruct = PickleValue.global(module: "numpy.core.multiarray", name: "_reconstruct")
    let ndarray = PickleValue.global(module: "numpy", name: "ndarray")
    let arguments: [PickleValue] = [ndarray, .tuple([0]), .bytes([0x62])]
    let values: [PickleValue] =
        arrayValues.map { .array($0) } + [
            .object(
                PickleObject(
                    constructor: reconstruct, arguments: arguments,
                    state: .tuple([1, .tuple([2]), dtype, false, .bytes(ByteBuffer(repeating: 1, count: 16))]))),
            .object(
                PickleObject(
                    constructor: reconstruct, arguments: arguments,
                    state: .tuple([1, .tuple([1, 2]), dtype, true, .bytes(ByteBuffer(repeating: 1, count: 16))]))),
            .object(
                PickleObject(
                    constructor: reconstruct, arguments: arguments,
                    state: .tuple([1, .tuple([1]), record, false, .bytes(ByteBuffer(repeating: 1, count: 12))]))),
            .object(
                PickleObject(
                    constructor: .global(module: "numpy.core.multiarray", name: "scalar"),
                    arguments: [dtype, .bytes(ByteBuffer(repeating: 1, count: 8))])),
            .object(
                PickleObject(
                    constructor: .global(module: "numpy.core.numeric", name: "_frombuffer"),
                    arguments: [.byteArray(ByteBuffer(repeating: 1, count: 16)), dtype, .tuple([2]), "F"])),
            [.tuple(["x", "<f8"]), .tuple(["y", "<i4", .tuple([2, 3])]), .tuple(["z", [.tuple(["w", "|u1"])]])],
            ["names": ["a"], "formats": ["<f8"], "offsets": [8], "itemsize": 24],
        ]
    return values.map { PickleWriter().write($0) }
}()

private let payloadSeeds: [ByteBuffer] = {
    let calls = [
        ApplyPayload(function: .reference("f"), arguments: [1, "two"], keywords: [("k", 3)]),
        ApplyPayload(function: .global(module: "math", name: "sqrt"), arguments: [[1, 2, .bytes([1])]]),
        ApplyPayload(function: .reference("g"), arguments: [.array(NDArray([1.0]))]),
    ]
    return calls.map { call in
        var input = ByteBuffer()
        for buffer in call.encode() {
            let isLong = buffer.readableBytes >= 128
            input.writeInteger(UInt8(isLong ? 128 + (buffer.readableBytes - 128 + 7) / 8 : buffer.readableBytes))
            input.writeImmutableBuffer(buffer)
            if isLong { input.writeRepeatingByte(0, count: (8 - (buffer.readableBytes - 128) % 8) % 8) }
        }
        return input
    }
}()
