import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import ZMTP

@Suite("Sockets", .timeLimit(.minutes(1)))
struct SocketTests {
    @Test("A ROUTER hears who sent a message, and answers by that identity")
    func routerDealer() async throws {
        try await TestSocket.with(.router) { router in
            try await TestSocket.with(.dealer, identity: "engine") { dealer in
                dealer.connect(try await router.bind())
                try await dealer.send("hello", "", "world")
                #expect(try await router.nextMessage() == ["engine", "hello", "", "world"])
                #expect(try await router.send("engine", "welcome") == .queued)
                #expect(try await dealer.nextMessage() == ["welcome"])
            }
        }
    }

    @Test("A peer without an identity gets one of five bytes, the first zero")
    func anonymous() async throws {
        try await TestSocket.with(.router) { router in
            try await TestSocket.with(.dealer) { dealer in
                dealer.connect(try await router.bind())
                let identity = try await router.nextPeer().identity
                #expect(identity.readableBytes == 5 && identity.readableBytesView.first == 0)
                try await router.send([identity, ByteBuffer("hello")])
                #expect(try await dealer.nextMessage() == ["hello"])
            }
        }
    }

    @Test("A ROUTER drops a message for an identity it does not know, and says so")
    func noSuchPeer() async throws {
        try await TestSocket.with(.router) { router async throws in
            #expect(try await router.send("nobody", "hello") == .dropped(.noSuchPeer))
            #expect(try await router.send("nobody") == .dropped(.empty))
            #expect(try await router.onLoop { $0.statistics.dropped } == 2)
        }
    }

    @Test("Of two peers with one identity the first is served, and the second when the first is gone")
    func identityInUse() async throws {
        try await TestSocket.with(.router) { router in
            let port = try await router.bind()
            let first = try await TestSocket(.dealer, identity: "twin")
            first.connect(port)
            try await router.nextPeer()
            try await TestSocket.with(.dealer, identity: "twin") { second in
                second.connect(port)
                #expect(try await router.nextDeparture() == .identityInUse)
                try await router.send("twin", "for the first")
                #expect(try await first.nextMessage() == ["for the first"])
                await first.socket.close()
                try await router.nextPeer()
                try await router.send("twin", "for the second")
                #expect(try await second.nextMessage() == ["for the second"])
            }
        }
    }

    @Test("A DEALER sends to its peers in turn")
    func inTurn() async throws {
        try await TestSocket.with(.router) { first in
            try await TestSocket.with(.router) { second in
                try await TestSocket.with(.dealer, identity: "d") { dealer in
                    dealer.connect(try await first.bind())
                    dealer.connect(try await second.bind())
                    try await dealer.nextPeer()
                    try await dealer.nextPeer()
                    for number in 1...4 { try await dealer.send("\(number)") }
                    let found = [
                        try await first.nextMessage(), try await first.nextMessage(), try await second.nextMessage(),
                        try await second.nextMessage(),
                    ]
                    #expect(Set(found) == [["d", "1"], ["d", "2"], ["d", "3"], ["d", "4"]])
                    #expect(found[0][1] == "1" && found[1][1] == "3" || found[0][1] == "2" && found[1][1] == "4")
                }
            }
        }
    }

    @Test("A DEALER keeps messages for the first peer to come, up to its mark")
    func backlog() async throws {
        try await TestSocket.with(.dealer, configure: { $0.sendHighWaterMark = .init(messages: 2) }) { dealer in
            #expect(try await dealer.send("1") == .queued)
            #expect(try await dealer.send("2") == .queued)
            #expect(try await dealer.send("3") == .dropped(.highWaterMark))
            try await TestSocket.with(.dealer) { peer in
                peer.connect(try await dealer.bind())
                #expect(try await peer.nextMessage() == ["1"])
                #expect(try await peer.nextMessage() == ["2"])
            }
        }
    }

