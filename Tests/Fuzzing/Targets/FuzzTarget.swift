import NIOCore

/// One parser of foreign bytes, and the properties that must hold for every input.
///
/// A parser passes when it neither traps nor hangs nor takes memory without bound; a target's `check` adds properties, such as
/// that a value that was read can be written and read again. `scripts/fuzz` looks for inputs that break a property; `ReplayTests`
/// tries those that once did.
struct FuzzTarget: Sendable {
    let name: String
    /// The modules whose code is to be reached.
    let modules: Set<String>
    /// The longest input to try, in bytes: longer ones reach little more, and slower.
    let longestInput: Int
    /// Inputs to begin with, one of each kind that the parser knows.
    let seeds: [ByteBuffer]
    /// Pieces of the format, which a fuzzer would have to guess letter by letter.
    let words: [String]
    /// - Throws: ``BrokenProperty``.
    let check: @Sendable (ByteBuffer) throws -> Void

    init(
        _ name: String, of modules: Set<String>, longestInput: Int, seeds: [ByteBuffer], words: [String] = [],
        check: @escaping @Sendable (ByteBuffer) throws -> Void
    ) {
        self.name = name
        self.modules = modules
        self.longestInput = longestInput
        self.seeds = seeds
        self.words = words
        self.check = check
    }

    static let all: [FuzzTarget] = [
        .zmtpFrames, .zmtpSession, .zmtpCommands, .json, .messages, .pickles, .pickleDecoding, .arrays, .payloads, .kernelFrames,
        .connectionFiles, .clusterFiles, .queries, .textPatterns, .traits, .settings, .libraryFiles,
    ]
}

/// A property of a parser that an input has shown to be untrue.
struct BrokenProperty: Error, CustomStringConvertible {
    let description: String
}

func require(_ condition: Bool, _ property: @autoclosure () -> String) throws {
    if !condition { throw BrokenProperty(description: property()) }
}

extension ByteBuffer {
    /// The remaining bytes, in pieces of this size.
    func pieces(of size: Int) -> [ByteBuffer] {
        var rest = self
        var pieces: [ByteBuffer] = []
        while rest.readableBytes > 0, let piece = rest.readSlice(length: min(size, rest.readableBytes)) { pieces.append(piece) }
        return pieces
    }

    /// The parts between bytes of this value.
    func split(at separator: UInt8) -> [ByteBuffer] {
        self.readableBytesView.split(separator: separator, omittingEmptySubsequences: false).map { ByteBuffer($0) }
    }

    /// The bytes that two hexadecimal digits each stand for.
    init(hexadecimal text: String) {
        let digits = text.compactMap(\.hexDigitValue)
        self.init(bytes: stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
    }
}
