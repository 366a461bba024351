import NIOCore

@testable import ApusEngine

extension FuzzTarget {
    /// What a Python child writes to its engine, once as it comes and once in pieces. The first byte is the size of the pieces.
    static let kernelFrames = FuzzTarget(
        "kernel-frames", of: ["ApusEngine"], longestInput: 200,
        seeds: [
            [[]], [["result", "payload"]], [["a"], ["", "bc", ""]], [["1", "2", "3"], []],
        ].map { (frames: [[String]]) in
            var input = ByteBuffer(bytes: [3])
            for parts in frames {
                input.writeInteger(UInt32(parts.count), endianness: .little)
                for part in parts { input.writeInteger(UInt64(part.utf8.count), endianness: .little) }
                for part in parts { input.writeString(part) }
            }
            return input
        } + [
            ByteBuffer(hexadecimal: "07 01000000 0000000000000080 0000000000000000"),
            ByteBuffer(hexadecimal: "01 01000000 ffffffff00000000 00"),
        ],
        words: ["\u{1}\u{0}\u{0}\u{0}", "\u{1}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}", "\u{0}\u{0}\u{0}\u{0}"]
    ) { input in
        var stream = input
        let size: UInt8 = stream.readInteger() ?? 0
        let whole = KernelSpeech([stream])
        let pieces = KernelSpeech(stream.pieces(of: Int(size) % 40 + 1))
        try require(whole == pieces, "a kernel's frames in pieces are the same frames")
        var again = ByteBuffer()
        for parts in whole.frames {
            again.writeInteger(UInt32(parts.count), endianness: .little)
            for part in parts { again.writeInteger(UInt64(part.readableBytes), endianness: .little) }
            for part in parts { again.writeImmutableBuffer(part) }
        }
        try require(
            stream.readableBytesView.starts(with: again.readableBytesView), "frames that are written are those that were read")
    }
}

/// All frames that a decoder finds in a kernel's bytes. No socket lends anything, so a part that is lent cannot be taken.
private struct KernelSpeech: Equatable {
    private(set) var frames: [[ByteBuffer]] = []
    private var isTorn = false

    init(_ pieces: [ByteBuffer]) {
        var decoder = KernelFrameDecoder(lender: -1)
        for piece in pieces {
            decoder.append(piece)
            do { while let parts = try decoder.next() { self.frames.append(parts) } } catch {
                self.isTorn = true
                return
            }
        }
    }
}
