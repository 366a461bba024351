import NIOCore
import Testing

@testable import ZMTP

@Suite("Traffic after the handshake")
struct TrafficTests {
    func session(_ type: SocketType = .router, peer: String = "DEALER", minorVersion: UInt8 = 1) -> Session {
        var session = Session(socketType: type, identity: ByteBuffer(), limits: .init(messageSize: 1000, frames: 4))
        let (events, violation) = session.feed(handshake(as: peer, minorVersion: minorVersion))
        #expect(events.count == 2 && violation == nil)
        return session
    }

    @Test("PING is answered with PONG and the same context")
    func ping() {
        var session = self.session()
        let ping = Command.ping(timeToLive: 100, context: ByteBuffer("abc"))
        #expect(session.feed(ping.encoded().array).events == [.reply(Command.pong(context: ByteBuffer("abc")).encoded())])
        #expect(session.peerTimeToLive == 100)
    }

    @Test("A command may come between the frames of a message")
    func commandInside() {
        var session = self.session()
        let bytes = frame(1, "a") + Command.ping(timeToLive: 0, context: ByteBuffer()).encoded().array + frame(0, "b")
        #expect(
            session.feed(bytes).events == [.reply(Command.pong(context: ByteBuffer()).encoded()), .message(message("a", "b"))])
    }

    @Test("A subscription is understood as a command and as a message")
    func subscriptions() {
        var session = self.session(.pub, peer: "SUB")
        let bytes =
            frame(0, "\u{1}a") + frame(0, "\0a") + Command.subscribe(ByteBuffer("b")).encoded().array
            + Command.cancel(ByteBuffer("b")).encoded().array
        #expect(
            session.feed(bytes).events == [
                .subscribe(ByteBuffer("a")), .cancel(ByteBuffer("a")), .subscribe(ByteBuffer("b")), .cancel(ByteBuffer("b")),
            ])
    }

    @Test("On other sockets a message that looks like a subscription is a message")
    func notASubscription() {
        var session = self.session()
        #expect(session.feed(frame(0, "\u{1}a")).events == [.message(message("\u{1}a"))])
    }

    @Test("A peer of ZMTP 3.0 is known not to understand SUBSCRIBE")
    func version30() {
        #expect(!self.session(minorVersion: 0).peerSpeaks31)
        #expect(self.session(minorVersion: 1).peerSpeaks31)
    }

    @Test("Reserved flags and a command with MORE are refused", arguments: [0x08, 0x10, 0x80, 0x05, 0xFF] as [UInt8])
    func flags(flags: UInt8) {
        var session = self.session()
        #expect(session.feed(frame(flags, "a")).violation == .invalidFlags(flags))
    }

    @Test("A message before an invalid frame is still delivered")
    func messageBeforeViolation() {
        var session = self.session()
        let (events, violation) = session.feed(frame(0, "good") + frame(0x40, "bad"))
        #expect(events == [.message(message("good"))])
        #expect(violation == .invalidFlags(0x40))
    }

    @Test("The size of a message counts over its frames", arguments: [1, 50, .max])
    func sizeLimit(piece: Int) {
        let half = [UInt8](repeating: 7, count: 250)
        var session = self.session()
        let fits = frame(1, half) + frame(1, half) + frame(1, half) + frame(0, half)
        #expect(session.feed(fits, pieces: [piece]).violation == nil)
        let tooMuch = frame(1, half) + frame(1, half) + frame(1, half) + frame(0, half + [0])
        #expect(session.feed(tooMuch, pieces: [piece]).violation == .messageTooLarge(limit: 1000))
    }

    @Test("A message of too many frames is refused", arguments: [1, .max])
    func frameLimit(piece: Int) {
        var session = self.session()
        session.envelope = ByteBuffer("identity")
        let (events, violation) = session.feed(
            frame(1, "") + frame(1, "") + frame(1, "") + frame(0, "") + frame(1, "") + frame(1, "") + frame(1, "") + frame(1, "")
                + frame(0, ""), pieces: [piece])
        #expect(events == [.message(message("identity", "", "", "", ""))])
        #expect(violation == .tooManyFrames(limit: 4))
    }

    @Test(
        "An absurd length is refused by its header alone",
        arguments: [
            [0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0xFF, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 3, 0xE9],
        ]
            as [[UInt8]])
    func absurdLength(length: [UInt8]) {
        var session = self.session()
        #expect(session.feed([2] + length).violation == .messageTooLarge(limit: 1000))
        session = self.session()
        #expect(session.feed(frame(1, "x") + [3] + length, pieces: [1]).violation == .messageTooLarge(limit: 1000))
    }

    @Test(
        "A frame that is announced costs no more than eight times what arrives of it",
        arguments: [FrameDecoder.smallestFile - 1, Int(UInt32.max)])
    func boundedGrowth(length: Int) throws {
        var decoder = FrameDecoder(limits: .init(messageSize: 1 << 40, frames: 4))
        var header = ByteBuffer(bytes: [2])
        header.writeInteger(UInt64(length))
        decoder.receive(header)
        let none = try decoder.next()
        #expect(none == nil)
        #expect(decoder.partialFrameCapacity <= FrameDecoder.initialFrameCapacity)
        if length < FrameDecoder.smallestFile { #expect(decoder.partialFrameCapacity == FrameDecoder.initialFrameCapacity) }
        let piece = ByteBuffer(repeating: 1, count: 50_000)
        for count in 1...min(100, length / 50_000) {
            decoder.receive(piece)
            let none = try decoder.next()
            #expect(none == nil)
            #expect(decoder.partialFrameCapacity <= max(FrameDecoder.initialFrameCapacity, count * 50_000 * FrameDecoder.growth))
        }
    }

    @Test(
        "Large frames that come in pieces of any size are whole, and what follows them is read",
        arguments: [1000, 65_536, 999_999])
    func largeFrames(pieceSize: Int) throws {
        let large = ByteBuffer(
            bytes: (0..<(FrameDecoder.smallestFile + 4321)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) })
        var stream = ByteBuffer()
        for (flags, frame) in [(3, large), (1, ByteBuffer(string: "small")), (2, large)] as [(UInt8, ByteBuffer)] {
            stream.writeInteger(flags)
            if flags & 2 != 0 {
                stream.writeInteger(UInt64(frame.readableBytes))
            } else {
                stream.writeInteger(UInt8(frame.readableBytes))
            }
            stream.writeImmutableBuffer(frame)
        }
        var decoder = FrameDecoder(limits: .init(messageSize: 1 << 40, frames: 4))
        var units: [FrameDecoder.Unit] = []
        while let piece = stream.readSlice(length: min(pieceSize, stream.readableBytes)), piece.readableBytes > 0 {
            decoder.receive(piece)
            while let unit = try decoder.next() { units.append(unit) }
        }
        #expect(units == [.message([large, ByteBuffer(string: "small"), large])])
    }

    @Test(
        "A peer sends much once its first frames have shown who it is; what is too much is passed over, in pieces of any size",
        arguments: [1, 7, 1000])
    func strangers(pieceSize: Int) throws {
        func decoder() -> FrameDecoder {
            var decoder = FrameDecoder(limits: .init(messageSize: 20, frames: 9))
            decoder.strangers = (100, { $0.first == ByteBuffer(string: "key") })
            return decoder
        }
        func units(_ bytes: [UInt8]) throws -> [FrameDecoder.Unit] {
            var decoder = decoder()
            var stream = ByteBuffer(bytes: bytes)
            var units: [FrameDecoder.Unit] = []
            while let piece = stream.readSlice(length: min(pieceSize, stream.readableBytes)), piece.readableBytes > 0 {
                decoder.receive(piece)
                while let unit = try decoder.next() { units.append(unit) }
            }
            return units
        }
        let (large, larger) = (String(repeating: "l", count: 90), String(repeating: "x", count: 200))
        let key = ByteBuffer(string: "key")
        #expect(throws: ProtocolViolation.messageTooLarge(limit: 20)) { try units(frame(1, "no") + frame(0, large)) }
        #expect(throws: ProtocolViolation.messageTooLarge(limit: 20)) { try units(frame(0, large)) }
        #expect(try units(frame(1, "key") + frame(0, large)) == [.message([key, ByteBuffer(string: large)])])
        // The peer is known by an earlier message.
        #expect(
            try units(frame(0, "key") + frame(0, large)) == [.message([key]), .message([ByteBuffer(string: large)])])
        #expect(
            try units(frame(1, "key") + frame(1, larger) + frame(1, larger) + frame(0, "end") + frame(0, "next")) == [
                .tooLarge([key]), .message([ByteBuffer(string: "next")]),
            ])
    }

    @Test("Frames that came in one piece are slices of it")
    func slices() throws {
        var decoder = FrameDecoder(limits: .init(messageSize: 1 << 20, frames: 4))
        let piece = ByteBuffer(bytes: frame(1, "first") + frame(0, "second"))
        decoder.receive(piece)
        let unit = try decoder.next()
        guard case .message(let frames) = unit else {
            Issue.record("\(String(describing: unit))")
            return
        }
        let base = piece.withUnsafeReadableBytes { $0.baseAddress! }
        #expect(frames[0].withUnsafeReadableBytes { $0.baseAddress! } == base + 2)
        #expect(frames[1].withUnsafeReadableBytes { $0.baseAddress! } == base + 9)
    }
}