    @Test("A SUB gets what it subscribed to, from publishers it connected to before and after")
    func subscriptions() async throws {
        try await TestSocket.with(.xpub) { first in
            try await TestSocket.with(.pub) { second in
                try await TestSocket.with(.sub) { sub in
                    sub.connect(try await first.bind())
                    sub.socket.subscribe(ByteBuffer("a"))
                    #expect(try await first.nextMessage() == ["\u{1}a"])
                    #expect(try await first.send("b", "unwanted") == .dropped(.noPeers))
                    try await first.send("abc", "wanted")
                    #expect(try await sub.nextMessage() == ["abc", "wanted"])

                    second.socket.connect(host: "127.0.0.1", port: try await sub.bind())
                    try await sub.nextPeer()
                    try await sub.nextPeer()
                    // A plain PUB is not told of subscriptions, so try until it has one.
                    try await second.sendUntil(.queued, "ax")
                    #expect(try await sub.nextMessage() == ["ax"])

                    sub.socket.unsubscribe(ByteBuffer("a"))
                    #expect(try await first.nextMessage() == ["\0a"])
                    #expect(try await first.send("abc") == .dropped(.noPeers))
                }
            }
        }
    }

    @Test("An XPUB tells of the first subscriber of a prefix and of the end of the last")
    func xpub() async throws {
        try await TestSocket.with(.xpub) { xpub in
            let port = try await xpub.bind()
            try await TestSocket.with(.sub) { first in
                first.socket.subscribe(ByteBuffer("topic"))
                first.connect(port)
                #expect(try await xpub.nextMessage() == ["\u{1}topic"])
                let second = try await TestSocket(.sub)
                second.socket.subscribe(ByteBuffer("topic"))
                second.socket.subscribe(ByteBuffer("other"))
                second.connect(port)
                #expect(try await xpub.nextMessage() == ["\u{1}other"])
                await second.socket.close()
                #expect(try await xpub.nextMessage() == ["\0other"])
            }
            #expect(try await xpub.nextMessage() == ["\0topic"])
        }
    }

