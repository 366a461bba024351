import NIOCore

@testable import ZMTP

extension FuzzTarget {
    /// A stream of frames, once as it comes and once in pieces. The first byte chooses: the size of the pieces, an envelope, the limits.
    static let zmtpFrames = FuzzTarget(
        "zmtp-frames", of: ["ZMTP"], longestInput: 400,
        seeds: [
            "03 0000", "05 00 03 616263 01 01 78 00 00", "00 04 07 0550494e47 0000", "43 02 0000000000000003 616263 00 00",
            "c1 01 03 616263 03 0000000000000001 78 00 02 6869", "10 02 00000000000fffff 00", "5f 02 00000000ffffffff 01",
            "20 02 ffffffffffffffff 00 01 00 01 00", "21 01 ff", "22 06 00", "23 08 00", "24 05 00",
        ].map { ByteBuffer(hexadecimal: $0) },
        words: [
            "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}", "\u{2}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{3}", "\u{1}\u{0}",
            "\u{4}\u{2}",
        ]
    ) { input in
        var stream = input
        let choice: UInt8 = stream.readInteger() ?? 0
        let limits = FrameDecoder.Limits(
            messageSize: choice & 0x5f == 0x5f ? .max : 1 << 16, frames: choice & 0x20 == 0 ? 8 : .max)
        let envelope = choice & 0x80 == 0 ? nil : ByteBuffer(string: "peer")
        let whole = try Decoded([stream], limits, envelope)
        let pieces = try Decoded(stream.pieces(of: Int(choice & 0x1f) + 1), limits, envelope)
        try require(whole.units == pieces.units, "frames in pieces are the same frames")
        try require(whole.violation == pieces.violation, "frames in pieces are refused for the same reason")
        let again = try Decoded([whole.encoded(without: envelope == nil ? 0 : 1)], limits, envelope)
        let taken = whole.units.filter { if case .tooLarge = $0 { false } else { true } }
        try require(again.units == taken && again.violation == nil, "frames that are written are read as they were")
    }

    /// A whole conversation: the handshake and what follows it. The first byte chooses our socket type and the size of the pieces, the
    /// second how much of the handshake comes by itself.
    static let zmtpSession = FuzzTarget(
        "zmtp-session", of: ["ZMTP"], longestInput: 300,
        seeds: SocketType.allCases.indices.flatMap { type in
            [(0, greeting + ready), (1, ready + [0, 1, 0x78]), (2, [0, 2, 1, 0x61, 1, 1, 0x61, 0, 1, 0x62] + ping)].map {
                ByteBuffer(bytes: [UInt8(type), $0.0] + $0.1)
            }
        },
        words: [
            "READY", "ERROR", "PING", "PONG", "SUBSCRIBE", "CANCEL", "Socket-Type", "Identity", "DEALER", "ROUTER", "SUB", "NULL",
        ]
    ) { input in
        var stream = input
        let (choice, start): (UInt8, UInt8) = (stream.readInteger() ?? 0, stream.readInteger() ?? 0)
        let type = SocketType.allCases[Int(choice & 7) % SocketType.allCases.count]
        let peer = ["DEALER", "ROUTER", "SUB", "PUB", "SUB"][Int(choice & 7) % SocketType.allCases.count]
        var opening = ByteBuffer()
        if start & 3 > 0 { opening.writeBytes(greeting) }
        if start & 3 > 1 { opening.writeImmutableBuffer(Command.ready(.init(socketType: peer)).encoded()) }
        opening.writeImmutableBuffer(stream)
        let whole = Conversation([opening], type)
        let pieces = Conversation(opening.pieces(of: Int(choice >> 3) + 1), type)
        try require(whole == pieces, "a conversation in pieces is the same conversation")
        try whole.checkSubscriptions()
    }

