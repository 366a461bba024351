internal import ApusTransport
internal import ApusWire
internal import Locks
internal import NIOCore

/// A network between simulated processes, whose connections delay messages and break.
///
/// Sockets keep the promises of ``TransportSocket``. The delays follow from the seed, and the messages of one connection keep their
/// order, as over TCP. A connection that is cut loses the messages on their way, and the socket that had connected connects again
/// after a pause. Messages may be replayed.
final class SimulatedNetwork: Sendable {
    /// How slow and how faulty the network is.
    struct Conditions: Sendable {
        /// The limit of a message's random delay, in nanoseconds.
        var latency: Int64 = 300_000
        /// The percentage of messages that are replayed.
        var replays = 0
    }

    private let time: VirtualTime
    private let conditions: Conditions
    private let chronicle: Chronicle
    /// Whether the story has a line for each message.
    private let traces: Bool
    private let state = Mutex(State())

    private struct State {
        var sockets: [Int: SocketState] = [:]
        var connections: [Int: Connection] = [:]
        /// The socket that listens at each port.
        var listeners: [Int: Int] = [:]
        /// Sockets that wait for a listener, by port.
        var seekers: [Int: [Int]] = [:]
        var engines: Set<Int> = []
        var controllers: Set<Int> = []
        var ended: Set<Int> = []
        var nextSocket = 1
        var nextConnection = 1
        var nextPort = 20000
        var nextName: UInt32 = 1
        var replayed = 0
        var lost = 0

        func isOfController(_ socket: Int) -> Bool {
            self.sockets[socket].map { self.controllers.contains($0.process) } ?? false
        }
    }

    /// The parts of a message that the simulation looks at.
    struct Letter: Sendable {
        let type: String
        let id: String
        let session: String
        /// The id of the request that the message answers; nil if it answers none.
        let parent: String?
        /// The requests that an engine gives back with the message.
        let given: [String]
        private let signature: ByteBuffer
        /// Its id and its signature. A lie has the id of the answer that it follows; an answer that the controller makes of an engine's has
        /// the engine's id.
        var names: Set<String> { [self.id, String(buffer: self.signature)] }

        /// Nil if the frames are no message.
        init?(_ frames: [ByteBuffer]) {
            guard frames.count > 4, let message = try? Message(frames: frames),
                let type = message.header.textMember("msg_type"), let id = message.header.textMember("msg_id")
            else { return nil }
            self.type = type
            self.id = id
            self.session = message.header.textMember("session") ?? ""
            self.signature = message.signature
            self.parent = message.parent.textMember("msg_id")
            let content = type == "apus_recall_reply" ? try? JSONValue(parsing: message.content) : nil
            self.given = (content?["msg_ids"]?.array ?? []).compactMap { $0.string }
        }
    }

    private struct SocketState {
        let process: Int
        let role: SocketRole
        let identity: ByteBuffer
        let loop: VirtualLoop
        let handler: @Sendable (SocketEvent) -> Void
        /// The socket's connections in order of connecting, each with the peer's name at this socket.
        var peers: [Peer] = []
        /// Messages that a dealer sent before it had a peer.
        var unsent: [[ByteBuffer]] = []
        /// The number of messages that a dealer has sent, which chooses the next peer.
        var turn = 0
        /// The events that the handler gets at the next turn of the loop.
        var inbox: [SocketEvent] = []
        var isDelivering = false
        var isReading = true
    }

    private struct Peer {
        let connection: Int
        let name: ByteBuffer
        /// Whether an engine made the connection.
        let isOfEngine: Bool
    }

    private struct Connection {
        let seeker: Int
        let listener: Int
        let port: Int
        /// When the last message to each end arrives; messages do not overtake each other.
        var arrivals: [Int: Int64] = [:]

        func peer(of socket: Int) -> Int { socket == self.seeker ? self.listener : self.seeker }
    }