    @Test("A port in use is a clear error, and * means every address")
    func ports() async throws {
        try await TestSocket.with(.router) { first in
            try await TestSocket.with(.router) { second in
                let port = try await first.socket.bind(host: "*", port: 0)
                #expect(port > 0)
                let error = try await #require(throws: BindError.self) {
                    try await second.socket.bind(host: "127.0.0.1", port: port)
                }
                #expect(error.reason == .addressInUse)
                #expect(error.description == "port \(port) on 127.0.0.1 is in use")
                try await TestSocket.with(.dealer) { dealer in
                    dealer.socket.connect(host: "localhost", port: port)
                    try await first.nextPeer()
                }
            }
        }
    }

    @Test("A socket reconnects, and subscribes again, when its peer comes back")
    func reconnects() async throws {
        try await TestSocket.with(.sub) { sub in
            sub.socket.subscribe()
            var port = 0
            for round in 1...3 {
                let pub = try await TestSocket(.xpub)
                if round == 1 {
                    port = try await pub.bind()
                    sub.connect(port)
                } else {
                    _ = try await pub.socket.bind(host: "127.0.0.1", port: port)
                }
                #expect(try await pub.nextMessage() == ["\u{1}"])
                try await pub.send("round \(round)")
                #expect(try await sub.nextMessage() == ["round \(round)"])
                await pub.socket.close()
                try await sub.nextDeparture()
            }
        }
    }

    @Test("A failed attempt to connect is told, with the wait until the next")
    func connectFailed() async throws {
        let unused = try await TestSocket.with(.router) { try await $0.bind() }
        try await TestSocket.with(.dealer) { dealer in
            dealer.connect(unused)
            guard case .connectFailed(let host, let port, 1, let reason, _) = try await dealer.events.next() else {
                Issue.record("another event")
                return
            }
            #expect(host == "127.0.0.1" && port == unused && reason.contains("refused"))
            guard case .connectFailed(_, _, 2, _, _) = try await dealer.events.next() else {
                Issue.record("another event")
                return
            }
            dealer.socket.disconnect(host: "127.0.0.1", port: unused)
        }
    }

    @Test("Closing writes what is queued first")
    func linger() async throws {
        try await TestSocket.with(.router) { router in
            let port = try await router.bind()
            let dealer = try await TestSocket(.dealer, identity: "d")
            dealer.connect(port)
            let large = ByteBuffer(repeating: 7, count: 5_000_000)
            for _ in 0..<10 { try await dealer.send([large]) }
            await dealer.socket.close(linger: .seconds(30))
            #expect(try await dealer.send("late") == .dropped(.closed))
            for _ in 0..<10 { #expect(try await router.messages.next() == [ByteBuffer("d"), large]) }
            #expect(try await router.nextDeparture() == .closedByPeer)
        }
    }

    @Test("A DEALER with nobody to take its messages closes when the linger time is over")
    func lingerEnds() async throws {
        let dealer = try await TestSocket(.dealer)
        dealer.connect(1)
        try await dealer.send("for nobody")
        await dealer.socket.close(linger: .milliseconds(50))
        await dealer.socket.close(linger: .milliseconds(50))
    }

    @Test("A closed socket does not listen any more, nor again")
    func bindAfterClose() async throws {
        let router = try await TestSocket(.router)
        let port = try await router.bind()
        await router.socket.close()
        let error = try await #require(throws: BindError.self) { _ = try await router.bind() }
        #expect(error.reason == .other("the socket is closed"))
        try await TestSocket.with(.router) { other in
            let again = try await other.socket.bind(host: "127.0.0.1", port: port)
            #expect(again == port)
        }
    }

    @Test("A DEALER may connect, send and close at once: the message still goes out")
    func sendAndClose() async throws {
        try await TestSocket.with(.router) { router in
            let port = try await router.bind()
            let dealer = try await TestSocket(.dealer, identity: "d")
            dealer.connect(port)
            try await dealer.send("last words")
            await dealer.socket.close(linger: .seconds(10))
            #expect(try await router.nextMessage() == ["d", "last words"])
        }
    }

    @Test("The delegate is never called from inside a method of the socket")
    func notReentrant() async throws {
        try await TestSocket.with(.router) { router in
            try await TestSocket.with(.dealer, identity: "d") { dealer in
                dealer.connect(try await router.bind())
                let peer = try await router.nextPeer().peer
                try await router.onLoop { socket in
                    socket.disconnect(peer)
                    #expect(socket.peers.isEmpty)
                    // The delegate has been called for the connection only, as the counter shows.
                    #expect(router.calls.load(ordering: .relaxed) == 1)
                }
                #expect(try await router.nextDeparture() == .closedHere)
            }
        }
    }

    @Test("Messages for a peer that does not read are limited by the mark, and other peers lose none")
    func slowPeer() async throws {
        let configure: (inout SocketOptions) -> Void = { $0.sendHighWaterMark = .init(bytes: 1_000_000) }
        try await TestSocket.with(.xpub, configure: configure) { pub in
            let port = try await pub.bind()
            try await TestSocket.with(.sub) { slow in
                try await TestSocket.with(.sub) { quick in
                    slow.connect(port)
                    slow.socket.subscribe()
                    let slowPeer = try await pub.nextPeer().peer
                    #expect(try await pub.nextMessage() == ["\u{1}"])
                    try await slow.onLoop { $0.setReading(false) }
                    quick.connect(port)
                    // A prefix of its own, or the publisher would not be told of it.
                    quick.socket.subscribe(ByteBuffer("m"))
                    #expect(try await pub.nextMessage() == ["\u{1}m"])

                    let payload = ByteBuffer(repeating: 0x6D, count: 100_000)
                    for _ in 0..<400 {
                        try await pub.send([payload])
                        #expect(try await quick.messages.next() == [payload])
                    }
                    let held = try #require(try await pub.onLoop { $0.statistics(for: slowPeer) })
                    #expect(held.dropped > 0)
                    #expect(held.queuedBytes < 1_200_000)

                    try await slow.onLoop { $0.setReading(true) }
                    while true {
                        if case .peerDrained(slowPeer) = try await pub.events.next() { break }
                    }
                    #expect(try await slow.messages.next() == [payload])
                }
            }
        }
    }

    @Test("A batch that nobody flushed is not a peer that does not keep up")
    func batchAboveMark() async throws {
        try await TestSocket.with(.router, configure: { $0.sendHighWaterMark = .init(messages: 10) }) { router in
            try await TestSocket.with(.dealer, identity: "d") { dealer in
                dealer.connect(try await router.bind())
                try await router.nextPeer()
                let outcomes = try await router.onLoop { socket in
                    (0..<1000).map { socket.send(message("d", "\($0)")) }
                }
                #expect(outcomes.allSatisfy { $0 == .queued })
                for number in 0..<1000 { #expect(try await dealer.nextMessage() == ["\(number)"]) }
            }
        }
    }

    @Test("A large message arrives whole, next to small ones")
    func large() async throws {
        try await TestSocket.with(.router) { router in
            try await TestSocket.with(.dealer, identity: "d") { dealer in
                dealer.connect(try await router.bind())
                var bytes = ByteBuffer()
                for byte in UInt8(0)..<50 { bytes.writeRepeatingByte(byte, count: 1_000_003) }
                try await dealer.send("before")
                try await dealer.send([ByteBuffer("a"), bytes, ByteBuffer("b")])
                try await dealer.send("after")
                #expect(try await router.nextMessage() == ["d", "before"])
                #expect(try await router.messages.next() == [ByteBuffer("d"), ByteBuffer("a"), bytes, ByteBuffer("b")])
                #expect(try await router.nextMessage() == ["d", "after"])
            }
        }
    }

    @Test("A message may be sent to a peer by number, and without its first frames")
    func byNumber() async throws {
        try await TestSocket.with(.router) { router in
            try await TestSocket.with(.dealer, identity: "d") { dealer in
                dealer.connect(try await router.bind())
                let peer = try await router.nextPeer().peer
                try await router.onLoop { socket in
                    #expect(socket.send(message("x", "y", "z"), skipping: 1, to: peer) == .queued)
                    #expect(socket.send(message("x", "d", "z"), skipping: 1) == .queued)
                    #expect(socket.send(message("x"), skipping: 1) == .dropped(.empty))
                    #expect(socket.peer(withIdentity: ByteBuffer("d")) == peer)
                    socket.flush()
                }
                #expect(try await dealer.nextMessage() == ["y", "z"])
                #expect(try await dealer.nextMessage() == ["z"])
            }
        }
    }

    @Test("A peer that falls silent is given up, a lively one is not")
    func heartbeat() async throws {
        let configure: (inout SocketOptions) -> Void = {
            $0.heartbeatInterval = .milliseconds(20)
            $0.heartbeatTimeout = .milliseconds(400)
        }
        try await TestSocket.with(.router, configure: configure) { router in
            try await TestSocket.with(.dealer, identity: "d") { dealer in
                dealer.connect(try await router.bind())
                try await router.nextPeer()
                // A socket that does not read does not answer.
                try await dealer.onLoop { $0.setReading(false) }
                #expect(try await router.nextDeparture() == .silent)
                try await dealer.onLoop { $0.setReading(true) }
                try await router.nextPeer()
            }
        }
    }

    @Test("An actor on the socket's event loop is its delegate without a hop")
    func actorDelegate() async throws {
        actor Echo: SocketDelegate {
            nonisolated let loop: any EventLoop
            nonisolated var unownedExecutor: UnownedSerialExecutor { self.loop.executor.asUnownedSerialExecutor() }
            let socket: Socket
            var count = 0

            init(_ loop: any EventLoop) {
                self.loop = loop
                self.socket = Socket(.router, on: loop)
            }

            func start() async throws -> Int {
                self.socket.setDelegate(self)
                return try await self.socket.bind(host: "127.0.0.1", port: 0)
            }

            nonisolated func socket(_ socket: Socket, received messages: [Message], from peer: PeerID) {
                self.assumeIsolated { echo in
                    echo.count += messages.count
                    for message in messages { socket.send(message) }
                    socket.flush()
                }
            }

            nonisolated func socket(_ socket: Socket, event: SocketEvent) {}

            func stop() async { await self.socket.close() }
        }
        let echo = Echo(MultiThreadedEventLoopGroup.singleton.next())
        try await TestSocket.with(.dealer) { dealer in
            dealer.connect(try await echo.start())
            try await dealer.send("hello")
            #expect(try await dealer.nextMessage() == ["hello"])
        }
        #expect(await echo.count == 1)
        await echo.stop()
    }

    @Test("Waits between attempts double up to the longest, and are shortened by chance")
    func backoff() {
        var generator = SeededGenerator(seed: 1)
        let backoff = SocketOptions.Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100), jitter: 0)
        let waits = [1, 2, 3, 4, 5, 1000].map { backoff.wait(afterFailure: $0, using: &generator) }
        #expect(waits == [10, 20, 40, 80, 100, 100].map { .milliseconds($0) })
        let shortened = SocketOptions.Backoff(minimum: .milliseconds(10), maximum: .seconds(1), jitter: 0.5)
        for _ in 0..<100 {
            let wait = shortened.wait(afterFailure: 2, using: &generator)
            #expect(wait >= .milliseconds(10) && wait <= .milliseconds(20))
        }
    }
}
