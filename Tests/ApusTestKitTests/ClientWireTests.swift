import ApusClient
import ApusFunctions
import ApusTransport
import ApusWire
import Logging
import NIOCore
import NIOPosix
import Pickle
import Locks
import Testing

/// A controller's sockets, at which a test answers a client by hand.
private final class FakeController: Sendable {
    let network = InMemoryNetwork()
    let eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    let requests: AsyncStream<Message>
    private let state = Mutex<(sockets: [String: any TransportSocket], session: Session)?>(nil)
    private let info: ClientConnectionInfo
    /// The answers to questions for results, in the order of the questions.
    let answersAboutResults = Mutex<[(content: JSONObject, buffers: [ByteBuffer])]>([])

    init() async throws {
        let (requests, continuation) = AsyncStream.makeStream(of: Message.self)
        self.requests = requests
        let signer = try Signer(key: "a key for tests")
        var sockets: [String: any TransportSocket] = [:]
        var ports: [String: Int] = [:]
        let answering = Answering()
        for name in ["registration", "mux", "task", "control", "broadcast", "iopub", "notification"] {
            let role: SocketRole = ["iopub", "notification"].contains(name) ? .publisher : .router
            let socket = self.network.makeSocket(role, options: SocketOptions(), on: self.eventLoop) { event in
                guard case .received(let messages) = event else { return }
                for frames in messages {
                    guard let message = try? Message(frames: frames) else { continue }
                    if name == "registration" { answering.answer(message) } else { continuation.yield(message) }
                }
            }
            sockets[name] = socket
            ports[name] = try await socket.bind(to: Endpoint(host: "127.0.0.1", port: 0)).port
        }
        self.info = ClientConnectionInfo(
            common: ConnectionCommon(
                interface: "tcp://127.0.0.1", registration: ports["registration"]!, key: "a key for tests",
                signatureScheme: "hmac-sha256", location: ""),
            control: ports["control"]!, mux: ports["mux"]!, task: ports["task"]!, iopub: ports["iopub"]!,
            notification: ports["notification"]!, broadcast: ports["broadcast"]!, taskScheme: "leastload")
        self.state.withLock { $0 = (sockets, Session(id: "controller", signer: signer)) }
        answering.body.withLock { body in
            body = { [weak self] request in
                guard let self else { return }
                if request.header.textMember("msg_type") == MessageType.resultRequest.rawValue {
                    guard let answer = self.answersAboutResults.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { return }
                    return self.send(
                        MessageType.resultRequest.reply, to: request, by: "registration", content: answer.content,
                        buffers: answer.buffers)
                }
                self.send(
                    .connectionReply, to: request, by: "registration", content: ["status": "ok", "engines": ["0": "ada"]])
            }
        }
    }

    /// The function that answers requests to the hub, once there is one.
    private final class Answering: Sendable {
        let body = Mutex<(@Sendable (Message) -> Void)?>(nil)
        func answer(_ message: Message) { self.body.withLock { $0 }?(message) }
    }

    func send(
        _ type: MessageType, to request: Message, by socket: String, metadata: JSONObject = [:], content: JSONObject,
        buffers: [ByteBuffer] = []
    ) {
        let (sockets, message) = self.state.withLock { state in
            let message = state!.session.message(
                type, identities: socket == "iopub" ? [ByteBuffer(string: "engine.0.status")] : Array(request.identities),
                parent: request.header, metadata: metadata, content: content, buffers: buffers)
            return (state!.sockets, message)
        }
        self.eventLoop.execute {
            sockets[socket]!.send(message.frames)
            sockets[socket]!.flush()
        }
    }

    /// Ends the connection by which a request came. The client connects again at once.
    func cutConnection(of request: Message, at socket: String) {
        let sockets = self.state.withLock { $0!.sockets }
        let identity = request.identities.first!
        self.eventLoop.execute { sockets[socket]!.disconnect(identity) }
    }

    func connect() async throws -> Client {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return try await Client(
            self.info, transport: self.network, eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            outputPatience: .milliseconds(20), logger: logger)
    }

    func close() async {
        let sockets = self.state.withLock { $0?.sockets.values.map { $0 } ?? [] }
        for socket in sockets { await socket.close(linger: .zero) }
    }
}

@Suite("The client, at the wire", .timeLimit(.minutes(1)))
struct ClientWireTests {
    private func withController(_ body: (FakeController, Client) async throws -> Void) async throws {
        let controller = try await FakeController()
        let client = try await controller.connect()
        do { try await body(controller, client) } catch {
            await client.close()
            await controller.close()
            throw error
        }
        await client.close()
        await controller.close()
    }