    init(_ time: VirtualTime, _ conditions: Conditions, _ chronicle: Chronicle, traces: Bool) {
        self.chronicle = chronicle
        self.traces = traces
        self.time = time
        self.conditions = conditions
    }

    /// The numbers of messages replayed and lost so far.
    var counts: (replayed: Int, lost: Int) { self.state.withLock { ($0.replayed, $0.lost) } }

    /// Makes the transport of one process.
    func transport(of process: Int, isEngine: Bool = false, isController: Bool = false) -> any Transport {
        self.state.withLock { state in
            if isEngine { state.engines.insert(process) }
            if isController { state.controllers.insert(process) }
        }
        return ProcessTransport(network: self, process: process)
    }

    // MARK: Misfortune

    /// Ends a process: its sockets close at once, and messages on their way to the sockets are lost.
    func end(_ process: Int) {
        let sockets = self.state.withLock { state -> [Int] in
            state.ended.insert(process)
            return state.sockets.filter { $0.value.process == process }.keys.sorted()
        }
        for socket in sockets { self.close(socket) }
    }

    /// Cuts a random connection that a socket of the process had made, if there is one.
    func cut(_ process: Int) -> Bool {
        let sought = self.state.withLock { state in
            state.connections.filter { state.sockets[$0.value.seeker]?.process == process }.keys.sorted()
        }
        guard !sought.isEmpty else { return false }
        self.cut(sought[Int(self.time.below(Int64(sought.count)))], by: nil)
        return true
    }

    /// Cuts every connection that sockets of the process had made, as when a laptop sleeps.
    func cutAll(_ process: Int) {
        let sought = self.state.withLock { state in
            state.connections.filter { state.sockets[$0.value.seeker]?.process == process }.keys.sorted()
        }
        for connection in sought { self.cut(connection, by: nil) }
    }

    /// - Parameter socket: The socket that cuts the connection, which is told at once; the other end is told later.
    private func cut(_ number: Int, by socket: Int?) {
        guard let connection = self.state.withLock({ $0.connections.removeValue(forKey: number) }) else { return }
        for end in [connection.listener, connection.seeker] where end != socket {
            self.time.plan(in: 100_000 + self.time.below(2_000_000)) { self.tellOfLoss(of: number, connection, at: end) }
        }
        if let socket { self.tellOfLoss(of: number, connection, at: socket) }
    }

    /// Tells one end that the connection has ended; the end that had connected connects again.
    private func tellOfLoss(of number: Int, _ connection: Connection, at socket: Int) {
        let ready = self.state.withLock { state -> [Int] in
            guard let index = state.sockets[socket]?.peers.firstIndex(where: { $0.connection == number }),
                let name = state.sockets[socket]?.peers.remove(at: index).name
            else { return [] }
            return Self.tell(.peerDisconnected(identity: name), to: socket, &state)
        }
        self.schedule(ready)
        if socket == connection.seeker { self.seek(connection.port, from: socket, in: 5_000_000 + self.time.below(200_000_000)) }
    }

    // MARK: Sockets

