import NIOCore

/// A socket's state: its peers, and which of them gets a message. Lives on one event loop and never leaves it.
///
/// This file holds the behaviour of the socket types; `SocketCore+Connecting.swift` makes connections.
final class SocketCore {
    let type: SocketType
    let options: SocketOptions
    let eventLoop: any EventLoop
    let identity: ByteBuffer
    let limits: FrameDecoder.Limits

    /// The public socket, which the delegate's methods get. Set with the first bind or connect, nil again when closed.
    var face: Socket?
    var delegate: (any SocketDelegate)?

    /// All connections, by the number of their peer, handshake over or not.
    private(set) var connections: [PeerID: Connection] = [:]
    private var nextPeerNumber: UInt64 = 1
    /// Connections whose handshake is over, in the order in which a DEALER takes turns.
    private var open: [Connection] = []
    private var turn = 0
    /// ROUTER: the connection of each identity.
    private var routes: [ByteBuffer: Connection] = [:]
    private var nextGeneratedIdentity = UInt32.random(in: 0 ... .max)
    /// DEALER: messages that were sent while no peer was connected.
    private var backlog = CircularBuffer<Message>()
    private var backlogBytes = 0
    /// SUB: how often each prefix was subscribed to, and the prefixes as a filter.
    private var subscriptions: [ByteBuffer: Int] = [:]
    private var filter = SubscriptionSet()
    /// XPUB: how many peers hold each prefix.
    private var subscribers: [ByteBuffer: Int] = [:]

    private enum News {
        case event(SocketEvent)
        /// Subscriptions of an XPUB that ended with a connection.
        case messages([Message], PeerID)
    }

    /// News that the delegate has not got yet, oldest first. While there is any, a task of the loop is scheduled to deliver it.
    private var untold: [News] = []

    /// Connections with something to flush.
    private var unflushed: [Connection] = []
    private var isFlushing = false
    private var isFlushScheduled = false
    private(set) var dropped = 0

    var servers: [any Channel] = []
    var connectors: [Connector] = []
    var isReading = true
    var closing: Closing?

    init(type: SocketType, options: SocketOptions, eventLoop: any EventLoop, delegate: (any SocketDelegate)?) {
        precondition(options.identity.count <= 255 && options.identity.first != 0, "invalid identity \(options.identity)")
        self.type = type
        self.options = options
        self.eventLoop = eventLoop
        self.delegate = delegate
        self.identity = ByteBuffer(bytes: options.identity)
        self.limits = .init(messageSize: options.maximumMessageSize, frames: options.maximumFrames)
    }

    // MARK: Sending

    /// Sends the frames from `first` on.
    func send(_ frames: Message, from first: Int) -> SendOutcome {
        guard self.closing == nil else { return self.drop(.closed) }
        guard frames.count > first else { return self.drop(.empty) }
        switch self.type {
        case .router:
            guard frames.count > first + 1 else { return self.drop(.empty) }
            guard let connection = self.routes[frames[first]] else { return self.drop(.noSuchPeer) }
            return self.send(frames, from: first + 1, over: connection)
        case .dealer:
            return self.sendInTurn(frames, from: first)
        case .pub, .xpub:
            return self.publish(frames, from: first)
        case .sub:
            preconditionFailure("a SUB socket cannot send")
        }
    }

    func send(_ frames: Message, from first: Int, to peer: PeerID) -> SendOutcome {
        guard self.closing == nil else { return self.drop(.closed) }
        guard frames.count > first else { return self.drop(.empty) }
        guard let connection = self.connections[peer], connection.isOpen else { return self.drop(.noSuchPeer) }
        return self.send(frames, from: first, over: connection)
    }

    private func send(_ frames: Message, from first: Int, over connection: Connection) -> SendOutcome {
        guard connection.enqueue(frames, from: first) else { return self.drop(.highWaterMark) }
        self.needsFlush(connection)
        return .queued
    }

    private func drop(_ reason: SendOutcome.DropReason) -> SendOutcome {
        self.dropped += 1
        return .dropped(reason)
    }

    /// DEALER: sends a message to the next peer that has room.
    private func sendInTurn(_ frames: Message, from first: Int) -> SendOutcome {
        if self.open.isEmpty { return self.keep(first == 0 ? frames : Array(frames[first...])) }
        for _ in 0..<self.open.count {
            let connection = self.open[self.turn]
            self.turn = self.turn + 1 == self.open.count ? 0 : self.turn + 1
            if connection.hasRoom || self.open.count == 1 { return self.send(frames, from: first, over: connection) }
        }
        // No peer has room before a flush; this send flushes.
        return self.send(frames, from: first, over: self.open[self.turn])
    }

