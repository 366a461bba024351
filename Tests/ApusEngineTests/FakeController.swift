import ApusCore
import ApusEngine
import ApusFunctions
import ApusTransport
import ApusWire
import NIOCore
import Pickle
import Locks
import Testing

/// A controller's sockets, with a test in the controller's place: sends the test's messages and gives it the engine's answers.
///
/// Sockets are named by the keys of connection files.
final class FakeController: Sendable {
    let network: any Transport
    let eventLoop: any EventLoop
    let connection: EngineConnectionInfo
    private let sockets: [String: any TransportSocket]
    private let inbox: Inbox
    private let unbound: [String]
    /// The identity of the peer that last sent a message to the registration socket.
    private let registrar = Mutex(ByteBuffer())
    private let session: Mutex<Session>

    static let key = "a key for tests"

    /// - Parameter unbound: Sockets that listen when ``bind(_:)`` says so.
    init(on eventLoop: any EventLoop, network: any Transport = InMemoryNetwork(), unbound: [String] = []) async throws {
        self.network = network
        self.eventLoop = eventLoop
        let inbox = Inbox()
        self.inbox = inbox
        let roles: [(String, SocketRole)] = [
            ("registration", .router), ("mux", .router), ("task", .router), ("broadcast", .router), ("control", .router),
            ("iopub", .subscriber), ("hb_ping", .publisher), ("hb_pong", .router),
        ]
        var sockets: [String: any TransportSocket] = [:]
        var ports: [String: Int] = [:]
        for (name, role) in roles {
            let socket = network.makeSocket(role, options: SocketOptions(), on: eventLoop) { event in
                switch event {
                case .received(let messages): for frames in messages { inbox.deliver(frames, to: name) }
                case .peerConnected: inbox.deliver([], to: name + " connected")
                case .peerDisconnected, .problem, .tooLarge: break
                }
            }
            sockets[name] = socket
            if let index = unbound.firstIndex(of: name) {
                ports[name] = index + 1
            } else {
                ports[name] = try await socket.bind(to: Endpoint(host: "127.0.0.1", port: 0)).port
            }
        }
        self.sockets = sockets
        self.unbound = unbound
        self.connection = EngineConnectionInfo(
            common: ConnectionCommon(
                interface: "tcp://127.0.0.1", registration: ports["registration"]!, key: Self.key, signatureScheme: "hmac-sha256",
                location: ""),
            control: ports["control"]!, mux: ports["mux"]!, task: ports["task"]!, iopub: ports["iopub"]!,
            heartbeatPing: ports["hb_ping"]!, heartbeatPong: ports["hb_pong"]!, broadcast: [ports["broadcast"]!])
        self.session = Mutex(Session(id: "controller", signer: try Signer(key: Self.key)))
    }

    // MARK: Raw messages

    func send(_ frames: [ByteBuffer], by socket: String) async throws {
        try await self.eventLoop.submit {
            self.sockets[socket]!.send(frames)
            self.sockets[socket]!.flush()
        }.get()
    }

    func bind(_ socket: String) async throws {
        let port = try #require(self.unbound.firstIndex(of: socket)) + 1
        _ = try await self.sockets[socket]!.bind(to: Endpoint(host: "127.0.0.1", port: port))
    }

    /// Whether a message came by the socket that was not taken yet.
    func hasFrames(_ socket: String) -> Bool { self.inbox.holds(socket) }

    func nextFrames(_ socket: String) async throws -> [ByteBuffer] {
        let frames = try await self.inbox.next(socket)
        if socket == "registration", let name = frames.first { self.registrar.withLock { $0 = name } }
        return frames
    }

    /// Sends a message to the peer that last sent one to the registration socket.
    func answerRegistrar(_ message: Message) async throws {
        try await self.send([self.registrar.withLock { $0 }] + message.readdressed(to: []).frames, by: "registration")
    }

    /// The next message that came by the socket.
    func next(_ socket: String) async throws -> Answer { try await Answer(self.nextFrames(socket)) }

    func close() async { for socket in self.sockets.values { await socket.close(linger: .zero) } }

    // MARK: Requests

    /// Sends a request to the engine, as a relay does, and gives its id.
    @discardableResult
    func request(
        _ type: MessageType, to engine: EngineUUID, by socket: String = "mux", metadata: JSONObject = [:],
        content: JSONObject = [:],
        buffers: [ByteBuffer] = []
    ) async throws -> MessageID {
        let message = self.makeRequest(type, to: engine, metadata: metadata, content: content, buffers: buffers)
        try await self.send(message.frames, by: socket)
        return try MessageHeader(scanning: message.header).id
    }

    func makeRequest(
        _ type: MessageType, to engine: EngineUUID, metadata: JSONObject = [:], content: JSONObject = [:],
        buffers: [ByteBuffer] = []
    ) -> Message {
        self.session.withLock { session in
            session.message(
                type, identities: [ByteBuffer(string: engine.text), ByteBuffer(string: "client")], metadata: metadata,
                content: content,
                buffers: buffers)
        }
    }

