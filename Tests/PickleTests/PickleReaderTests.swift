import Foundation
import NIOCore
import Pickle
import Testing

/// The bytes of a pickle written as Python would write the literal: text with `\xNN` for bytes that are no text.
func pickleBytes(_ parts: Any...) -> ByteBuffer {
    var buffer = ByteBuffer()
    for part in parts {
        switch part {
        case let text as String: buffer.writeString(text)
        case let byte as Int: buffer.writeInteger(UInt8(byte))
        case let bytes as [UInt8]: buffer.writeBytes(bytes)
        default: preconditionFailure("\(part) is neither text nor byte")
        }
    }
    return buffer
}

@Suite("Reading pickles")
struct PickleReaderTests {
    private func read(_ parts: Any..., limits: PickleReader.Limits = .init()) throws -> PickleValue {
        var buffer = ByteBuffer()
        for part in parts { buffer.writeImmutableBuffer(pickleBytes(part)) }
        return try PickleReader(limits: limits).read(buffer)
    }

    private func code(_ parts: Any..., limits: PickleReader.Limits = .init()) -> PickleError.Code? {
        var buffer = ByteBuffer()
        for part in parts { buffer.writeImmutableBuffer(pickleBytes(part)) }
        do {
            _ = try PickleReader(limits: limits).read(buffer)
            return nil
        } catch {
            return (error as? PickleError)?.code
        }
    }

    @Test("The text protocol reads: numbers, both kinds of text, lists and dictionaries by mark")
    func protocol0() throws {
        #expect(try read("I5\n.") == 5)
        #expect(try read("I01\n.") == true)
        #expect(try read("L123456789012345678901234567890L\n.").description == "123456789012345678901234567890")
        #expect(try read("F1.5\n.") == 1.5)
        #expect(try read("Fnan\n.").description == "nan")
        #expect(try read("S'it\\'s \\x41\\n'\n.") == "it's A\n")
        #expect(try read("Vh\\u00e9 \\U0001f433 ", 0xe9, "\n.") == "hé 🐳 é")
        #expect(try read("(lp0\nI1\naI2\na.") == [1, 2])
        #expect(try read("(dp0\nS'a'\nI1\ns.") == ["a": 1])
        #expect(try read("(I1\nI2\nt.") == .tuple([1, 2]))
        #expect(try read("(I1\nI2\nl.") == [1, 2])
        #expect(try read("(I1\nI2\nd.") == [1: 2])
    }

    @Test("A list can be filled after it was referred to, and every reference sees it filled")
    func growsAfterReference() throws {
        // [x, x] where x = [1], appended to through the memo at the end.
        #expect(try read("(]", 0x94, "h", 0, "lh", 0, "K", 1, "a0.") == [[1], [1]])
    }

