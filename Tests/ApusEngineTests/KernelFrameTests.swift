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
        // Only now, for what came later must not have touched them.
        #expect(found.map { $0.map { String(buffer: $0) } } == Self.frames)
    }

    @Test("What is no frame is told from one that is not whole")
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