    @Test("A task is forgotten when the output that belongs to its reply does not come", arguments: [nil, 3])
    func lostOutput(outputs: Int?) async throws {
        try await self.withController { controller, client in
            // An engine of ipyparallel says that it is idle, and nothing about output; an engine of Apus says how many messages
            // there were.
            let metadata: JSONObject = outputs.map { ["apus_outputs": .int($0)] } ?? [:]
            let id: TaskID
            do {
                let result = try client.loadBalancedView().applyAsync("math.sqrt", 4, returning: Double.self)
                id = result.messageIDs[0]
                var requests = controller.requests.makeAsyncIterator()
                let request = try #require(await requests.next())
                controller.send(
                    .applyReply, to: request, by: "task", metadata: metadata, content: ["status": "ok"],
                    buffers: ObjectBuffers.serialize(.float(2)))
                #expect(try await result.value == 2)
            }
            // Nothing holds the result any more, so nothing should hold the task.
            while client.metadata(of: id) != nil { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("A task is not lost when the hub cannot read its records just then, because its disk is full for example")
    func unreadableRecords() async throws {
        try await self.withController { controller, client in
            let result = try client.loadBalancedView().applyAsync("math.sqrt", 4, returning: Double.self)
            var requests = controller.requests.makeAsyncIterator()
            let request = try #require(await requests.next())
            let record: JSONValue = ["result_header": ["msg_type": "apply_reply"], "result_content": ["status": "ok"]]
            controller.answersAboutResults.withLock {
                $0 = [
                    (["status": "error", "ename": "DatabaseError", "evalue": "tasks.db cannot grow, the disk is full"], []),
                    (["status": "ok", result.messageIDs[0].text: record], ObjectBuffers.serialize(.float(2))),
                ]
            }
            controller.cutConnection(of: request, at: "task")
            #expect(try await result.value(timeout: .seconds(20)) == 2)
        }
    }

    @Test("A task whose engine says that it is idle is forgotten then, whichever comes first", arguments: [true, false])
    func idle(idleFirst: Bool) async throws {
        try await self.withController { controller, client in
            let id: TaskID
            do {
                let result = try client.loadBalancedView().applyAsync("math.sqrt", 4, returning: Double.self)
                id = result.messageIDs[0]
                var requests = controller.requests.makeAsyncIterator()
                let request = try #require(await requests.next())
                let sends = [
                    { controller.send(.status, to: request, by: "iopub", content: ["execution_state": "idle"]) },
                    {
                        controller.send(
                            .applyReply, to: request, by: "task", content: ["status": "ok"],
                            buffers: ObjectBuffers.serialize(.float(2)))
                    },
                ]
                for send in idleFirst ? sends : sends.reversed() { send() }
                #expect(try await result.value == 2)
            }
            while client.metadata(of: id) != nil { try await Task.sleep(for: .milliseconds(1)) }
        }
    }

    @Test("A map's tasks that were not asked to keep outcomes fail as a whole, and so does every call")
    func olderEngine() async throws {
        try await self.withController { controller, client in
            let map = try client.loadBalancedView().mapAsync("math.sqrt", [1.0, 4, -1], chunkSize: 3, returning: Double.self)
            var requests = controller.requests.makeAsyncIterator()
            let request = try #require(await requests.next())
            controller.send(
                .applyReply, to: request, by: "task",
                content: [
                    "status": "error", "ename": "ValueError", "evalue": "math domain error",
                    "traceback": ["\u{1B}[31mValueError\u{1B}[0m: math domain error"],
                    "engine_info": ["engine_id": 0, "engine_uuid": "ada", "method": "apply"],
                ])
            let error = await #expect(throws: CompositeError.self) { try await map.value }
            #expect(error?.message == "3 of 3 calls failed")
            let first = try #require(error?.errors.first as? RemoteError)
            #expect(first.name == "ValueError" && first.engineID == 0)
            #expect(first.traceback == ["ValueError: math domain error"], "colours are for terminals")
        }
    }

    @Test(
        "Nonsense in a reply about a map's calls fails the calls, and nothing else",
        arguments: [
            #"{"failures": [[7, {}]], "results": []}"#, #"{"failures": [[1, {}], [0, {}]], "results": []}"#, #"{"failures": 3}"#,
            #"{"failures": [], "results": ["%%%"]}"#, #"{"failures": [[0]], "results": ["gASVAAAA"]}"#, "null",
        ])
    func absurdOutcomes(map: String) async throws {
        try await self.withController { controller, client in
            let result = try client.loadBalancedView().mapAsync("math.sqrt", [1.0, 4], chunkSize: 2, returning: Double.self)
            var requests = controller.requests.makeAsyncIterator()
            let request = try #require(await requests.next())
            controller.send(
                .applyReply, to: request, by: "task", metadata: ["apus_calls": -4],
                content: [
                    "status": "error", "ename": "ValueError", "evalue": "no", "traceback": [],
                    "apus_map": try JSONValue(parsing: ByteBuffer(string: map)),
                    "apus_error": ["type": "\u{1}\u{2}\u{3}\u{4}\u{5}", "value": "gASVAAAA"],
                    "engine_info": ["engine_id": 0, "engine_uuid": "ada", "method": "apply"],
                ])
            let outcomes = try await result.outcomes
            #expect(outcomes.count == 2)
            #expect(outcomes.allSatisfy { (try? $0.get()) == nil })
        }
    }
}
