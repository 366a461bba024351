import ApusTransport
import ApusWire
import Logging
import NIOCore
import NIOPosix
import Locks
import Testing

@testable import ApusClient

/// A hub that answers connection requests, and more if the test says so, on a network in memory.
private final class FakeHub: Sendable {
    let network = InMemoryNetwork()
    let eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    let info: ClientConnectionInfo
    private let sockets = Mutex<[any TransportSocket]>([])
    private let session: Mutex<Session>
    private let client = Mutex<[ByteBuffer]>([])

    init() async throws {
        let key = "secret"
        let common = ConnectionCommon(
            interface: "tcp://127.0.0.1", registration: 1, key: key, signatureScheme: "hmac-sha256", location: "")
        self.info = ClientConnectionInfo(
            common: common, control: 2, mux: 3, task: 4, iopub: 5, notification: 6, broadcast: 7, taskScheme: "leastload")
        self.session = Mutex(Session(id: "hub", signer: try Signer(key: key)))
        for port in 1...7 {
            let socket = self.network.makeSocket(
                port == 5 || port == 6 ? .publisher : .router, options: SocketOptions(), on: self.eventLoop
            ) { [weak self] event in
                guard port == 1, case .received(let messages) = event else { return }
                for frames in messages { self?.answer(frames) }
            }
            self.sockets.withLock { $0.append(socket) }
            _ = try await socket.bind(to: Endpoint(host: "memory", port: port))
        }
    }

    private func answer(_ frames: [ByteBuffer]) {
        guard let request = try? Message(frames: frames) else { return }
        self.client.withLock { $0 = Array(request.identities) }
        let reply = self.session.withLock {
            $0.message(
                .connectionReply, identities: Array(request.identities), parent: request.header,
                content: ["status": "ok", "engines": [:]])
        }
        self.send(reply)
    }

    func send(_ message: Message) { self.sockets.withLock { $0 }[0].send(message.frames) }

    /// Sends an answer that no request asked for, with that key, from a hub of that session.
    func forge(key: String, session: String) throws {
        var other = Session(id: session, signer: try Signer(key: key))
        let forged = other.message(
            .connectionReply, identities: self.client.withLock { $0 }, parent: ByteBuffer(string: #"{"msg_id": "x"}"#),
            content: ["status": "ok"])
        self.eventLoop.execute { self.send(forged) }
    }
}

@Suite("The client's hub")
struct HubSessionTests {
    @Test("Is the one that answered a request with the cluster's key; other messages do not change that")
    func verifiedOnly() async throws {
        let hub = try await FakeHub()
        let connection = try await ClientConnection(
            hub.info, transport: hub.network, eventLoop: hub.eventLoop, timeout: .seconds(10), patience: .seconds(60),
            username: nil,
            logger: Logger(label: "test"))
        #expect(connection.hubSession == "hub")
        try hub.forge(key: "another", session: "mallory")
        try hub.forge(key: "secret", session: "mallory")
        try await connection.refreshEngines()
        #expect(connection.hubSession == "hub")
        await connection.close()
    }
}