    /// DEALER: keeps a message until a peer is connected.
    private func keep(_ frames: Message) -> SendOutcome {
        let mark = self.options.sendHighWaterMark
        guard self.backlog.count < mark.messages ?? .max, self.backlogBytes < mark.bytes ?? .max else {
            return self.drop(.highWaterMark)
        }
        self.backlog.append(frames)
        for frame in frames { self.backlogBytes += frame.readableBytes }
        return .queued
    }

    /// PUB, XPUB: sends a message to each peer with a matching subscription.
    private func publish(_ frames: Message, from first: Int) -> SendOutcome {
        var outcome = SendOutcome.dropped(.noPeers)
        for connection in self.open where connection.subscriptions.matches(frames[first]) {
            if connection.enqueue(frames, from: first) {
                self.needsFlush(connection)
                outcome = .queued
            } else {
                self.dropped += 1
                if outcome != .queued { outcome = .dropped(.highWaterMark) }
            }
        }
        return outcome
    }

    // MARK: Flushing

    private func needsFlush(_ connection: Connection) {
        guard !connection.isUnflushed else { return }
        connection.isUnflushed = true
        self.unflushed.append(connection)
        guard self.options.flushesAutomatically, !self.isFlushScheduled else { return }
        self.isFlushScheduled = true
        self.eventLoop.assumeIsolated().execute {
            self.isFlushScheduled = false
            self.flush()
        }
    }

    func flush() {
        // A flush may call the delegate, which may send; the loop below flushes those messages too.
        guard !self.isFlushing else { return }
        self.isFlushing = true
        var index = 0
        while index < self.unflushed.count {
            let connection = self.unflushed[index]
            connection.isUnflushed = false
            connection.flush()
            index += 1
        }
        self.unflushed.removeAll(keepingCapacity: true)
        self.isFlushing = false
    }

    // MARK: Receiving

    func receive(_ messages: [Message], from connection: Connection) {
        self.tellNews()
        guard self.closing == nil, let delegate = self.delegate, let face = self.face else { return }
        switch self.type {
        case .router, .dealer, .xpub:
            delegate.socket(face, received: messages, from: connection.peer)
        case .sub:
            // A publisher may not know yet that a subscription was cancelled, or may apply that of another subscriber.
            let wanted =
                messages.allSatisfy { self.filter.matches($0[0]) } ? messages : messages.filter { self.filter.matches($0[0]) }
            if !wanted.isEmpty { delegate.socket(face, received: wanted, from: connection.peer) }
        case .pub:
            // A PUB expects subscriptions only; messages are dropped.
            break
        }
    }

    /// Tells the delegate of an event before the next messages, but never inside the current call: a flush may find that a peer
    /// has gone, and the caller of the flush may be in the middle of its work.
    func emit(_ event: SocketEvent) {
        self.tellLater(.event(event))
    }

    private func tellLater(_ news: News) {
        self.untold.append(news)
        guard self.untold.count == 1 else { return }
        self.eventLoop.assumeIsolated().execute { self.tellNews() }
    }

    private func tellNews() {
        guard !self.untold.isEmpty else { return }
        let untold = self.untold
        self.untold = []
        for news in untold {
            guard self.closing == nil, let delegate = self.delegate, let face = self.face else { return }
            switch news {
            case .event(let event): delegate.socket(face, event: event)
            case .messages(let messages, let peer): delegate.socket(face, received: messages, from: peer)
            }
        }
    }

    // MARK: Subscriptions

    /// SUB: subscribes at all publishers to messages that begin with the prefix.
    func subscribe(_ prefix: ByteBuffer) {
        precondition(self.type == .sub, "a \(self.type.rawValue) socket cannot subscribe")
        self.subscriptions[prefix, default: 0] += 1
        guard self.filter.insert(prefix) else { return }
        for connection in self.open { self.announce(.subscribe(prefix), over: connection) }
    }

    /// SUB: ends one subscription to a prefix.
    func unsubscribe(_ prefix: ByteBuffer) {
        precondition(self.type == .sub, "a \(self.type.rawValue) socket cannot unsubscribe")
        guard let count = self.subscriptions[prefix] else { return }
        guard count == 1 else {
            self.subscriptions[prefix] = count - 1
            return
        }
        self.subscriptions[prefix] = nil
        _ = self.filter.remove(prefix)
        for connection in self.open { self.announce(.cancel(prefix), over: connection) }
    }

    private func announce(_ command: Command, over connection: Connection) {
        connection.enqueue(command)
        self.needsFlush(connection)
    }