    @Test("Objects of unknown classes stay what their pickle says: constructor, arguments, state, elements")
    func opaque() throws {
        let value = try read("capp\nThing\n(K", 1, "tR}", "(U", 1, "aK", 2, "ub.")
        let expected = PickleObject(constructor: .global(module: "app", name: "Thing"), arguments: [1], state: ["a": 2])
        #expect(value == .object(expected))
        let list = try read("capp\nMyList\n)", 0x81, "(K", 1, "K", 2, "e.")
        #expect(
            list
                == .object(
                    PickleObject(constructor: .global(module: "app", name: "MyList"), construction: .new, appended: [1, 2])))
        let new = try read(0x80, 4, "capp\nThing\n)}(U", 1, "kK", 1, "u", 0x92, ".")
        #expect(
            new
                == .object(
                    PickleObject(constructor: .global(module: "app", name: "Thing"), construction: .new, keywords: ["k": 1])))
        #expect(try read("(iapp\nOld\n.") == .object(PickleObject(constructor: .global(module: "app", name: "Old"))))
        #expect(
            try read("(capp\nOld\nK", 1, "o.")
                == .object(PickleObject(constructor: .global(module: "app", name: "Old"), arguments: [1])))
    }

    @Test("What would run code in Python is data here")
    func code() throws {
        let value = try read("cposix\nsystem\n(S'echo hi'\ntR.")
        let call = PickleObject(constructor: .global(module: "posix", name: "system"), arguments: ["echo hi"])
        #expect(value == .object(call))
        #expect(value.description == "posix.system('echo hi')")
    }

    @Test("What follows the pickle stays in the buffer")
    func following() throws {
        var buffer = pickleBytes("I5\n.", "I6\n.", "rest")
        #expect(try PickleReader().read(from: &buffer) == 5)
        #expect(try PickleReader().read(from: &buffer) == 6)
        #expect(throws: PickleError.self) { try PickleReader().read(from: &buffer) }
        #expect(String(buffer: buffer) == "rest")
    }

    @Test("Broken pickles are refused with a reason, whatever is wrong with them")
    func broken() {
        #expect(code("") == .malformed)
        #expect(code(".") == .malformed)
        #expect(code("K") == .malformed)
        #expect(code("\u{1}") == .malformed)
        #expect(code("N0.") == .malformed)
        #expect(code("(.") == .malformed)
        #expect(code("Na.") == .malformed)
        #expect(code("]u.") == .malformed)
        #expect(code("](K", 1, "u.") == .malformed)
        #expect(code("}(K", 1, "u.") == .malformed)
        #expect(code("h", 5, ".") == .malformed)
        #expect(code("g-1\n.") == .malformed)
        #expect(code("X", [UInt8]([0xff, 0xff, 0xff, 0xff]), "abc.") == .malformed)
        #expect(code(0x8e, [UInt8](repeating: 0xff, count: 8), "abc.") == .malformed)
        #expect(code(0x95, [UInt8](repeating: 0xff, count: 8), "N.") == .malformed)
        #expect(code(0x8b, [UInt8]([0xff, 0xff, 0xff, 0xff]), ".") == .malformed)
        #expect(code("Ibad\n.") == .malformed)
        #expect(code("Nb.") == .malformed)
        #expect(code("KKR.") == .malformed)
        #expect(code("X", [UInt8]([1, 0, 0, 0, 0xff]), ".") == .invalidValue)
        #expect(code("cdatetime\ndate\n(", 0x8e, [UInt8]([4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 40]), "tR.") == .invalidValue)
    }

    @Test("What only the writer could resolve is refused by name")
    func unsupported() {
        #expect(code("Pname\n.") == .unsupported)
        #expect(code("K", 1, "Q.") == .unsupported)
        #expect(code(0x82, 1, ".") == .unsupported)
        #expect(code(0x80, 6, "N.") == .unsupported)
        #expect(code(0x97, ".") == .malformed)
    }

    @Test("An object that contains itself has no value")
    func recursive() {
        #expect(code("]", 0x94, "h", 0, "a.") == .recursive)
        #expect(code("}", 0x94, "K", 1, "h", 0, "s.") == .recursive)
        #expect(code("]", 0x94, "(h", 0, "ta.") == .recursive)
        #expect(code("capp\nA\n)R", 0x94, "h", 0, "b.") == .recursive)
    }

    @Test("Depth is limited, however it is made")
    func depth() throws {
        for depth in [600, 100_000] {
            let lists = String(repeating: "](", count: depth) + String(repeating: "e", count: depth)
            #expect(code(lists, ".") == .limitExceeded)
        }
        #expect(code("N", [UInt8](repeating: 0x85, count: 600), ".") == .limitExceeded)
        #expect(code("N", [UInt8](repeating: 0x85, count: 100_000), ".") == .limitExceeded)
        #expect(try read("N", [UInt8](repeating: 0x85, count: 190), ".").description.hasPrefix("((((("))
        var limits = PickleReader.Limits()
        limits.depth = 3
        #expect(code("N", [UInt8](repeating: 0x85, count: 3), ".", limits: limits) == nil)
        #expect(code("N", [UInt8](repeating: 0x85, count: 4), ".", limits: limits) == .limitExceeded)
    }

    @Test("The deepest value allowed can be used on a thread with a small stack")
    func deepest() async throws {
        let pickle = pickleBytes(String(repeating: "](", count: 199), String(repeating: "e", count: 199), ".")
        let text = String(repeating: "[", count: 199) + String(repeating: "]", count: 199)
        let same = await withCheckedContinuation { continuation in
            let thread = Thread {
                let value = try? PickleReader().read(pickle)
                let again = value.flatMap { try? PickleReader().read(PickleWriter().write($0)) }
                let nested = value.flatMap { try? PickleDecoder().decode(Nested.self, from: $0) }
                let encoded = nested.flatMap { try? PickleEncoder().encode($0) }
                continuation.resume(
                    returning: value?.description == text && again == value && encoded == value
                        && again?.hashValue == value?.hashValue)
            }
            // A debug build takes three times the stack, and the address sanitizer's (scripts/sanitize) more than that.
            thread.stackSize = ProcessInfo.processInfo.environment["ASAN_OPTIONS"] == nil ? 1 << 20 : 8 << 20
            thread.start()
        }
        #expect(same)
    }

    private struct Nested: Codable {
        var inner: [Nested] = []

        init(from decoder: any Decoder) throws { self.inner = try decoder.singleValueContainer().decode([Nested].self) }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(self.inner)
        }
    }

    @Test("A small pickle cannot unfold without bound")
    func amplification() {
        // Each list holds the one before ten times.
        var laughs = ByteBuffer(string: "]")
        laughs.writeInteger(UInt8(0x94))
        laughs.writeString("K\u{1}a0")
        for level in 0..<20 {
            laughs.writeString("](")
            for _ in 0..<10 { laughs.writeBytes([UInt8(ascii: "h"), UInt8(level)]) }
            laughs.writeString("e")
            laughs.writeBytes([0x94, UInt8(ascii: "0")])
        }
        laughs.writeBytes([UInt8(ascii: "h"), 20, UInt8(ascii: ".")])
        #expect(#expect(throws: PickleError.self) { try PickleReader().read(laughs) }?.code == .limitExceeded)

        // One text of a megabyte, listed a hundred thousand times.
        var texts = ByteBuffer(string: "(X")
        texts.writeInteger(UInt32(1_000_000), endianness: .little)
        texts.writeRepeatingByte(UInt8(ascii: "a"), count: 1_000_000)
        texts.writeInteger(UInt8(0x94))
        for _ in 0..<100_000 { texts.writeBytes([UInt8(ascii: "h"), 0]) }
        texts.writeString("l.")
        #expect(#expect(throws: PickleError.self) { try PickleReader().read(texts) }?.code == .limitExceeded)

        // The same text, made into bytes each time.
        var bytes = ByteBuffer(string: "c_codecs\nencode\n")
        bytes.writeInteger(UInt8(0x94))
        bytes.writeString("0X")
        bytes.writeInteger(UInt32(1_000_000), endianness: .little)
        bytes.writeRepeatingByte(UInt8(ascii: "a"), count: 1_000_000)
        bytes.writeInteger(UInt8(0x94))
        bytes.writeString("0U\u{6}latin1")
        bytes.writeInteger(UInt8(0x94))
        bytes.writeString("0(")
        for _ in 0..<10_000 {
            bytes.writeBytes([UInt8(ascii: "h"), 0, UInt8(ascii: "h"), 1, UInt8(ascii: "h"), 2, 0x86, UInt8(ascii: "R")])
        }
        bytes.writeString("l.")
        #expect(#expect(throws: PickleError.self) { try PickleReader().read(bytes) }?.code == .limitExceeded)
    }

    @Test("Memo entries are limited")
    func memo() {
        var limits = PickleReader.Limits()
        limits.memoEntries = 3
        #expect(code("N", [UInt8](repeating: 0x94, count: 3), ".", limits: limits) == nil)
        #expect(code("N", [UInt8](repeating: 0x94, count: 4), ".", limits: limits) == .limitExceeded)
        #expect(code("Np5\np6\np7\np4000000000\n.", limits: limits) == .limitExceeded)
        #expect(code("Np4000000000\n0g4000000000\n.") == nil)
    }
}