    /// Asks for a call of the function.
    @discardableResult
    func apply(
        _ function: PickleValue, _ arguments: PickleValue..., keywords: [(String, PickleValue)] = [], to engine: EngineUUID,
        by socket: String = "mux", metadata: JSONObject = [:]
    ) async throws -> MessageID {
        let payload = ApplyPayload(function: function, arguments: arguments, keywords: keywords)
        return try await self.request(.applyRequest, to: engine, by: socket, metadata: metadata, buffers: payload.encode())
    }

    /// Asks for a call and waits for its result.
    func result(
        of function: String, _ arguments: PickleValue..., to engine: EngineUUID, metadata: JSONObject = ["apus_quiet": true]
    ) async throws -> PickleValue {
        let payload = ApplyPayload(function: .reference(function), arguments: arguments)
        try await self.request(.applyRequest, to: engine, metadata: metadata, buffers: payload.encode())
        return try await self.next("mux").value
    }

    /// The next message of that type among the engine's output, and those before it.
    func output(until type: MessageType) async throws -> [Answer] {
        var answers: [Answer] = []
        repeat { answers.append(try await self.next("iopub")) } while answers.last?.type != type
        return answers
    }

    /// The output of a request, from `busy` to `idle`, without that of other requests.
    func output(of id: MessageID) async throws -> [String] {
        var lines: [String] = []
        while true {
            let answer = try await self.next("iopub")
            guard answer.parent == id else { continue }
            lines.append(answer.line)
            if answer.line == "status idle" { return lines }
        }
    }
}

/// A message from the engine, read whole.
struct Answer {
    let message: Message
    let type: MessageType
    let session: String
    /// Which request it answers.
    let parent: MessageID?
    let metadata: JSONValue
    let content: JSONValue

    init(_ frames: [ByteBuffer]) throws {
        self.message = try Message(frames: frames)
        try #require(try Signer(key: FakeController.key).accepts(self.message.signature, for: self.message.parts))
        let header = try MessageHeader(scanning: self.message.header)
        self.type = header.type
        self.session = header.session
        self.parent = MessageHeader.messageID(scanning: self.message.parent)
        self.metadata = try JSONValue(parsing: self.message.metadata)
        self.content = try JSONValue(parsing: self.message.content)
    }

    /// What an `apply_reply` gives.
    var value: PickleValue {
        get throws {
            try #require(self.content["status"] == "ok", "\(self.content)")
            var buffers = self.message.buffers
            return try ObjectBuffers.deserialize(&buffers)
        }
    }

    /// Identities as text.
    var identities: [String] { self.message.identities.map { String(buffer: $0) } }

    /// The message in a few words.
    var line: String {
        switch self.type {
        case .status: "status \(self.content["execution_state"]?.string ?? "?")"
        case .stream: "\(self.content["name"]?.string ?? "?") \(self.content["text"]?.string ?? "?")"
        case .error: "error \(self.content["ename"]?.string ?? "?")"
        default: self.type.rawValue
        }
    }
}

/// Messages that were not taken yet, and callers that wait for one, by socket.
private final class Inbox: Sendable {
    private struct Box {
        var messages: [[ByteBuffer]] = []
        var waiting: [(waiter: Int, continuation: CheckedContinuation<[ByteBuffer], any Error>)] = []
    }

    private struct State {
        var boxes: [String: Box] = [:]
        var waiterCount = 0
    }

    private let state = Mutex(State())

    func deliver(_ frames: [ByteBuffer], to socket: String) {
        let waiter: CheckedContinuation<[ByteBuffer], any Error>? = self.state.withLock { state in
            if state.boxes[socket]?.waiting.isEmpty == false { return state.boxes[socket]!.waiting.removeFirst().continuation }
            state.boxes[socket, default: Box()].messages.append(frames)
            return nil
        }
        waiter?.resume(returning: frames)
    }

    func holds(_ socket: String) -> Bool { self.state.withLock { $0.boxes[socket]?.messages.isEmpty == false } }

    /// - Throws: `CancellationError` when the test's time is over.
    func next(_ socket: String) async throws -> [ByteBuffer] {
        let waiter = self.state.withLock { state in
            state.waiterCount += 1
            return state.waiterCount
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let answer: Result<[ByteBuffer], any Error>? = self.state.withLock { state in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    if state.boxes[socket]?.messages.isEmpty == false {
                        return .success(state.boxes[socket]!.messages.removeFirst())
                    }
                    state.boxes[socket, default: Box()].waiting.append((waiter, continuation))
                    return nil
                }
                if let answer { continuation.resume(with: answer) }
            }
        } onCancel: {
            let cancelled: CheckedContinuation<[ByteBuffer], any Error>? = self.state.withLock { state in
                guard let index = state.boxes[socket]?.waiting.firstIndex(where: { $0.waiter == waiter }) else { return nil }
                return state.boxes[socket]?.waiting.remove(at: index).continuation
            }
            cancelled?.resume(throwing: CancellationError())
        }
    }
}
