import NIOCore
import Pickle

/// Recognises the few pickles that every request holds, so that they need not be taken apart by the whole machine.
///
/// The matcher follows a pickle opcode by opcode and passes over frames and memo entries, in which writers differ. A pickle that
/// has another opcode than the expected one does not match, and `PickleReader` reads it.
struct PickleMatcher {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    /// Runs the body on a matcher behind the pickle's header; nil if the body gives nil, or the bytes have no such header.
    static func match<Result>(_ buffer: ByteBuffer, _ body: (inout PickleMatcher) -> Result?) -> Result? {
        buffer.withUnsafeReadableBytes { bytes in
            var matcher = PickleMatcher(bytes: bytes)
            guard matcher.skipHeader() else { return nil }
            return body(&matcher)
        }
    }

    private init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private mutating func skipHeader() -> Bool {
        guard self.bytes.count > 12, self.bytes[0] == 0x80, self.bytes[1] <= 5 else { return false }
        self.position = self.bytes[2] == 0x95 ? 11 : 2
        return true
    }

    /// Passes this opcode, and a MEMOIZE if one follows. False if another opcode stands here.
    @inline(__always)
    mutating func opcode(_ opcode: UInt8) -> Bool {
        guard self.position < self.bytes.count, self.bytes[self.position] == opcode else { return false }
        self.position += 1
        if self.position < self.bytes.count, self.bytes[self.position] == 0x94 { self.position += 1 }
        return true
    }

    /// Passes any text of at most 255 bytes and gives its bytes.
    private mutating func textBytes() -> UnsafeRawBufferPointer? {
        guard self.bytes.count - self.position >= 2, self.bytes[self.position] == 0x8c else { return nil }
        let start = self.position + 2
        let end = start + Int(self.bytes[self.position + 1])
        guard end < self.bytes.count else { return nil }
        self.position = self.bytes[end] == 0x94 ? end + 1 : end
        return UnsafeRawBufferPointer(rebasing: self.bytes[start..<end])
    }

    mutating func text() -> String? { self.textBytes().flatMap { String(validating: $0, as: UTF8.self) } }

    /// Passes a text. False if another text, or none, stands here.
    mutating func text(_ expected: StaticString) -> Bool {
        guard let found = self.textBytes() else { return false }
        return found.elementsEqual(UnsafeBufferPointer(start: expected.utf8Start, count: expected.utf8CodeUnitCount))
    }

    /// Passes a number from 0 to 255.
    mutating func number() -> Int? {
        guard self.bytes.count - self.position >= 2, self.bytes[self.position] == 0x4b else { return nil }
        defer { self.position += 2 }
        return Int(self.bytes[self.position + 1])
    }

    mutating func end() -> Bool { self.opcode(0x2e) }
}

extension PickleMatcher {
    /// The name in a `Reference`, ``PickleValue/reference(_:)``.
    static func referenceName(_ buffer: ByteBuffer) -> String? {
        self.match(buffer) { pickle in
            guard pickle.text("ipyparallel.serialize.canning"), pickle.text("Reference"), pickle.opcode(0x93),
                pickle.opcode(0x29),
                pickle.opcode(0x81), pickle.opcode(0x7d), pickle.opcode(0x28), pickle.text("name"), let name = pickle.text(),
                pickle.text("buffers"), pickle.opcode(0x5d), pickle.opcode(0x75), pickle.opcode(0x62), pickle.end()
            else { return nil }
            return name
        }
    }

    /// The counts of a call that has no arguments by name.
    static func callCounts(_ buffer: ByteBuffer) -> (arguments: Int, buffers: Int)? {
        self.match(buffer) { pickle in
            guard pickle.opcode(0x7d), pickle.opcode(0x28), pickle.text("nargs"), let arguments = pickle.number(),
                pickle.text("narg_bufs"), let buffers = pickle.number(), pickle.text("kw_keys"), pickle.opcode(0x5d),
                pickle.opcode(0x75), pickle.end()
            else { return nil }
            return (arguments, buffers)
        }
    }
}
