import NIOCore
import Pickle
import Testing

/// A generator that a seed repeats (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite("Reading survives anything")
struct PickleFuzzTests {
    /// A pickle of each kind, written by our writer and by Python's (with frames and memo).
    private static let originals: [ByteBuffer] = {
        let values: [PickleValue] = [
            .none, 5, -70000, .integer(UInt64.max), 2.5, "text", .bytes([1, 2, 3]), .byteArray(ByteBuffer(bytes: [1])),
            [1, [2, [3]]], .tuple([1, .tuple([2]), "a", .none]), ["a": 1, "b": ["c": .tuple([])]], .set([1, 2]),
            .frozenSet(["x"]),
            .complex(PickleComplex(real: 1, imaginary: 2)), .date(PickleDate(year: 2024, month: 2, day: 29)),
            .dateTime(PickleDateTime(microsecondsSince1970: 5)!), .duration(PickleDuration(days: 3)),
            .array(NDArray([1.0, 2, 3, 4], shape: [2, 2])), .global(module: "math", name: "sqrt"),
            .object(PickleObject(instanceOf: PickleGlobal(module: "app", name: "Point"), attributes: ["x": 1])),
            .object(
                PickleObject(
                    constructor: .global(module: "app", name: "C"), construction: .new, arguments: [1], keywords: ["k": 2],
                    state: 5,
                    appended: [1], entries: [1: 2])),
        ]
        // Lists shared and nested, OrderedDict, plain objects and datetimes, in all protocols; in hexadecimal.
        let python = """
            80049521000000000000007d94288c0161945d94284b014b02658c01629468028c0474657874944e8794752e;
            800263636f6c6c656374696f6e730a4f726465726564446963740a7100295271012858010000006171024b0158010000006271034b0275
            2e;
            80049518000000000000005d94285d94284b014b026568017d948c016194680173652e;
            63636f70795f7265670a5f7265636f6e7374727563746f720a70300a28636170700a540a70310a635f5f6275696c74696e5f5f0a6f626a
            6563740a70320a4e7470330a5270340a286470350a56610a70360a286c70370a49310a6149320a617356620a70380a286470390a566b0a
            7031300a67370a7373622e;
            63636f70795f7265670a5f7265636f6e7374727563746f720a710028636170700a540a7101635f5f6275696c74696e5f5f0a6f626a6563
            740a71024e7471035271047d71052858010000006171065d7107284b014b026558010000006271087d710958010000006b710a68077375
            622e;
            8002636170700a540a7100298171017d71022858010000006171035d7104284b014b026558010000006271057d710658010000006b7107
            68047375622e;
            286c70300a49310a614932300a614c2d393039343934373031373732393238323337393135303339303632354c0a6146322e350a615661
            e90a70310a614e614930310a612e;
            8002636461746574696d650a6461746574696d650a7100635f636f646563730a656e636f64650a7101580b00000007c3a8010200000000
            0000710258060000006c6174696e317103867104527105636461746574696d650a74696d657a6f6e650a7106636461746574696d650a74
            696d6564656c74610a71074b004b004b0087710852710985710a52710b86710c52710d2e;
            635f5f6275696c74696e5f5f0a7365740a7100285d710128635f5f6275696c74696e5f5f0a66726f7a656e7365740a7102285d71034b03
            617471045271054b014b02657471065271072e;
            635f636f646563730a656e636f64650a70300a28566162630a70310a566c6174696e310a70320a7470330a5270340a2e
            """
        return values.flatMap { value in (3...5).map { PickleWriter(protocolVersion: $0).write(value) } }
            + python.split(separator: ";").map { text in
                let digits = text.compactMap(\.hexDigitValue)
                return ByteBuffer(bytes: stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
            }
    }()

    /// Opcodes weigh more than other bytes, so that mutants get further.
    private static let opcodes = Array("(.012FILNPRSVabcdgilpstJKMGTUXQ])}euohjqrBC".utf8) + Array(0x80...0x98)

    private func mutate(_ original: ByteBuffer, _ generator: inout SeededGenerator) -> ByteBuffer {
        var bytes = Array(original.readableBytesView)
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            let place = Int.random(in: 0...bytes.count, using: &generator)
            switch Int.random(in: 0..<6, using: &generator) {
            case 0 where place < bytes.count: bytes[place] = .random(in: 0...255, using: &generator)
            case 1 where place < bytes.count: bytes[place] = Self.opcodes.randomElement(using: &generator)!
            case 2: bytes.insert(Self.opcodes.randomElement(using: &generator)!, at: place)
            case 3 where place < bytes.count: bytes.remove(at: place)
            case 4: bytes.removeSubrange(place...)
            default:
                let other = Array(Self.originals.randomElement(using: &generator)!.readableBytesView)
                bytes.insert(contentsOf: other.prefix(.random(in: 0...other.count, using: &generator)), at: place)
            }
        }
        return ByteBuffer(bytes: bytes)
    }

    @Test("Damaged pickles give a value or an error, and a value that can be used", arguments: 0..<20)
    func mutations(block: Int) throws {
        var limits = PickleReader.Limits()
        limits.depth = 100
        for seed in UInt64(block * 1000)..<UInt64(block * 1000 + 1000) {
            var generator = SeededGenerator(seed: seed)
            let mutant = mutate(Self.originals.randomElement(using: &generator)!, &generator)
            do {
                let value = try PickleReader(limits: limits).read(mutant)
                // Whatever was read can be printed, hashed, written and read again.
                _ = value.description
                _ = value.hashValue
                let written = PickleWriter().write(value)
                let again = try PickleReader(limits: limits).read(written)
                #expect(again.description == value.description, "replay: seed \(seed)")
            } catch let error as PickleError {
                #expect(!error.message.isEmpty, "replay: seed \(seed)")
            }
        }
    }

    @Test("Random opcodes give a value or an error", arguments: 0..<10)
    func programs(block: Int) {
        for seed in UInt64(block * 1000)..<UInt64(block * 1000 + 1000) {
            var generator = SeededGenerator(seed: seed)
            let length = Int.random(in: 1...60, using: &generator)
            let bytes = (0..<length).map { _ in
                Int.random(in: 0..<4, using: &generator) == 0
                    ? UInt8.random(in: 0...12, using: &generator) : Self.opcodes.randomElement(using: &generator)!
            }
            let value = try? PickleReader().read(ByteBuffer(bytes: bytes + [UInt8(ascii: ".")]))
            _ = value?.description
        }
    }

    @Test("Every pickle cut short anywhere is an error or a shorter pickle")
    func truncations() {
        for original in Self.originals {
            for length in 0..<original.readableBytes {
                _ = try? PickleReader().read(original.getSlice(at: original.readerIndex, length: length)!)
            }
        }
    }
}
