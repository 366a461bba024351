import NIOCore

/// One TCP connection: moves bytes between the channel and a ``Session``, and queues bytes that the channel cannot take.
///
/// The only handler in its pipeline. It decides nothing about messages; the ``SocketCore`` does.
final class Connection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        /// Not active yet, or the peer's READY is awaited. Becomes `open` or `closed`.
        case handshaking
        /// Becomes `draining` or `closed`.
        case open
        /// Nothing more is received; the queue is being written. Becomes `closed`.
        case draining
        /// Terminal.
        case closed
    }

    /// How long the peer may take to close its side after this side was closed.
    private static let goodbyeTimeout = TimeAmount.milliseconds(250)

    /// The longest list of messages that is kept for its capacity.
    private static let keptCapacity = 1024

    let peer: PeerID
    /// The connector that opened the connection and will open the next; `nil` if the peer connected.
    let connector: Connector?
    private let socket: SocketCore

    private var state = State.handshaking
    private var channel: (any Channel)?
    private var context: ChannelHandlerContext?
    private var session: Session
    private(set) var address = ""

    /// The identity that the peer announced or, on a ROUTER, that it was given.
    private(set) var identity = ByteBuffer()
    private(set) var peerType = ""
    /// The peer's subscriptions; used by PUB and XPUB.
    var subscriptions = SubscriptionSet()

    private(set) var outgoing = OutgoingQueue()
    /// Whether the socket's list of connections to flush has this one.
    var isUnflushed = false
    private var isFlushing = false
    /// Whether a message was dropped since the queue was empty last.
    private var hasRefused = false
    private(set) var dropped = 0

    /// The messages of the piece being read; kept for its capacity.
    private var received: [Message] = []
    private var isReading = true
    /// The number of pieces read so far, by which a heartbeat sees whether the peer is alive.
    private var reads: UInt64 = 0
    private var handshakeTimer: Scheduled<Void>?
    private var watchdogs: [Scheduled<Void>] = []
    private var hasTimeToLiveWatchdog = false

    init(peer: PeerID, connector: Connector?, socket: SocketCore) {
        self.peer = peer
        self.connector = connector
        self.socket = socket
        self.session = Session(
            socketType: socket.type, identity: socket.identity, limits: socket.limits, strangers: socket.options.strangers)
    }

    var isOpen: Bool { self.state == .open }
    var peerSpeaks31: Bool { self.session.peerSpeaks31 }

    // MARK: Sending

    /// Queues the frames of a message from `first` on; false if the queue is at its high-water mark.
    func enqueue(_ frames: Message, from first: Int) -> Bool {
        if !self.hasRoom {
            // The mark is meant for a peer that does not keep up, not for a caller that has not flushed yet.
            self.flush()
            guard self.hasRoom else {
                self.hasRefused = true
                self.dropped += 1
                if self.socket.options.closesAtHighWaterMark { self.closeSoon(.tooSlow) }
                return false
            }
        }
        self.outgoing.append(frames, from: first)
        // The peer gets the first messages of a long batch before its end.
        if self.outgoing.bytes >= OutgoingQueue.segmentSize { self.flush() }
        return true
    }

    var hasRoom: Bool {
        let mark = self.socket.options.sendHighWaterMark
        if let bytes = mark.bytes, self.outgoing.bytes >= bytes { return false }
        if let messages = mark.messages, self.outgoing.messages >= messages { return false }
        return true
    }

    /// Queues a command in the form that the peer's version understands.
    func enqueue(_ command: Command) {
        switch command {
        case .subscribe(let prefix) where !self.peerSpeaks31:
            self.outgoing.append(SocketCore.subscriptionMessage(1, prefix))
        case .cancel(let prefix) where !self.peerSpeaks31:
            self.outgoing.append(SocketCore.subscriptionMessage(0, prefix))
        default:
            self.outgoing.append(encoded: command.encoded())
        }
    }

    /// Hands queued bytes to the channel while it is writable; the rest follows when it becomes writable again.
    func flush() {
        guard !self.isFlushing, let channel = self.channel, let context = self.context else { return }
        self.isFlushing = true
        while !self.outgoing.isEmpty, channel.isWritable, self.state != .closed {
            var last: ByteBuffer?
            while channel.isWritable, let bytes = self.outgoing.next() {
                context.write(Self.wrapOutboundOut(bytes), promise: nil)
                last = bytes
            }
            context.flush()
            if let last { self.outgoing.recycle(last) }
        }
        self.isFlushing = false
        guard self.outgoing.isEmpty else { return }
        if self.state == .draining { self.sayGoodbye() }
        if self.hasRefused, self.state == .open {
            self.hasRefused = false
            self.socket.emit(.peerDrained(self.peer))
        }
    }

    /// Bytes that the channel holds, besides those of the queue.
    var bytesInChannel: Int {
        guard let options = self.channel?.syncOptions else { return 0 }
        return (try? options.getOption(.bufferedWritableBytes)) ?? 0
    }

    // MARK: Receiving

    func setReading(_ isReading: Bool) {
        self.isReading = isReading
        try? self.channel?.syncOptions?.setOption(.autoRead, value: isReading)
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        self.channel = context.channel
        self.address = context.remoteAddress?.description ?? "unknown"
        guard self.socket.adopt(self) else {
            self.close(.closedHere)
            return
        }
        let loop = context.eventLoop.assumeIsolated()
        self.handshakeTimer = loop.scheduleTask(in: self.socket.options.handshakeTimeout) { self.close(.handshakeTimedOut) }
        self.outgoing.append(encoded: Session.opening)
        self.flush()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard self.state == .handshaking || self.state == .open else { return }
        let bytes = Self.unwrapInboundIn(data)
        self.reads &+= 1
        if bytes.readableBytes * 4 <= bytes.capacity {
            // Copied, so that a small message does not keep a large buffer alive, and the channel can use it again.
            var copy = context.channel.allocator.buffer(capacity: bytes.readableBytes)
            copy.writeImmutableBuffer(bytes)
            self.session.receive(copy)
        } else {
            self.session.receive(bytes)
        }
        var violation: ProtocolViolation?
        do {
            // Messages are appended inside the session, because entering it costs as much as decoding one.
            while self.state != .closed, let event = try self.session.next(appendingMessagesTo: &self.received) {
                try self.handle(event)
            }
        } catch {
            violation = error
        }
        self.deliver()
        if let violation { self.close(.violation(violation)) }
    }

    private func deliver() {
        guard !self.received.isEmpty else { return }
        if self.state == .open { self.socket.receive(self.received, from: self) }
        if self.received.capacity > Self.keptCapacity {
            self.received = []
        } else {
            self.received.removeAll(keepingCapacity: true)
        }
    }

    private func handle(_ event: Session.Event) throws(ProtocolViolation) {
        switch event {
        case .message(let message):
            self.received.append(message)
        case .ready(let ready):
            self.finishHandshake(ready)
        case .tooLarge(let frames):
            // Earlier messages are delivered before this event.
            self.deliver()
            self.socket.emit(.messageTooLarge(self.peer, frames, limit: self.socket.limits.messageSize))
        case .reply(let bytes):
            // A peer that reads nothing gets no replies, so that the replies to its PINGs cannot pile up here.
            guard self.outgoing.isEmpty || self.channel?.isWritable == true else { return }
            self.outgoing.append(encoded: bytes)
            self.flush()
            self.watchTimeToLive()
        case .subscribe(let prefix):
            let isFirst = self.subscriptions.size == 0 && self.subscriptions.prefixes.isEmpty
            guard self.socket.type.takesSubscriptions, self.subscriptions.insert(prefix) else { return }
            if isFirst { self.socket.emit(.peerSubscribed(self.peer)) }
            guard self.subscriptions.size <= SubscriptionSet.maximumSize else {
                throw .tooManySubscriptions(limit: SubscriptionSet.maximumSize)
            }
            if let message = self.socket.subscriptionAdded(prefix) { self.received.append(message) }
        case .cancel(let prefix):
            guard self.socket.type.takesSubscriptions, self.subscriptions.remove(prefix) else { return }
            if let message = self.socket.subscriptionRemoved(prefix) { self.received.append(message) }
        }
    }

    private func finishHandshake(_ ready: Command.Ready) {
        self.handshakeTimer?.cancel()
        self.handshakeTimer = nil
        self.peerType = ready.socketType
        guard let identity = self.socket.identity(for: ready.identity) else {
            self.close(.identityInUse)
            return
        }
        self.identity = identity
        if self.socket.type == .router { self.session.envelope = identity }
        self.state = .open
        self.connector?.failures = 0
        if let interval = self.socket.options.heartbeatInterval, self.peerSpeaks31 {
            self.watch(every: interval, timeout: self.socket.options.heartbeatTimeout ?? interval * 3, pinging: true)
        }
        self.socket.connectionOpened(self)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { self.flush() }
    }

    // MARK: Heartbeats

    /// Closes the connection when nothing has been read for the timeout.
    private func watch(every interval: TimeAmount, timeout: TimeAmount, pinging: Bool) {
        guard let loop = self.context?.eventLoop.assumeIsolated() else { return }
        let index = self.watchdogs.count
        // Nothing can arrive while reading is stopped, so silence is counted only while reading.
        var seen = self.reads
        var silence = TimeAmount.zero
        func tick() {
            guard self.state == .open else { return }
            silence = self.reads == seen && self.isReading ? silence + interval : .zero
            seen = self.reads
            if silence >= timeout {
                self.close(.silent)
                return
            }
            if pinging, self.channel?.isWritable == true {
                self.enqueue(Command.ping(timeToLive: 0, context: ByteBuffer()))
                self.flush()
            }
            self.watchdogs[index] = loop.scheduleTask(in: interval) { tick() }
        }
        self.watchdogs.append(loop.scheduleTask(in: interval) { tick() })
    }

    /// Starts to watch the time to live that the peer's PING announced: the time without traffic after which the peer counts as
    /// gone.
    private func watchTimeToLive() {
        guard !self.hasTimeToLiveWatchdog, self.session.peerTimeToLive > 0 else { return }
        self.hasTimeToLiveWatchdog = true
        let timeToLive = TimeAmount.milliseconds(Int64(self.session.peerTimeToLive) * 100)
        self.watch(every: timeToLive, timeout: timeToLive, pinging: false)
    }

    // MARK: Ending

    /// Receives no more, writes the queue, then closes. A connection that is not open yet has an empty queue.
    func drain() {
        switch self.state {
        case .open:
            self.state = .draining
            self.flush()
        case .handshaking: self.close(.closedHere)
        case .draining, .closed: break
        }
    }

    /// Closes this side when all bytes have been handed to the channel, and gives the peer a moment to close its own: closing
    /// both with unread bytes in the receive buffer would discard bytes that the peer has not read yet.
    private func sayGoodbye() {
        guard let channel = self.channel, let loop = self.context?.eventLoop.assumeIsolated(), !self.hasSaidGoodbye else {
            return
        }
        self.hasSaidGoodbye = true
        channel.close(mode: .output).assumeIsolated().whenComplete { _ in
            self.watchdogs.append(loop.scheduleTask(in: Self.goodbyeTimeout) { self.close(.closedHere) })
        }
    }
    private var hasSaidGoodbye = false

    /// Closes at the loop's next turn: a send must not change the list of connections that it iterates over.
    private func closeSoon(_ reason: DisconnectReason) {
        guard !self.isClosingSoon, let loop = self.context?.eventLoop.assumeIsolated() else { return }
        self.isClosingSoon = true
        loop.execute { self.close(reason) }
    }
    private var isClosingSoon = false

    /// Closes at once; queued messages are lost.
    func close(_ reason: DisconnectReason) {
        self.end(reason)
        self.channel?.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A killed peer resets the connection, or closes it if nothing is in flight; both count as closed by the peer.
        self.close(SocketCore.isReset(error) ? .closedByPeer : .failed(String(describing: error)))
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.end(self.state == .draining ? .closedHere : .closedByPeer)
        self.context = nil
        self.channel = nil
    }

    private func end(_ reason: DisconnectReason) {
        guard self.state != .closed else { return }
        let wasOpen = self.state == .open || self.state == .draining
        self.state = .closed
        self.handshakeTimer?.cancel()
        for watchdog in self.watchdogs { watchdog.cancel() }
        self.socket.connectionEnded(self, wasOpen: wasOpen, reason)
    }
}
