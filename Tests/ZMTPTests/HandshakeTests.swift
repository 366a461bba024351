import NIOCore
import Testing

@testable import ZMTP

@Suite("The handshake")
struct HandshakeTests {
    static let limits = FrameDecoder.Limits(messageSize: 1 << 20, frames: 16)

    func session(_ type: SocketType = .router, identity: String = "") -> Session {
        Session(socketType: type, identity: ByteBuffer(identity), limits: Self.limits)
    }

    @Test("A greeting is 64 bytes: signature, version 3.1, mechanism NULL")
    func greeting() {
        let bytes = Session.opening.array
        #expect(bytes.count == 64)
        #expect(bytes[0...9] == [0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F])
        #expect(bytes[10...11] == [3, 1])
        #expect(Array(bytes[12..<32]) == Array("NULL".utf8) + [UInt8](repeating: 0, count: 16))
        #expect(bytes[32...].allSatisfy { $0 == 0 })
    }

    @Test("A greeting is answered with READY, and READY ends the handshake", arguments: [1, 2, 7, 63, 64, 65, 1000])
    func ready(piece: Int) {
        var session = self.session(.router, identity: "hub")
        let (events, violation) = session.feed(handshake(as: "DEALER", identity: "engine"), pieces: [piece])
        #expect(violation == nil)
        #expect(
            events == [
                .reply(ByteBuffer(bytes: frame(4, "\u{5}READY\u{B}Socket-Type\0\0\0\u{6}ROUTER\u{8}Identity\0\0\0\u{3}hub"))),
                .ready(.init(socketType: "DEALER", identity: ByteBuffer("engine"))),
            ])
    }

    @Test("Traffic that came with READY is not lost")
    func trafficAtOnce() {
        var session = self.session()
        let (events, _) = session.feed(handshake(as: "DEALER") + frame(1, "a") + frame(0, "b"))
        #expect(events.last == .message(message("a", "b")))
    }

    @Test(
        "Sockets talk to the types that ZMTP pairs them with",
        arguments: [
            (SocketType.router, ["DEALER", "ROUTER", "REQ"]), (.dealer, ["ROUTER", "DEALER", "REP"]), (.pub, ["SUB", "XSUB"]),
            (.xpub, ["SUB", "XSUB"]), (.sub, ["PUB", "XPUB"]),
        ])
    func pairs(own: SocketType, partners: [String]) {
        for peer in ["REQ", "REP", "DEALER", "ROUTER", "PUB", "XPUB", "SUB", "XSUB", "PUSH", "PULL", "PAIR", ""] {
            var session = self.session(own)
            let (_, violation) = session.feed(handshake(as: peer))
            #expect(violation == (partners.contains(peer) ? nil : .incompatibleSocketType(peer, with: own)))
        }
    }

    @Test("A stranger is recognised by its first byte")
    func stranger() {
        var session = self.session()
        #expect(session.feed(Array("G".utf8)).violation == .notZMTP)
    }

    @Test("A peer of ZMTP 2.0 is told apart from a stranger, before it has sent everything")
    func version2() {
        var session = self.session()
        let bytes: [UInt8] = [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1]
        #expect(session.feed(bytes).violation == .unsupportedVersion(major: 2))
    }

    @Test("Another security mechanism is refused by name")
    func mechanism() {
        var session = self.session()
        #expect(session.feed(Greeting(mechanism: "CURVE").encoded().array).violation == .unsupportedMechanism("CURVE"))
    }

    @Test("A message before READY is refused")
    func earlyMessage() {
        var session = self.session()
        #expect(session.feed(Greeting().encoded().array + frame(0, "early")).violation == .handshakeExpected)
    }

    @Test("An identity that begins with a zero byte is refused")
    func zeroIdentity() {
        var session = self.session()
        #expect(session.feed(handshake(as: "DEALER", identity: "\0abc")).violation == .invalidIdentity)
    }

    @Test("ERROR ends the handshake with the peer's reason")
    func error() {
        var session = self.session()
        let bytes = Greeting().encoded().array + Command.error(reason: "go away").encoded().array
        #expect(session.feed(bytes).violation == .refusedByPeer("go away"))
    }

    @Test("A huge command before READY is refused by its header alone")
    func hugeHandshake() {
        var session = self.session()
        let header: [UInt8] = [6, 0, 0, 0, 0, 0x40, 0, 0, 0]
        let limit = Session.maximumHandshakeCommand
        #expect(session.feed(Greeting().encoded().array + header).violation == .messageTooLarge(limit: limit))
    }

    @Test("READY without a socket type, or cut short, is malformed")
    func malformedReady() {
        for body in ["\u{5}READY", "\u{5}READY\u{B}Socket-Type\0\0\0\u{9}ROUTER", "\u{5}REA"] {
            var session = self.session()
            let violation = session.feed(Greeting().encoded().array + frame(4, body)).violation
            guard case .malformedCommand = violation else {
                Issue.record("\(body): \(String(describing: violation))")
                continue
            }
        }
    }

    @Test("Property names are compared without regard to case, and unknown ones ignored")
    func properties() {
        var session = self.session()
        let body = "\u{5}READY\u{B}SOCKET-TYPE\0\0\0\u{6}DEALER\u{3}X-y\0\0\0\u{1}z\u{8}identity\0\0\0\u{1}i"
        let events = session.feed(Greeting().encoded().array + frame(4, body)).events
        #expect(events.last == .ready(.init(socketType: "DEALER", identity: ByteBuffer("i"))))
    }
}
