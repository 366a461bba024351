import Foundation
import NIOCore
import TestPython
import Testing

@testable import ZMTP

/// Which side listens.
enum Listener: String, CaseIterable, Sendable {
    case swift, python
}

@Suite("With libzmq on the other end", .enabled(if: TestPython.exists), .timeLimit(.minutes(2)))
struct PythonPeerTests {
    /// Connects one of our sockets and a Python socket called `s`.
    private func link(
        _ socket: TestSocket, _ python: PythonPeer, _ type: String, _ options: String = "", listener: Listener
    ) async throws {
        switch listener {
        case .swift: try await python.connect("s", type, try await socket.bind(), options)
        case .python: socket.connect(try await python.bind("s", type, options))
        }
    }

    @Test("ROUTER and a DEALER with an identity", arguments: Listener.allCases)
    func routerDealer(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.router) { router in
                try await self.link(router, python, "DEALER", "identity=b'engine'", listener: listener)
                #expect(try await router.nextPeer().identity == ByteBuffer("engine"))
                try await python.run("s.send_multipart([b'hello', b'', b'x' * 300])")
                #expect(try await router.nextMessage() == ["engine", "hello", "", String(repeating: "x", count: 300)])
                try await router.send("engine", "welcome", "", String(repeating: "y", count: 255))
                #expect(try await python.evaluate("s.recv_multipart() == [b'welcome', b'', b'y' * 255]") == "True")
            }
        }
    }

    @Test("ROUTER and an anonymous DEALER", arguments: Listener.allCases)
    func anonymousDealer(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.router) { router in
                try await self.link(router, python, "DEALER", listener: listener)
                try await python.run("s.send(b'hello')")
                let message = try await router.messages.next()
                #expect(message[0].readableBytes == 5 && message[1].text == "hello")
                try await router.send([message[0], ByteBuffer("welcome")])
                #expect(try await python.evaluate("s.recv_multipart()") == "[b'welcome']")
            }
        }
    }

    @Test("ROUTER and ROUTER, each with an identity", arguments: Listener.allCases)
    func routerRouter(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.router, identity: "hub") { router in
                try await self.link(router, python, "ROUTER", "identity=b'engine', router_mandatory=1", listener: listener)
                try await router.nextPeer()
                try await router.send("engine", "hello")
                #expect(try await python.evaluate("s.recv_multipart()") == "[b'hub', b'hello']")
                try await python.run("s.send_multipart([b'hub', b'welcome'])")
                #expect(try await router.nextMessage() == ["engine", "welcome"])
            }
        }
    }

    @Test("DEALER and ROUTER", arguments: Listener.allCases)
    func dealerRouter(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.dealer, identity: "client") { dealer in
                try await self.link(dealer, python, "ROUTER", listener: listener)
                try await dealer.send("a", "b")
                #expect(try await python.evaluate("s.recv_multipart()") == "[b'client', b'a', b'b']")
                try await python.run("s.send_multipart([b'client', b'c'])")
                #expect(try await dealer.nextMessage() == ["c"])
            }
        }
    }

    @Test("DEALER and DEALER", arguments: Listener.allCases)
    func dealerDealer(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.dealer) { dealer in
                try await self.link(dealer, python, "DEALER", listener: listener)
                for number in 0..<100 { try await dealer.send("\(number)") }
                let received = try await python.evaluate("[s.recv() for _ in range(100)] == [b'%d' % n for n in range(100)]")
                #expect(received == "True")
                try await python.run("for n in range(100): s.send(b'%d' % n)")
                for number in 0..<100 { #expect(try await dealer.nextMessage() == ["\(number)"]) }
            }
        }
    }

    @Test("REQ and REP find the empty frame they expect")
    func requestReply() async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.router) { router in
                try await python.connect("s", "REQ", try await router.bind(), "identity=b'asker'")
                try await python.run("s.send(b'question')")
                #expect(try await router.nextMessage() == ["asker", "", "question"])
                try await router.send("asker", "", "answer")
                #expect(try await python.evaluate("s.recv()") == "b'answer'")
            }
            try await TestSocket.with(.dealer) { dealer in
                dealer.connect(try await python.bind("r", "REP"))
                try await dealer.send("", "question")
                #expect(try await python.evaluate("r.recv()") == "b'question'")
                try await python.run("r.send(b'answer')")
                #expect(try await dealer.nextMessage() == ["", "answer"])
            }
        }
    }

    @Test("PUB to a SUB, which gets what it subscribed to", arguments: Listener.allCases, [SocketType.pub, .xpub])
    func publish(listener: Listener, type: SocketType) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(type) { pub in
                /// Sends until that is the outcome. libzmq notices only when it is called that we have connected, so it is called
                /// in between.
                func send(_ topic: String, _ text: String, until outcome: SendOutcome) async throws {
                    while try await pub.send(topic, text) != outcome { try await python.run("s.poll(1)") }
                }
                try await self.link(pub, python, "SUB", "subscribe=b'a'", listener: listener)
                try await send("a", "1", until: .queued)
                #expect(try await pub.send("b", "2") == .dropped(.noPeers))
                try await python.run("s.subscribe(b'c')")
                try await send("c", "3", until: .queued)
                #expect(try await python.evaluate("[s.recv_multipart() for _ in range(2)]") == "[[b'a', b'1'], [b'c', b'3']]")
                try await python.run("s.unsubscribe(b'a')")
                try await send("a", "4", until: .dropped(.noPeers))
                if type == .xpub {
                    #expect(try await pub.nextMessage() == ["\u{1}a"])
                    #expect(try await pub.nextMessage() == ["\u{1}c"])
                    #expect(try await pub.nextMessage() == ["\0a"])
                }
            }
        }
    }

    @Test("A SUB gets what it subscribed to from an XPUB", arguments: Listener.allCases)
    func subscribe(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.sub) { sub in
                sub.socket.subscribe(ByteBuffer("topic"))
                try await self.link(sub, python, "XPUB", listener: listener)
                #expect(try await python.evaluate("s.recv()") == "b'\\x01topic'")
                try await python.run("s.send(b'other'); s.send_multipart([b'topic.x', b'1'])")
                #expect(try await sub.nextMessage() == ["topic.x", "1"])
                sub.socket.subscribe()
                #expect(try await python.evaluate("s.recv()") == "b'\\x01'")
                try await python.run("s.send(b'other')")
                #expect(try await sub.nextMessage() == ["other"])
                sub.socket.unsubscribe()
                #expect(try await python.evaluate("s.recv()") == "b'\\x00'")
            }
        }
    }

    @Test("50 MB in one message, both ways", arguments: Listener.allCases)
    func large(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.dealer) { dealer in
                try await self.link(dealer, python, "DEALER", listener: listener)
                try await python.run(
                    "data = b''.join(bytes([n]) * 1000003 for n in range(50)); s.send_multipart([b'a', data, b'b'])")
                var expected = ByteBuffer()
                for byte in UInt8(0)..<50 { expected.writeRepeatingByte(byte, count: 1_000_003) }
                let received = try await dealer.messages.next()
                #expect(received == [ByteBuffer("a"), expected, ByteBuffer("b")])
                try await dealer.send(received)
                #expect(try await python.evaluate("s.recv_multipart() == [b'a', data, b'b']") == "True")
            }
        }
    }

    @Test("Many messages at once arrive in order", arguments: Listener.allCases)
    func many(listener: Listener) async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.router) { router in
                try await self.link(router, python, "DEALER", "identity=b'd', sndhwm=0, rcvhwm=0", listener: listener)
                try await router.nextPeer()
                try await python.run("for n in range(20000): s.send_multipart([b'%d' % n, b'x' * (n % 600)])")
                for number in 0..<20000 {
                    let message = try await router.messages.next()
                    guard message[1].text == "\(number)", message[2].readableBytes == number % 600 else {
                        Issue.record("message \(number) is \(message)")
                        return
                    }
                    try await router.onLoop { _ = $0.send(message) }
                }
                let isEqual =
                    "[s.recv_multipart() for _ in range(20000)] == [[b'%d' % n, b'x' * (n % 600)] for n in range(20000)]"
                #expect(try await python.evaluate(isEqual) == "True")
            }
        }
    }

    @Test("A subscriber that does not read loses messages, and nobody else does")
    func slowSubscriber() async throws {
        try await PythonPeer.with { python in
            try await TestSocket.with(.xpub, configure: { $0.sendHighWaterMark = .init(bytes: 1_000_000) }) { pub in
                let port = try await pub.bind()
                try await python.connect("slow", "SUB", port, "rcvhwm=1, rcvbuf=65536, subscribe=b''")
                #expect(try await pub.nextMessage() == ["\u{1}"])
                let slow = try await pub.nextPeer().peer
                try await TestSocket.with(.sub) { quick in
                    quick.socket.subscribe(ByteBuffer("m"))
                    quick.connect(port)
                    #expect(try await pub.nextMessage() == ["\u{1}m"])
                    let payload = ByteBuffer(repeating: 0x6D, count: 100_000)
                    for _ in 0..<300 {
                        try await pub.send([payload])
                        #expect(try await quick.messages.next() == [payload])
                    }
                    let held = try #require(try await pub.onLoop { $0.statistics(for: slow) })
                    #expect(held.dropped > 0 && held.queuedBytes < 1_200_000)
                    #expect(try await python.evaluate("len(slow.recv())") == "100000")
                }
            }
        }
    }

    @Test("A killed peer is noticed, and a new one on its port is found")
    func restart() async throws {
        try await TestSocket.with(.dealer, identity: "client") { dealer in
            var port = 0
            try await PythonPeer.with { python in
                port = try await python.bind("s", "ROUTER")
                dealer.connect(port)
                try await dealer.send("first")
                #expect(try await python.evaluate("s.recv_multipart()") == "[b'client', b'first']")
                await python.kill()
                #expect(try await dealer.nextDeparture() == .closedByPeer)
            }
            try await PythonPeer.with { python in
                try await python.run("s = connect('ROUTER', None); s.bind('tcp://127.0.0.1:\(port)')")
                try await dealer.nextPeer()
                try await dealer.send("second")
                #expect(try await python.evaluate("s.recv_multipart()") == "[b'client', b'second']")
            }
        }
    }

    @Test("A peer comes back to a ROUTER with the same identity after it was killed")
    func returns() async throws {
        try await TestSocket.with(.router) { router in
            let port = try await router.bind()
            for _ in 1...2 {
                try await PythonPeer.with { python in
                    try await python.connect("s", "DEALER", port, "identity=b'engine'")
                    try await router.nextPeer()
                    try await router.send("engine", "hello")
                    #expect(try await python.evaluate("s.recv()") == "b'hello'")
                    await python.kill()
                    try await router.nextDeparture()
                }
            }
        }
    }

    @Test("libzmq's heartbeats are answered, and ours by it")
    func heartbeats() async throws {
        let configure: (inout SocketOptions) -> Void = {
            $0.heartbeatInterval = .milliseconds(100)
            $0.heartbeatTimeout = .seconds(2)
        }
        try await PythonPeer.with { python in
            try await TestSocket.with(.router, configure: configure) { router in
                let options = "identity=b'd', heartbeat_ivl=100, heartbeat_timeout=2000, heartbeat_ttl=2000"
                try await python.connect("s", "DEALER", try await router.bind(), options)
                let peer = try await router.nextPeer().peer
                try await python.run("time.sleep(3); s.send(b'still here')")
                #expect(try await router.nextMessage() == ["d", "still here"])
                #expect(try await router.onLoop { $0.peers } == [peer])
            }
        }
    }
}