    /// PUB, XPUB: a peer's new subscription.
    ///
    /// - Returns: The subscription message for the delegate, on an XPUB and if no other peer holds the prefix.
    func subscriptionAdded(_ prefix: ByteBuffer) -> Message? {
        guard self.type == .xpub else { return nil }
        let key = ByteBuffer(bytes: prefix.readableBytesView)
        self.subscribers[key, default: 0] += 1
        return self.subscribers[key] == 1 ? Self.subscriptionMessage(1, prefix) : nil
    }

    /// PUB, XPUB: the end of a peer's subscription.
    ///
    /// - Returns: The subscription message for the delegate, on an XPUB and if no other peer holds the prefix.
    func subscriptionRemoved(_ prefix: ByteBuffer) -> Message? {
        guard self.type == .xpub, let count = self.subscribers[prefix] else { return nil }
        self.subscribers[prefix] = count == 1 ? nil : count - 1
        return count == 1 ? Self.subscriptionMessage(0, prefix) : nil
    }

    static func subscriptionMessage(_ kind: UInt8, _ prefix: ByteBuffer) -> Message {
        var frame = ByteBufferAllocator().buffer(capacity: 1 + prefix.readableBytes)
        frame.writeInteger(kind)
        frame.writeImmutableBuffer(prefix)
        return [frame]
    }

    // MARK: The life of a connection

    func makePeerID() -> PeerID {
        defer { self.nextPeerNumber += 1 }
        return PeerID(number: self.nextPeerNumber)
    }

    /// Takes in a connection that has just become active.
    ///
    /// - Returns: Whether it is wanted.
    func adopt(_ connection: Connection) -> Bool {
        guard self.closing == nil || self.closing?.isDrainingBacklog == true, connection.connector?.isCancelled != true else {
            return false
        }
        self.connections[connection.peer] = connection
        connection.connector?.connection = connection
        if !self.isReading { connection.setReading(false) }
        return true
    }

    /// The identity for a peer that announced this one; `nil` if another peer bears it.
    func identity(for announced: ByteBuffer) -> ByteBuffer? {
        guard self.type == .router else { return announced }
        if announced.readableBytes > 0 { return self.routes[announced] == nil ? announced : nil }
        var generated = ByteBufferAllocator().buffer(capacity: 5)
        repeat {
            generated.clear()
            generated.writeInteger(UInt8(0))
            generated.writeInteger(self.nextGeneratedIdentity)
            self.nextGeneratedIdentity &+= 1
        } while self.routes[generated] != nil
        return generated
    }

    func connectionOpened(_ connection: Connection) {
        self.open.append(connection)
        switch self.type {
        case .router:
            self.routes[connection.identity] = connection
        case .dealer:
            while connection.hasRoom, let message = self.backlog.popFirst() {
                for frame in message { self.backlogBytes -= frame.readableBytes }
                _ = self.send(message, from: 0, over: connection)
            }
        case .sub:
            for prefix in self.filter.prefixes { self.announce(.subscribe(prefix), over: connection) }
        case .pub, .xpub: break
        }
        self.flush()
        self.emit(.peerConnected(connection.peer, identity: connection.identity))
        if self.closing != nil { connection.drain() }
    }

    func connectionEnded(_ connection: Connection, wasOpen: Bool, _ reason: DisconnectReason) {
        self.connections[connection.peer] = nil
        if wasOpen {
            if let index = self.open.firstIndex(where: { $0 === connection }) {
                self.open.remove(at: index)
                if index < self.turn { self.turn -= 1 }
                if self.turn >= self.open.count { self.turn = 0 }
            }
            if self.routes[connection.identity] === connection { self.routes[connection.identity] = nil }
            let cancelled = connection.subscriptions.prefixes.compactMap { self.subscriptionRemoved($0) }
            if self.closing == nil {
                if !cancelled.isEmpty { self.tellLater(.messages(cancelled, connection.peer)) }
                self.emit(.peerDisconnected(connection.peer, identity: connection.identity, reason))
            }
        } else if self.closing == nil {
            self.emit(.handshakeFailed(address: connection.address, reason))
        }
        if let connector = connection.connector {
            connector.connection = nil
            self.connectLater(connector)
        }
        self.finishClosingIfDone()
    }

    // MARK: Statistics

    var peers: [PeerID] { self.open.map(\.peer) }

    var queuedInBacklog: (messages: Int, bytes: Int) { (self.backlog.count, self.backlogBytes) }

    func peer(withIdentity identity: ByteBuffer) -> PeerID? {
        self.routes[identity]?.peer
    }
}
