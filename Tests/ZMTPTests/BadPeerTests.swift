import NIOCore
import NIOPosix
import Testing

@testable import ZMTP

/// A TCP connection that sends any bytes and waits until the other side closes it.
private struct RawPeer {
    let channel: any Channel

    init(_ port: Int) async throws {
        self.channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: port).get()
    }

    func write(_ bytes: [UInt8]) async throws {
        try await self.channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    func waitForClose() async throws { try await self.channel.closeFuture.get() }
}

@Suite("Bad peers", .timeLimit(.minutes(1)))
struct BadPeerTests {
    /// Runs the body next to a well-behaved peer, and checks that this peer is served as before.
    private func withRouter(
        configure: (inout SocketOptions) -> Void = { _ in }, _ body: (_ router: TestSocket, _ port: Int) async throws -> Void
    ) async throws {
        try await TestSocket.with(.router, configure: configure) { router in
            let port = try await router.bind()
            try await TestSocket.with(.dealer, identity: "good") { good in
                good.connect(port)
                try await router.nextPeer()
                try await good.send("before")
                #expect(try await router.nextMessage() == ["good", "before"])
                try await body(router, port)
                try await good.send("after")
                #expect(try await router.nextMessage() == ["good", "after"])
            }
        }
    }

    @Test(
        "A peer that does not speak ZMTP is cut off",
        arguments: [
            (Array("GET / HTTP/1.1\r\n\r\n".utf8), ProtocolViolation.notZMTP),
            ([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1, 0, 0, 0], .unsupportedVersion(major: 2)),
            (handshake(as: "PULL"), .incompatibleSocketType("PULL", with: .router)),
            (handshake(as: "DEALER", identity: "bad") + frame(0x80, "x"), .invalidFlags(0x80)),
            (handshake(as: "DEALER", identity: "bad") + [2, 0xFF, 0, 0, 0, 0, 0, 0, 0], .messageTooLarge(limit: 4_294_967_295)),
        ])
    func garbage(bytes: [UInt8], violation: ProtocolViolation) async throws {
        try await self.withRouter { router, port in
            let peer = try await RawPeer(port)
            try await peer.write(bytes)
            #expect(try await router.nextDeparture() == .violation(violation))
            try await peer.waitForClose()
        }
    }

    @Test("A peer that never finishes its handshake is cut off")
    func handshakeTimeout() async throws {
        try await self.withRouter(configure: { $0.handshakeTimeout = .milliseconds(300) }) { router, port in
            let peer = try await RawPeer(port)
            try await peer.write([0xFF])
            #expect(try await router.nextDeparture() == .handshakeTimedOut)
            try await peer.waitForClose()
        }
    }

    @Test("A peer that goes in the middle of a message leaves nothing of it behind")
    func truncated() async throws {
        try await self.withRouter { router, port in
            let peer = try await RawPeer(port)
            try await peer.write(handshake(as: "DEALER", identity: "bad") + frame(0, "whole") + frame(1, "half") + [0, 100, 1])
            #expect(try await router.nextMessage() == ["bad", "whole"])
            try await peer.channel.close()
            #expect(try await router.nextDeparture() == .closedByPeer)
        }
    }

    @Test("A publisher ignores what is not a subscription, and cuts off who subscribes without end")
    func subscriptionFlood() async throws {
        try await TestSocket.with(.pub) { pub in
            let peer = try await RawPeer(try await pub.bind())
            try await peer.write(handshake(as: "SUB") + frame(0, "nonsense") + frame(1, "\u{1}a") + frame(0, "b"))
            try await pub.nextPeer()
            var flood: [UInt8] = []
            for number in 0..<20_000 { flood += frame(0, "\u{1}\(number)") }
            try? await peer.write(flood)
            #expect(try await pub.nextDeparture() == .violation(.tooManySubscriptions(limit: SubscriptionSet.maximumSize)))
            try await peer.waitForClose()
        }
    }

    @Test("PINGs from a peer that reads nothing do not pile up answers")
    func pingFlood() async throws {
        try await self.withRouter { router, port in
            let peer = try await RawPeer(port)
            try await peer.channel.setOption(.autoRead, value: false).get()
            try await peer.write(handshake(as: "DEALER", identity: "bad"))
            let bad = try await router.nextPeer().peer
            // More than the operating system will hold.
            let large = ByteBuffer(repeating: 0, count: 32_000_000)
            try await router.send([ByteBuffer("bad"), large])
            let before = try #require(try await router.onLoop { $0.statistics(for: bad) })
            #expect(before.bufferedBytes > 0)

            var flood: [UInt8] = []
            for _ in 0..<1000 { flood += Command.ping(timeToLive: 0, context: ByteBuffer("0123456789abcdef")).encoded().array }
            try await peer.write(flood + frame(0, "done"))
            #expect(try await router.nextMessage() == ["bad", "done"])
            let after = try #require(try await router.onLoop { $0.statistics(for: bad) })
            #expect(after.queuedBytes + after.bufferedBytes < before.queuedBytes + before.bufferedBytes + 100)
            try await peer.channel.close()
            try await router.nextDeparture()
        }
    }
}