@Suite("Values")
struct PickleValueTests {
    @Test("Sets and dictionaries are equal whatever their order, and hash alike")
    func equality() {
        let first: PickleValue = ["a": 1, "b": [.set([1, 2])]]
        let second: PickleValue = ["b": [.set([2, 1])], "a": 1]
        #expect(first == second && first.hashValue == second.hashValue)
        #expect(first != ["a": 1, "b": [.set([1, 3])]])
        #expect(PickleValue.set([1, 1, 2]) == .set([2, 1]))
    }

    @Test("Sets within sets and dictionaries within dictionaries take no longer at each level to compare and to hash")
    func nestedTables() {
        func nested(_ one: PickleValue, _ other: PickleValue) -> PickleValue {
            var value: PickleValue = one
            for level in 0..<100 {
                let set: PickleValue = .set(level.isMultiple(of: 2) ? [value, one, other] : [other, one, value])
                value = .dictionary([set: "a", other: "b"])
            }
            return value
        }
        // Twice the time at each level would be for ever.
        let first = nested(1, 2)
        let second = nested(1, 2)
        #expect(first == second && first.hashValue == second.hashValue)
        #expect(first != nested(1, 3))
    }

    @Test("A dictionary gives, sets and removes values by key")
    func dictionary() {
        var dictionary: PickleDictionary = ["a": 1, 2: "two"]
        #expect(dictionary["a"] == 1 && dictionary[2] == "two" && dictionary["c"] == nil)
        dictionary["a"] = 5
        dictionary["c"] = PickleValue.none
        dictionary[2 as PickleValue] = nil
        #expect(dictionary == ["a": 5, "c": .none])
        #expect(Array(dictionary.keys) == ["a", "c"])
    }

