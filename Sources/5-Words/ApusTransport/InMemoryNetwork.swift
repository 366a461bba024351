package import NIOCore
private import Locks

/// A network inside the process: the roles of ``SocketRole`` without bytes or ports of the machine.
///
/// The frames of a message are handed to the receiver without a copy. A connection is made as soon as both ends exist, in either
/// order.
package final class InMemoryNetwork: Transport {
    private let state = Mutex(State())

    private struct State {
        var sockets: [Int: SocketState] = [:]
        /// Which socket listens at a port.
        var listeners: [Int: Int] = [:]
        /// Sockets that wait for a listener, by port.
        var waiting: [Int: [Int]] = [:]
        var nextSocket = 1
        var nextPort = 20000
        var nextName: UInt32 = 1
    }

    private struct SocketState {
        let role: SocketRole
        let identity: ByteBuffer
        let eventLoop: any EventLoop
        let handler: @Sendable (SocketEvent) -> Void
        /// Connected peers in order of connecting, each with the name it has here.
        var peers: [(socket: Int, name: ByteBuffer)] = []
        /// The peers that this socket connected to of its own accord, each with its port. When such a peer closes, the socket
        /// waits for the next listener at that port.
        var sought: [Int: Int] = [:]
        /// Messages that a dealer sent while it had no peer.
        var unsent: [[ByteBuffer]] = []
        /// How many messages a dealer has sent to its peers, which take turns by this number.
        var turn = 0
        /// Events for the handler, which is called at the next turn of the loop.
        var inbox: [SocketEvent] = []
        var isDelivering = false
        var isReading = true
    }

    package init() {}

    package func makeSocket(
        _ role: SocketRole, options: SocketOptions, on eventLoop: any EventLoop,
        handler: @escaping @Sendable (SocketEvent) -> Void
    ) -> any TransportSocket {
        let number = self.state.withLock { state in
            let number = state.nextSocket
            state.nextSocket += 1
            state.sockets[number] = SocketState(role: role, identity: options.identity, eventLoop: eventLoop, handler: handler)
            return number
        }
        return InMemorySocket(network: self, number: number)
    }

    fileprivate func bind(_ socket: Int, to endpoint: Endpoint) throws -> Endpoint {
        var endpoint = endpoint
        let ready = try self.state.withLock { state throws(TransportError) in
            if endpoint.port == 0 {
                while state.listeners[state.nextPort] != nil { state.nextPort += 1 }
                endpoint.port = state.nextPort
                state.nextPort += 1
            }
            guard state.listeners[endpoint.port] == nil else { throw TransportError("port \(endpoint.port) is in use") }
            state.listeners[endpoint.port] = socket
            var ready: [Int] = []
            for peer in state.waiting.removeValue(forKey: endpoint.port) ?? [] where state.sockets[peer] != nil {
                state.sockets[peer]?.sought[socket] = endpoint.port
                ready += Self.join(peer, socket, &state)
            }
            return ready
        }
        self.schedule(ready)
        return endpoint
    }

    fileprivate func connect(_ socket: Int, to endpoint: Endpoint) {
        let ready: [Int] = self.state.withLock { state in
            if let listener = state.listeners[endpoint.port] {
                state.sockets[socket]?.sought[listener] = endpoint.port
                return Self.join(socket, listener, &state)
            }
            state.waiting[endpoint.port, default: []].append(socket)
            return []
        }
        self.schedule(ready)
    }

    fileprivate func send(_ frames: [ByteBuffer], from socket: Int) {
        let ready: [Int] = self.state.withLock { state in
            guard var sender = state.sockets[socket] else { return [] }
            defer { state.sockets[socket] = sender }
            switch sender.role {
            case .router:
                guard let target = frames.first, let peer = sender.peers.first(where: { $0.name == target }) else { return [] }
                return Self.hand(Array(frames.dropFirst()), from: socket, to: peer.socket, &state)
            case .dealer:
                guard !sender.peers.isEmpty else {
                    sender.unsent.append(frames)
                    return []
                }
                sender.turn += 1
                return Self.hand(frames, from: socket, to: sender.peers[sender.turn % sender.peers.count].socket, &state)
            case .publisher:
                return sender.peers.flatMap { Self.hand(frames, from: socket, to: $0.socket, &state) }
            case .subscriber: return []
            }
        }
        self.schedule(ready)
    }

    fileprivate func close(_ socket: Int) {
        let ready: [Int] = self.state.withLock { state in
            guard let closed = state.sockets.removeValue(forKey: socket) else { return [] }
            state.listeners = state.listeners.filter { $0.value != socket }
            var ready: [Int] = []
            for peer in closed.peers {
                guard let index = state.sockets[peer.socket]?.peers.firstIndex(where: { $0.socket == socket }),
                    let name = state.sockets[peer.socket]?.peers.remove(at: index).name
                else { continue }
                ready += Self.tell(.peerDisconnected(identity: name), to: peer.socket, &state)
                if let port = state.sockets[peer.socket]?.sought.removeValue(forKey: socket) {
                    state.waiting[port, default: []].append(peer.socket)
                }
            }
            return ready
        }
        self.schedule(ready)
    }

    /// Ends the connection to the peer of that name. A peer that had connected to this socket connects again at once, as over
    /// TCP.
    fileprivate func disconnect(_ name: ByteBuffer, from socket: Int) {
        let ready: [Int] = self.state.withLock { state in
            guard let index = state.sockets[socket]?.peers.firstIndex(where: { $0.name == name }),
                let peer = state.sockets[socket]?.peers.remove(at: index).socket
            else { return [] }
            var ready = Self.tell(.peerDisconnected(identity: name), to: socket, &state)
            if let back = state.sockets[peer]?.peers.firstIndex(where: { $0.socket == socket }),
                let own = state.sockets[peer]?.peers.remove(at: back).name
            {
                ready += Self.tell(.peerDisconnected(identity: own), to: peer, &state)
            }
            if state.sockets[peer]?.sought[socket] != nil { ready += Self.join(peer, socket, &state) }
            return ready
        }
        self.schedule(ready)
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

    // MARK: Under the lock; each gives the sockets whose loops must be woken

    private static func join(_ left: Int, _ right: Int, _ state: inout State) -> [Int] {
        func name(for peer: Int) -> ByteBuffer {
            if let identity = state.sockets[peer]?.identity, identity.readableBytes > 0 { return identity }
            defer { state.nextName += 1 }
            return ByteBuffer(bytes: [0] + withUnsafeBytes(of: state.nextName.bigEndian, Array.init))
        }
        var ready: [Int] = []
        for (socket, peer) in [(left, right), (right, left)] {
            let name = name(for: peer)
            state.sockets[socket]?.peers.append((socket: peer, name: name))
            ready += self.tell(.peerConnected(identity: name), to: socket, &state)
        }
        for (socket, peer) in [(left, right), (right, left)] {
            let unsent = state.sockets[socket]?.unsent ?? []
            state.sockets[socket]?.unsent = []
            for frames in unsent { ready += self.hand(frames, from: socket, to: peer, &state) }
        }
        return ready
    }

    private static func hand(_ frames: [ByteBuffer], from sender: Int, to socket: Int, _ state: inout State) -> [Int] {
        guard let receiver = state.sockets[socket] else { return [] }
        if case .router = receiver.role, let name = receiver.peers.first(where: { $0.socket == sender })?.name {
            return self.tell(.received([[name] + frames]), to: socket, &state)
        }
        return self.tell(.received([frames]), to: socket, &state)
    }

    private static func tell(_ event: SocketEvent, to socket: Int, _ state: inout State) -> [Int] {
        state.sockets[socket]?.inbox.append(event)
        guard state.sockets[socket]?.isDelivering == false else { return [] }
        state.sockets[socket]?.isDelivering = true
        return [socket]
    }

    // MARK: Outside the lock

    private func schedule(_ sockets: [Int]) {
        for socket in sockets {
            guard let eventLoop = self.state.withLock({ $0.sockets[socket]?.eventLoop }) else { continue }
            eventLoop.execute { self.deliver(to: socket) }
        }
    }

    private func deliver(to socket: Int) {
        let (events, handler) = self.state.withLock { state -> ([SocketEvent], (@Sendable (SocketEvent) -> Void)?) in
            guard state.sockets[socket]?.isReading == true else {
                state.sockets[socket]?.isDelivering = false
                return ([], nil)
            }
            let events = state.sockets[socket]?.inbox ?? []
            state.sockets[socket]?.inbox = []
            state.sockets[socket]?.isDelivering = false
            return (events, state.sockets[socket]?.handler)
        }
        for event in events { handler?(event) }
    }
}

private struct InMemorySocket: TransportSocket {
    let network: InMemoryNetwork
    let number: Int

    func bind(to endpoint: Endpoint) async throws -> Endpoint { try self.network.bind(self.number, to: endpoint) }
    func connect(to endpoint: Endpoint) { self.network.connect(self.number, to: endpoint) }
    func send(_ frames: [ByteBuffer]) { self.network.send(frames, from: self.number) }
    func flush() {}
    func setReading(_ isReading: Bool) { self.network.setReading(isReading, at: self.number) }
    func disconnect(_ identity: ByteBuffer) { self.network.disconnect(identity, from: self.number) }
    func close(linger: TimeAmount) async { self.network.close(self.number) }
}