    /// The body of one command.
    static let zmtpCommands = FuzzTarget(
        "zmtp-commands", of: ["ZMTP"], longestInput: 200,
        seeds: [Array(ready[2...]), Array(ping[2...]), Array("\u{5}ERROR\u{3}why".utf8), Array("\u{9}SUBSCRIBEab".utf8)].map {
            ByteBuffer(bytes: $0)
        },
        words: [
            "\u{5}READY", "\u{4}PING", "\u{5}ERROR", "\u{bb}Socket-Type\u{0}\u{0}\u{0}\u{6}DEALER",
            "\u{8}Identity\u{0}\u{0}\u{0}\u{1}",
        ]
    ) { input in
        _ = try? Greeting.parse(input)
        guard let command = try? Command(parsing: input) else { return }
        switch command {
        // An unknown command is never written, and an error's text may have been repaired and cut.
        case .unknown, .error: return
        default: break
        }
        var frame = command.encoded()
        let header = try FrameHeader(reading: &frame)
        try require(header?.length == frame.readableBytes, "a command's frame is as long as it says")
        try require(try Command(parsing: frame) == command, "a command that is written is read as it was")
    }
}

private let greeting = Array(Greeting().encoded().readableBytesView)
private let ready = Array(
    Command.ready(.init(socketType: "DEALER", identity: ByteBuffer(string: "me"))).encoded().readableBytesView)
private let ping = Array(Command.ping(timeToLive: 3, context: ByteBuffer(string: "x")).encoded().readableBytesView)

/// Everything that a decoder reads from a stream.
private struct Decoded {
    private(set) var units: [FrameDecoder.Unit] = []
    private(set) var violation: ProtocolViolation?

    init(_ pieces: [ByteBuffer], _ limits: FrameDecoder.Limits, _ envelope: ByteBuffer?) throws {
        var decoder = FrameDecoder(limits: limits)
        decoder.envelope = envelope
        var arrived = 0
        for piece in pieces {
            decoder.receive(piece)
            arrived += piece.readableBytes
            do throws(ProtocolViolation) {
                while let unit = try decoder.next() { self.units.append(unit) }
            } catch {
                self.violation = error
                return
            }
            try require(
                decoder.partialFrameCapacity <= max(1 << 17, arrived * 16),
                "a peer that announced much and sent \(arrived) bytes got \(decoder.partialFrameCapacity)")
        }
    }

    /// The stream again, without so many frames that were put before each message.
    func encoded(without added: Int) -> ByteBuffer {
        var stream = ByteBuffer()
        func write(_ body: ByteBuffer, _ flags: FrameHeader.Flags) {
            FrameHeader(flags: flags, length: body.readableBytes).write(to: &stream)
            stream.writeImmutableBuffer(body)
        }
        for unit in self.units {
            switch unit {
            case .command(let body): write(body, .command)
            // A message that was passed over cannot be written.
            case .tooLarge: break
            case .message(let frames):
                for (place, frame) in frames.enumerated().dropFirst(added) { write(frame, place < frames.count - 1 ? .more : []) }
            }
        }
        return stream
    }
}

/// Everything that a session answers to a stream.
private struct Conversation: Equatable {
    private var events: [Session.Event] = []
    private var violation: ProtocolViolation?

    init(_ pieces: [ByteBuffer], _ type: SocketType) {
        var session = Session(
            socketType: type, identity: ByteBuffer(string: "us"), limits: .init(messageSize: 1 << 16, frames: 16))
        for piece in pieces {
            session.receive(piece)
            do throws(ProtocolViolation) {
                while let event = try session.next() { self.events.append(event) }
            } catch {
                self.violation = error
                return
            }
        }
    }

    /// Puts the subscriptions into a set, and compares it with each subscription by itself.
    func checkSubscriptions() throws {
        var set = SubscriptionSet()
        var plain: Set<ByteBuffer> = []
        for event in self.events {
            switch event {
            case .subscribe(let prefix):
                try require(set.insert(prefix) == plain.insert(prefix).inserted, "a subscription is new once")
            case .cancel(let prefix):
                try require(set.remove(prefix) == (plain.remove(prefix) != nil), "what was subscribed can be cancelled")
            case .message(let message):
                for frame in message {
                    let bytes = frame.readableBytesView
                    try require(
                        set.matches(frame) == plain.contains { bytes.starts(with: $0.readableBytesView) },
                        "a topic is wanted when it begins with a subscription")
                }
            case .reply, .ready, .tooLarge: break
            }
        }
        try require(plain.isEmpty ? set.size == 0 : set.size > 0, "a set without subscriptions has no size")
    }
}