    @Test(
        "Integers of any size convert and print",
        arguments: [
            "0", "-1", "127", "128", "-128", "-129", "255", "256", "9223372036854775807", "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809", "18446744073709551615", "18446744073709551616", "170141183460469231731687303715884105727",
            "-170141183460469231731687303715884105728", "1000000000000000000000000000000000000000000000000000000000001",
        ])
    func integers(text: String) throws {
        let integer = try #require(PickleInteger(decimal: text))
        #expect(integer.description == text)
        #expect(Int(exactly: integer) == Int(text))
        #expect(UInt64(exactly: integer) == UInt64(text))
        #expect(Int8(exactly: integer) == Int8(text))
        #expect(UInt8(exactly: integer) == UInt8(text))
        #expect(Int128(exactly: integer) == Int128(text))
        if let wide = Int128(text) { #expect(PickleInteger(wide) == integer) }
        #expect(integer.doubleValue == Double(text))
        let written = PickleWriter().write(.integer(integer))
        #expect(try PickleReader().read(written) == .integer(integer))
    }

    @Test(
        "Days count on through leap years and before 1970",
        arguments: [-719162, -141428, -1, 0, 1, 59, 60, 11016, 19782, 2_932_896])
    func days(number: Int) throws {
        let moment = try #require(PickleDateTime(microsecondsSince1970: number * 86_400_000_000 + 1_500_000))
        #expect(moment.microsecondsSince1970 == number * 86_400_000_000 + 1_500_000)
        #expect(PickleDateTime(microsecondsSince1970: 1_709_164_800_000_000)?.date == PickleDate(year: 2024, month: 2, day: 29))
        #expect(PickleDateTime(microsecondsSince1970: -719163 * 86_400_000_000) == nil)
    }

    @Test("Spans of time are normal as Python's are")
    func durations() {
        let duration = PickleDuration(seconds: -1, microseconds: -1)
        #expect(duration.days == -1 && duration.seconds == 86398 && duration.microseconds == 999_999)
        #expect(duration.totalMicroseconds == -1_000_001)
    }
}

@Suite("Arrays of numbers")
struct NDArrayTests {
    @Test("Elements are got by type, by index and in place")
    func elements() throws {
        let matrix = NDArray([1.0, 2, 3, 4, 5, 6], shape: [2, 3])
        #expect(matrix.count == 6)
        #expect(try matrix.elements(as: Double.self) == [1, 2, 3, 4, 5, 6])
        #expect(try matrix[1, 2, as: Double.self] == 6)
        #expect(try matrix.withElements(as: Double.self) { $0.reduce(0, +) } == 21)
        #expect(try matrix[rows: 1..<2].elements(as: Double.self) == [4, 5, 6])
        #expect(try matrix.transposed().elements(as: Double.self) == [1, 4, 2, 5, 3, 6])
        #expect(try matrix.reshaped([3, 2])[2, 0, as: Double.self] == 5)
        #expect(matrix.description == "array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])")
    }

