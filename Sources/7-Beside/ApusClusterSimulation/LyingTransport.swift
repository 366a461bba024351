internal import ApusTransport
internal import ApusWire
internal import NIOCore

/// The network of a faulty engine that has the cluster's key: after some answers the transport sends a lie.
///
/// A lie is a second answer to the same request, an answer in the name of another engine, or an answer to a task that another
/// engine has. All lies are signed with the cluster's key.
struct LyingTransport: Transport {
    private let network: any Transport
    private let surroundings: Surroundings
    private let engine: String
    private let lies: Int
    private let signer: Signer
    /// The name of the error in every lie.
    static let errorName = "Lie"
    /// The port from which the controller sends tasks to engines.
    fileprivate let taskPort: Int

    init(_ network: any Transport, _ surroundings: Surroundings, of engine: String, lies: Int, signer: Signer, taskPort: Int) {
        self.engine = engine
        self.taskPort = taskPort
        self.network = network
        self.surroundings = surroundings
        self.lies = lies
        self.signer = signer
    }

    func makeSocket(
        _ role: SocketRole, options: SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> any TransportSocket {
        guard self.lies > 0, role == .dealer else {
            return self.network.makeSocket(role, options: options, on: eventLoop, handler: handler)
        }
        let isForTasks = Flag()
        let socket = self.network.makeSocket(role, options: options, on: eventLoop) { event in
            if isForTasks.isSet, case .received(let messages) = event {
                for frames in messages { self.overhear(frames, by: self.engine) }
            }
            handler(event)
        }
        return LyingSocket(socket: socket, liar: self, isForTasks: isForTasks)
    }

    /// Notes a request that the engine was sent; other lying engines may answer it.
    private func overhear(_ frames: [ByteBuffer], by engine: String) {
        guard let message = try? Message(frames: frames), message.header.textMember("msg_type") == "apply_request" else { return }
        self.surroundings.overheard.add(message, by: engine)
    }

    /// Makes the lie that follows an answer; nil if no lie follows.
    fileprivate func lie(after frames: [ByteBuffer], isTask: Bool) -> [ByteBuffer]? {
        let time = self.surroundings.time
        guard let message = try? Message(frames: frames), let parent = message.parent.textMember("msg_id"),
            ["apply_reply", "execute_reply"].contains(message.header.textMember("msg_type")),
            var metadata = (try? JSONValue(parsing: message.metadata))?.object
        else { return nil }
        guard time.chance(self.lies) else { return nil }
        var parts = message.parts
        parts.content =
            JSONValue.object([
                "status": "error", "ename": .string(Self.errorName), "evalue": "this is not so", "traceback": [],
                "engine_info": [:],
            ]).packed
        metadata["status"] = "error"
        var identities = Array(message.identities)
        let what: String
        switch time.below(isTask ? 3 : 2) {
        case 0: what = "answers \(parent) twice"
        case 1:
            metadata["engine"] = "engine-2"
            what = "answers \(parent) as another engine"
        default:
            let requests = self.surroundings.overheard.last(notBy: self.engine)
            guard !requests.isEmpty else { return nil }
            let request = requests[Int(time.below(Int64(requests.count)))]
            parts.parent = request.header
            identities = Array(request.identities)
            let task = request.header.textMember("msg_id") ?? "?"
            self.surroundings.chronicle.noteLie(of: task, by: self.engine)
            what = "answers \(task), which it may not have been asked"
        }
        parts.metadata = JSONValue.object(metadata).packed
        self.surroundings.chronicle.note("an engine \(what)")
        return Message(
            identities: identities, signature: self.signer.signature(of: parts), parts: parts, buffers: []
        ).frames
    }
}

private struct LyingSocket: TransportSocket {
    let socket: any TransportSocket
    let liar: LyingTransport
    /// Whether the socket is connected to the controller's port for tasks.
    let isForTasks: Flag

    func send(_ frames: [ByteBuffer]) {
        self.socket.send(frames)
        if let lie = self.liar.lie(after: frames, isTask: self.isForTasks.isSet) { self.socket.send(lie) }
    }

    func bind(to endpoint: Endpoint) async throws -> Endpoint { try await self.socket.bind(to: endpoint) }

    func connect(to endpoint: Endpoint) {
        if endpoint.port == self.liar.taskPort { self.isForTasks.set() }
        self.socket.connect(to: endpoint)
    }

    func flush() { self.socket.flush() }
    func setReading(_ isReading: Bool) { self.socket.setReading(isReading) }
    func disconnect(_ identity: ByteBuffer) { self.socket.disconnect(identity) }
    func close(linger: TimeAmount) async { await self.socket.close(linger: linger) }
}

/// The network of a faulty client: the transport repeats some requests, signed anew, while they are unanswered or after their end.
struct StutteringTransport: Transport {
    private let network: any Transport
    private let surroundings: Surroundings
    private let stutters: Int
    private let signer: Signer

    init(_ network: any Transport, _ surroundings: Surroundings, stutters: Int, signer: Signer) {
        self.network = network
        self.surroundings = surroundings
        self.stutters = stutters
        self.signer = signer
    }

    func makeSocket(
        _ role: SocketRole, options: SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> any TransportSocket {
        guard self.stutters > 0, role == .dealer, let loop = eventLoop as? VirtualLoop else {
            return self.network.makeSocket(role, options: options, on: eventLoop, handler: handler)
        }
        return StutteringSocket(
            socket: self.network.makeSocket(role, options: options, on: eventLoop, handler: handler), client: self, loop: loop)
    }

    fileprivate func stutter(
        _ frames: [ByteBuffer], on loop: VirtualLoop, send: @escaping @Sendable ([ByteBuffer]) -> Void
    ) {
        let time = self.surroundings.time
        guard time.chance(self.stutters), let message = try? Message(frames: frames),
            message.header.textMember("msg_type") == "apply_request"
        else { return }
        let id = message.header.textMember("msg_id") ?? "?"
        var parts = message.parts
        parts.metadata.writeStaticString(" ")
        let again = Message(
            identities: Array(message.identities), signature: self.signer.signature(of: parts), parts: parts,
            buffers: Array(message.buffers))
        time.plan(in: time.below(400_000_000), on: loop) {
            self.surroundings.chronicle.note("a client sends \(id) again")
            send(again.frames)
        }
    }
}

private struct StutteringSocket: TransportSocket {
    let socket: any TransportSocket
    let client: StutteringTransport
    let loop: VirtualLoop

    func send(_ frames: [ByteBuffer]) {
        self.socket.send(frames)
        self.client.stutter(frames, on: self.loop) { self.socket.send($0) }
    }

    func bind(to endpoint: Endpoint) async throws -> Endpoint { try await self.socket.bind(to: endpoint) }
    func connect(to endpoint: Endpoint) { self.socket.connect(to: endpoint) }
    func flush() { self.socket.flush() }
    func setReading(_ isReading: Bool) { self.socket.setReading(isReading) }
    func disconnect(_ identity: ByteBuffer) { self.socket.disconnect(identity) }
    func close(linger: TimeAmount) async { await self.socket.close(linger: linger) }
}
