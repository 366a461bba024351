import ApusWire
import NIOCore
import Testing

@Suite("JSON parts")
struct JSONTests {
    static let meanings: [(String, JSONValue)] = [
        ("null", JSONValue.null), ("true", true), (" [1, 2.5, -3] ", [1, 2.5, -3]), ("1.0", JSONValue.double(1)), ("1e3", 1000.0),
        ("\"a\\u00e9\\n\\\"\"", "aé\n\""), ("\"\\ud83d\\ude00\"", "😀"), ("\"\\ud83d\"", "\u{FFFD}"), ("{}", [:]),
        ("{\"a\":{\"b\":[]},\"a\":1}", ["a": 1]), ("123456789012345683968", JSONValue.double(123456789012345683968)), ("[]", []),
    ]

    @Test("A JSON text is read as the value it means", arguments: Self.meanings)
    func reads(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test(
        "Text that is no JSON is refused with the place",
        arguments: [
            "", " ", "{", "[1,", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "nul", "tru", "01x", "-", "1.", "\"abc", "\"\\x\"",
            "\"\\u12\"", "{} x",
            "NaN", "Infinity", "\"\u{1}\"", "]", "{\"a\":1,}", "+1",
        ])
    func refuses(text: String) {
        #expect(throws: WireError.self) { try JSONValue(parsing: text) }
    }

    @Test("Nesting that would exhaust the stack is refused")
    func depth() {
        let text = String(repeating: "[", count: 100_000)
        #expect(throws: WireError.self) { try JSONValue(parsing: text) }
    }

    @Test("A value written and read is the same value", arguments: UInt64(0)..<50)
    func roundTrip(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let value = JSONValue.random(depth: 4, using: &random)
        #expect(try JSONValue(parsing: value.packed) == value)
        #expect(try JSONValue(parsing: value.indentedText) == value)
    }

    @Test("Damaged text gives a value or an error, never a crash", arguments: UInt64(0)..<50)
    func fuzz(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var bytes = Array(JSONValue.random(depth: 3, using: &random).description.utf8)
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: place)
                default: bytes.removeSubrange(place...)
                }
            }
            let damaged = ByteBuffer(bytes: bytes)
            if let value = try? JSONValue(parsing: damaged) { #expect((try? JSONValue(parsing: value.packed)) != nil) }
            _ = try? MessageHeader(scanning: damaged)
        }
    }
}

/// SplitMix64: a generator whose whole run follows from its seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

extension JSONValue {
    static func random(depth: Int, using random: inout SeededGenerator) -> JSONValue {
        func text() -> String {
            String(
                (0..<Int.random(in: 0..<8, using: &random)).map { _ in "aé\"\\\n\u{1}😀/z".randomElement(using: &random) ?? "a" })
        }
        switch Int.random(in: 0..<(depth > 0 ? 7 : 5), using: &random) {
        case 0: return .null
        case 1: return .bool(Bool.random(using: &random))
        case 2: return .int(Int.random(in: .min ... .max, using: &random))
        case 3: return .double(Double(bitPattern: random.next() & ~(0x7FF << 52) | 0x3F0 << 52))
        case 4: return .string(text())
        case 5: return .array((0..<Int.random(in: 0..<4, using: &random)).map { _ in .random(depth: depth - 1, using: &random) })
        default:
            var members: JSONObject = [:]
            for _ in 0..<Int.random(in: 0..<4, using: &random) { members[text()] = .random(depth: depth - 1, using: &random) }
            return .object(members)
        }
    }
}
