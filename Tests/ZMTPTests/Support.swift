import NIOCore
import Testing

@testable import ZMTP

/// A random source that gives the same numbers for the same seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension ByteBuffer {
    /// A buffer of the text's UTF-8 bytes.
    init(_ text: String) { self.init(string: text) }

    var text: String { String(buffer: self) }

    var array: [UInt8] { Array(self.readableBytesView) }
}

/// A message of text frames.
func message(_ frames: String...) -> Message { frames.map { ByteBuffer($0) } }

extension Session {
    /// Gives bytes in pieces of at most the given sizes, the last size repeated; returns all events and what was thrown.
    mutating func feed(_ bytes: [UInt8], pieces: [Int] = [.max]) -> (events: [Event], violation: ProtocolViolation?) {
        var events: [Event] = []
        var rest = bytes[...]
        var piece = 0
        do {
            while !rest.isEmpty {
                let count = min(max(pieces[min(piece, pieces.count - 1)], 1), rest.count)
                piece += 1
                self.receive(ByteBuffer(bytes: rest.prefix(count)))
                rest = rest.dropFirst(count)
                while let event = try self.next() { events.append(event) }
            }
        } catch {
            return (events, error)
        }
        return (events, nil)
    }
}

/// What a peer sends up to the end of its handshake.
func handshake(as type: String, identity: String = "", minorVersion: UInt8 = 1) -> [UInt8] {
    Greeting(minorVersion: minorVersion).encoded().array
        + Command.ready(.init(socketType: type, identity: ByteBuffer(identity))).encoded().array
}

func frame(_ flags: UInt8, _ body: [UInt8]) -> [UInt8] {
    [flags, UInt8(body.count)] + body
}

func frame(_ flags: UInt8, _ body: String) -> [UInt8] { frame(flags, Array(body.utf8)) }