    fileprivate func makeSocket(
        of process: Int, _ role: SocketRole, _ options: SocketOptions, on eventLoop: any EventLoop,
        _ handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> Int {
        guard let loop = eventLoop as? VirtualLoop else { preconditionFailure("a simulated socket needs a simulated loop") }
        return self.state.withLock { state in
            let number = state.nextSocket
            state.nextSocket += 1
            guard !state.ended.contains(process) else { return number }
            state.sockets[number] = SocketState(
                process: process, role: role, identity: options.identity, loop: loop, handler: handler)
            return number
        }
    }

    fileprivate func bind(_ socket: Int, to endpoint: Endpoint) throws -> Endpoint {
        var endpoint = endpoint
        let seekers = try self.state.withLock { state throws(TransportError) -> [Int] in
            if endpoint.port == 0 {
                while state.listeners[state.nextPort] != nil { state.nextPort += 1 }
                endpoint.port = state.nextPort
                state.nextPort += 1
            }
            guard state.listeners[endpoint.port] == nil else { throw TransportError("port \(endpoint.port) is in use") }
            // The socket is gone if its process has ended.
            guard state.sockets[socket] != nil else { return [] }
            state.listeners[endpoint.port] = socket
            return state.seekers.removeValue(forKey: endpoint.port) ?? []
        }
        for seeker in seekers { self.seek(endpoint.port, from: seeker, in: self.time.below(500_000_000)) }
        return endpoint
    }

    fileprivate func connect(_ socket: Int, to endpoint: Endpoint) {
        self.seek(endpoint.port, from: socket, in: self.time.below(self.conditions.latency))
    }

    private func seek(_ port: Int, from socket: Int, in delay: Int64) {
        self.time.plan(in: delay) { self.join(socket, port) }
    }

    /// Connects the socket to the listener at the port, now or as soon as there is one.
    private func join(_ seeker: Int, _ port: Int) {
        enum Outcome { case told([Int]), again, none }
        let outcome = self.state.withLock { state -> Outcome in
            guard let seeking = state.sockets[seeker] else { return .none }
            guard let listener = state.listeners[port], let listening = state.sockets[listener] else {
                state.seekers[port, default: []].append(seeker)
                return .none
            }
            // A router has one peer of each name. A socket tries again while a peer, which may be about to leave, has its name.
            if listening.role == .router, seeking.identity.readableBytes > 0,
                listening.peers.contains(where: { $0.name == seeking.identity })
            {
                return .again
            }
            let number = state.nextConnection
            state.nextConnection += 1
            state.connections[number] = Connection(seeker: seeker, listener: listener, port: port)
            var ready: [Int] = []
            for (socket, peer) in [(listener, seeking), (seeker, listening)] {
                var name = peer.identity
                if name.readableBytes == 0 {
                    name = ByteBuffer(bytes: [0] + withUnsafeBytes(of: state.nextName.bigEndian, Array.init))
                    state.nextName += 1
                }
                state.sockets[socket]?.peers.append(
                    Peer(connection: number, name: name, isOfEngine: state.engines.contains(seeking.process)))
                ready += Self.tell(.peerConnected(identity: name), to: socket, &state)
            }
            return .told(ready)
        }
        switch outcome {
        case .none: break
        case .again: self.seek(port, from: seeker, in: 10_000_000 + self.time.below(50_000_000))
        case .told(let ready):
            self.schedule(ready)
            let unsent = self.state.withLock { state in
                defer { state.sockets[seeker]?.unsent = [] }
                return state.sockets[seeker]?.unsent ?? []
            }
            for frames in unsent { self.send(frames, from: seeker) }
        }
    }

    fileprivate func send(_ frames: [ByteBuffer], from socket: Int) {
        if self.chronicle.knowsLateAnswers, self.state.withLock({ $0.isOfController(socket) }), let letter = Letter(frames) {
            self.chronicle.passes(letter)
        }
        var nowhere = false
        let messages = self.state.withLock { state -> [(peer: Peer, frames: [ByteBuffer])] in
            guard var sender = state.sockets[socket] else { return [] }
            defer { state.sockets[socket] = sender }
            switch sender.role {
            case .router:
                guard let target = frames.first, let peer = sender.peers.first(where: { $0.name == target }) else {
                    nowhere = true
                    return []
                }
                return [(peer, Array(frames.dropFirst()))]
            case .dealer:
                guard !sender.peers.isEmpty else {
                    sender.unsent.append(frames)
                    return []
                }
                sender.turn += 1
                return [(sender.peers[sender.turn % sender.peers.count], frames)]
            case .publisher: return sender.peers.map { ($0, frames) }
            case .subscriber: return []
            }
        }
        if nowhere { self.trace("goes nowhere", frames, to: nil) }
        for (peer, frames) in messages { self.carry(frames, over: peer.connection, from: socket, isOfEngine: peer.isOfEngine) }
    }

    /// Plans the arrival of a message at the other end, after the earlier messages of the connection.
    private func carry(_ frames: [ByteBuffer], over connection: Int, from socket: Int, isOfEngine: Bool) {
        let soon = self.time.nanoseconds + 20_000 + self.time.below(self.conditions.latency)
        let arrival = self.state.withLock { state -> (Int64, Int)? in
            guard let peer = state.connections[connection]?.peer(of: socket) else {
                state.lost += 1
                return nil
            }
            let time = max(soon, state.connections[connection]?.arrivals[peer] ?? 0)
            state.connections[connection]?.arrivals[peer] = time
            return (time, peer)
        }
        guard let (time, peer) = arrival else { return self.lose(frames, isOfEngine) }
        self.time.plan(at: time) {
            if !self.arrive(frames, over: connection, at: peer) { self.lose(frames, isOfEngine) }
        }
        guard self.time.chance(self.conditions.replays) else { return }
        self.state.withLock { $0.replayed += 1 }
        self.time.plan(at: time + self.time.below(400_000_000)) {
            _ = self.arrive(frames, over: connection, at: peer, isAgain: true)
        }
    }

    /// - Returns: False if the connection, or the socket at its end, is gone.
    private func arrive(_ frames: [ByteBuffer], over connection: Int, at socket: Int, isAgain: Bool = false) -> Bool {
        let ready = self.state.withLock { state -> [Int]? in
            guard state.connections[connection] != nil, let receiver = state.sockets[socket],
                let name = receiver.peers.first(where: { $0.connection == connection })?.name
            else {
                state.lost += 1
                return nil
            }
            let message = receiver.role == .router ? [name] + frames : frames
            return Self.tell(.received([message]), to: socket, &state)
        }
        guard let ready else { return false }
        self.trace(isAgain ? "comes again" : "comes", frames, to: socket)
        if let letter = Letter(frames) {
            let (process, isController) = self.state.withLock { ($0.sockets[socket]?.process, $0.isOfController(socket)) }
            switch process {
            case _ where isAgain: self.chronicle.cameAgain(letter)
            case let process? where isController: self.chronicle.came(letter, toController: process)
            case let process?: self.chronicle.came(letter, to: process)
            case nil: break
            }
        }
        self.schedule(ready)
        return true
    }

    /// Records that a message does not arrive, and notes tasks that are lost between the controller and an engine.
    private func lose(_ frames: [ByteBuffer], _ isOfEngine: Bool) {
        self.trace("is lost on its way", frames, to: nil)
        guard isOfEngine else { return }
        guard let message = try? Message(frames: frames), let type = message.header.textMember("msg_type") else { return }
        guard type == "apply_reply" || type == "apply_request" else { return }
        let id = type == "apply_reply" ? message.parent.textMember("msg_id") : message.header.textMember("msg_id")
        if let id { self.chronicle.noteLoss(of: TaskID(id)) }
    }

    /// Adds a line about a message to the story, if messages are traced.
    private func trace(_ what: String, _ frames: [ByteBuffer], to socket: Int?) {
        guard self.traces, let message = try? Message(frames: frames) else { return }
        let process = socket.flatMap { socket in self.state.withLock { $0.sockets[socket]?.process } }
        let type = message.header.textMember("msg_type") ?? "?"
        let id = message.header.textMember("msg_id") ?? "?"
        let parent = message.parent.textMember("msg_id").map { " of \($0)" } ?? ""
        self.chronicle.note("    \(type) \(id)\(parent) \(what)\(process.map { " to process \($0)" } ?? "")")
    }

    /// Closes a socket. Messages that it sent still arrive, and its peers are told of its end after them.
    fileprivate func close(_ socket: Int) {
        let connections = self.state.withLock { state -> [(Int, Connection)] in
            guard let closed = state.sockets.removeValue(forKey: socket) else { return [] }
            state.listeners = state.listeners.filter { $0.value != socket }
            return closed.peers.compactMap { peer in state.connections[peer.connection].map { (peer.connection, $0) } }
        }
        for (number, connection) in connections {
            let peer = connection.peer(of: socket)
            let time = max(self.time.nanoseconds + self.time.below(self.conditions.latency), connection.arrivals[peer] ?? 0)
            self.time.plan(at: time) {
                guard self.state.withLock({ $0.connections.removeValue(forKey: number) }) != nil else { return }
                self.tellOfLoss(of: number, connection, at: peer)
            }
        }
    }

    /// Ends the connection to the peer of this name. The socket that had connected connects again, as over TCP.
    fileprivate func disconnect(_ name: ByteBuffer, from socket: Int) {
        let connection = self.state.withLock { $0.sockets[socket]?.peers.first { $0.name == name }?.connection }
        if let connection { self.cut(connection, by: socket) }
    }

    fileprivate func setReading(_ isReading: Bool, at socket: Int) {
        let ready: [Int] = self.state.withLock { state in
            state.sockets[socket]?.isReading = isReading
            guard isReading, let waiting = state.sockets[socket], !waiting.inbox.isEmpty, !waiting.isDelivering else { return [] }
            state.sockets[socket]?.isDelivering = true
            return [socket]
        }
        self.schedule(ready)
    }

    // MARK: Telling

    /// - Returns: The sockets whose loops must be woken.
    private static func tell(_ event: SocketEvent, to socket: Int, _ state: inout State) -> [Int] {
        // Messages that come before the loop's next turn are read together.
        if case .received(let more) = event, case .received(let messages)? = state.sockets[socket]?.inbox.last {
            state.sockets[socket]?.inbox.removeLast()
            state.sockets[socket]?.inbox.append(.received(messages + more))
        } else {
            state.sockets[socket]?.inbox.append(event)
        }
        guard state.sockets[socket]?.isDelivering == false else { return [] }
        state.sockets[socket]?.isDelivering = true
        return [socket]
    }

    private func schedule(_ sockets: [Int]) {
        for socket in sockets {
            guard let loop = self.state.withLock({ $0.sockets[socket]?.loop }) else { continue }
            loop.execute { self.deliver(to: socket) }
        }
    }

    private func deliver(to socket: Int) {
        let (events, handler) = self.state.withLock { state -> ([SocketEvent], (@Sendable (SocketEvent) -> Void)?) in
            state.sockets[socket]?.isDelivering = false
            guard state.sockets[socket]?.isReading == true else { return ([], nil) }
            defer { state.sockets[socket]?.inbox = [] }
            return (state.sockets[socket]?.inbox ?? [], state.sockets[socket]?.handler)
        }
        for event in events {
            // A handler may close its socket, which then gets no more events.
            guard self.state.withLock({ $0.sockets[socket] != nil }) else { return }
            handler?(event)
        }
    }
}

private struct ProcessTransport: Transport {
    let network: SimulatedNetwork
    let process: Int

    func makeSocket(
        _ role: SocketRole, options: SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> any TransportSocket {
        SimulatedSocket(
            network: self.network, number: self.network.makeSocket(of: self.process, role, options, on: eventLoop, handler))
    }
}

private struct SimulatedSocket: TransportSocket {
    let network: SimulatedNetwork
    let number: Int

    func bind(to endpoint: Endpoint) async throws -> Endpoint { try self.network.bind(self.number, to: endpoint) }
    func connect(to endpoint: Endpoint) { self.network.connect(self.number, to: endpoint) }
    func send(_ frames: [ByteBuffer]) { self.network.send(frames, from: self.number) }
    func flush() {}
    func setReading(_ isReading: Bool) { self.network.setReading(isReading, at: self.number) }
    func disconnect(_ identity: ByteBuffer) { self.network.disconnect(identity, from: self.number) }
    func close(linger: TimeAmount) async { self.network.close(self.number) }
}