    @Test("The other byte order is turned round on the way")
    func byteOrder() throws {
        let big = try NDArray(data: ByteBuffer(bytes: [0, 1, 0, 2]), shape: [2], scalarType: NDArrayScalarType(">i2"))
        #expect(try big.elements(as: Int16.self) == [1, 2])
        #expect(try big.withElements(as: Int16.self) { Array($0) } == [1, 2])
        #expect(try big[1, as: Int16.self] == 2)
    }

    @Test("A mistake about type, shape or size is said in words")
    func mistakes() throws {
        let array = NDArray([1, 2, 3])
        func message(_ body: () throws -> Void) -> String { #expect(throws: PickleError.self) { try body() }?.message ?? "" }
        #expect(
            message { _ = try array.elements(as: Double.self) }
                == "expected an array of Double (<f8), found Int64 (<i8) with shape [3]")
        #expect(message { _ = try array[3, as: Int.self] } == "an array of shape [3] has no element [3]")
        #expect(message { _ = try array.reshaped([2]) } == "3 elements do not fill the shape [2]")
        #expect(
            message { _ = try NDArray(data: ByteBuffer(bytes: [1]), shape: [2], scalarType: UInt8.scalarType) }
                == "an array of |u1 with shape [2] takes 2 bytes, found 1")
        for absurd in [[-1], [Int.max, Int.max], [Int.max, 2], [0, Int.max, Int.max]] {
            #expect(throws: PickleError.self) { try NDArray(data: ByteBuffer(), shape: absurd, scalarType: UInt8.scalarType) }
        }
        for text in ["", "<", "f", "<f3", "<O8", "x9", "<f8x", "<S99999999999999999999"] {
            #expect(throws: PickleError.self, "\(text)") { try NDArrayScalarType(text) }
        }
    }

    @Test("Any byte is a truth value once it is a Bool")
    func booleans() throws {
        let array = try NDArray(data: ByteBuffer(bytes: [0, 1, 2, 255]), shape: [4], scalarType: Bool.scalarType)
        #expect(try array.elements(as: Bool.self) == [false, true, true, true])
        #expect(try array.withElements(as: Bool.self) { Array($0) } == [false, true, true, true])
    }

    @Test("Halves, complex numbers and texts in arrays have plain values")
    func plainValues() throws {
        func values(_ type: String, _ bytes: [UInt8], count: Int) throws -> [PickleValue] {
            try PickleValue.array(NDArray(data: ByteBuffer(bytes: bytes), shape: [count], scalarType: NDArrayScalarType(type)))
                .elements()
        }
        #expect(try values("<f2", [0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00], count: 3) == [1.0, -2.0, .float(0x1p-24)])
        #expect(try values("<U2", [97, 0, 0, 0, 0, 0, 0, 0], count: 1) == ["a"])
        #expect(try values("|S2", [97, 0], count: 1) == [.bytes([97])])
        #expect(try values("<u8", [UInt8](repeating: 0xff, count: 8), count: 1) == [.integer(UInt64.max)])
    }
}
