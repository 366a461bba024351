import ApusCore
import ApusEngine
import NIOCore
import Testing

@Suite("Frames from a kernel")
struct KernelFrameTests {
    private static func frame(_ parts: [String]) -> ByteBuffer {
        var frame = ByteBuffer()
        frame.writeInteger(UInt32(parts.count), endianness: .little)
        for part in parts { frame.writeInteger(UInt64(part.utf8.count), endianness: .little) }
        for part in parts { frame.writeString(part) }
        return frame
    }

    private static let frames = [["R", "ok", "", "{}", String(repeating: "x", count: 300)], [], ["P", "stream"], ["N"]]

    @Test("They are found in whatever pieces they come", arguments: [1, 2, 3, 7, 11, 64, 1000])
    func pieces(of size: Int) throws {
        var bytes = Self.frames.map(Self.frame).reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) }
        var decoder = KernelFrameDecoder(lender: -1)
        var found: [[ByteBuffer]] = []
        while let piece = bytes.readSlice(length: min(size, bytes.readableBytes)), piece.readableBytes > 0 {
            decoder.append(piece)
            while let parts = try decoder.next() { found.append(parts) }
        }
        // Compared only now: later bytes must not have changed them.
        #expect(found.map { $0.map { String(buffer: $0) } } == Self.frames)
    }

    @Test("One that is too long for a buffer is taken part by part, and those behind it as ever", arguments: [1 << 20, 7 << 20])
    func long(piece size: Int) throws {
        let parts = [
            ByteBuffer(string: "P"), ByteBuffer(repeating: 1, count: 50 << 20), ByteBuffer(),
            ByteBuffer(repeating: 2, count: 30 << 20),
        ]
        var bytes = ByteBuffer()
        bytes.writeInteger(UInt32(parts.count), endianness: .little)
        for part in parts { bytes.writeInteger(UInt64(part.readableBytes), endianness: .little) }
        for part in parts { bytes.writeImmutableBuffer(part) }
        bytes.writeImmutableBuffer(Self.frame(["N"]))
        var decoder = KernelFrameDecoder(lender: -1)
        var found: [[ByteBuffer]] = []
        while let piece = bytes.readSlice(length: min(size, bytes.readableBytes)), piece.readableBytes > 0 {
            decoder.append(piece)
            while let parts = try decoder.next() { found.append(parts) }
        }
        #expect(found.map { $0.map(\.readableBytes) } == [parts.map(\.readableBytes), [1]])
        #expect(found.first?.elementsEqual(parts) == true)
    }

    @Test("One of many parts, which have more than 4 GiB together, is begun; one with a part of more is refused")
    func absurd() throws {
        func begin(_ lengths: [UInt64]) throws -> [ByteBuffer]? {
            var bytes = ByteBuffer()
            bytes.writeInteger(UInt32(lengths.count), endianness: .little)
            for length in lengths { bytes.writeInteger(length, endianness: .little) }
            bytes.writeRepeatingByte(0, count: 1000)
            var decoder = KernelFrameDecoder(lender: -1)
            decoder.append(bytes)
            return try decoder.next()
        }
        #expect(try begin(Array(repeating: 1 << 31, count: 1000)) == nil)
        #expect(try begin([UInt64(UInt32.max)]) == nil)
        for length in [1 << 32, UInt64(1) << 62, (1 << 63) - 1, .max] {
            #expect(throws: KernelFrameDecoder.Torn.self) { try begin([1, length]) }
        }
    }

    @Test("Bytes that are no frame are told from a frame that is not whole")
    func torn() throws {
        func decode(_ integers: UInt64...) throws -> [ByteBuffer]? {
            var bytes = ByteBuffer()
            bytes.writeInteger(UInt32(truncatingIfNeeded: integers[0]), endianness: .little)
            for integer in integers.dropFirst() { bytes.writeInteger(integer, endianness: .little) }
            var decoder = KernelFrameDecoder(lender: -1)
            decoder.append(bytes)
            return try decoder.next()
        }
        #expect(throws: KernelFrameDecoder.Torn.self) { try decode(0xffff_ffff) }
        #expect(throws: KernelFrameDecoder.Torn.self) { try decode(1, 1 << 40) }
        // Lent, and nobody has lent it.
        #expect(throws: KernelFrameDecoder.Torn.self) { try decode(1, 1 << 63 | 4, 0) }
        #expect(throws: KernelFrameDecoder.Torn.self) { try decode(1, 1 << 63 | 4, .max) }
        #expect(try decode(2, 5) == nil)
        #expect(try decode(1, 1 << 31) == nil)
    }

    @Test("Noise ends in an error or in nothing", arguments: 0..<200)
    func noise(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var decoder = KernelFrameDecoder(lender: -1)
        for _ in 0..<20 {
            // Small numbers make headers that hold together for a while.
            let bytes = (0..<Int.random(in: 1...40, using: &random)).map { _ in
                Bool.random(using: &random) ? 0 : UInt8.random(in: 0...255, using: &random)
            }
            decoder.append(ByteBuffer(bytes: bytes))
            do { while try decoder.next() != nil {} } catch { return }
        }
    }
}
