package import NIOCore

/// A ZMTP socket: any number of connections and listening ports that act as one.
///
/// A socket belongs to one event loop: its connections are served there, its delegate is called there, and all its
/// synchronous methods must be called there, except those that say otherwise. Nothing ever blocks.
///
/// The outcome when more is sent than a peer takes (``SocketOptions/sendHighWaterMark``):
///
/// | type | peer at its mark | no peer connected |
/// |---|---|---|
/// | ROUTER | the message is dropped | the message is dropped |
/// | DEALER | the next peer gets it; dropped if all are at their mark | kept, up to the mark, for the first peer to come |
/// | PUB, XPUB | that peer loses the message, the others do not | the message is dropped |
///
/// `send` returns the message's outcome. A message that was queued for a peer is lost if its connection ends first:
/// delivery is at most once. Messages to one peer arrive in the order sent.
///
/// A socket lives until ``close(linger:)``; until then it keeps its delegate alive.
package final class Socket: Sendable {
    package let type: SocketType
    package let eventLoop: any EventLoop
    private let box: NIOLoopBoundBox<SocketCore>

    /// Makes a socket without connections. May be called from anywhere.
    package init(
        _ type: SocketType, options: SocketOptions = SocketOptions(), on eventLoop: any EventLoop,
        delegate: (any SocketDelegate)? = nil
    ) {
        self.type = type
        self.eventLoop = eventLoop
        self.box = .makeBoxSendingValue(
            SocketCore(type: type, options: options, eventLoop: eventLoop, delegate: delegate), eventLoop: eventLoop)
    }

    /// Sets the delegate, where it could not be given to the initializer.
    package func setDelegate(_ delegate: any SocketDelegate) {
        self.box.value.delegate = delegate
    }

    // MARK: Connections

    /// Listens on an address. May be called from anywhere, any number of times.
    ///
    /// - Parameters:
    ///   - host: An address or host name of this machine; `*` means all IPv4 addresses.
    ///   - port: 0 lets the system choose.
    /// - Returns: The port.
    /// - Throws: ``BindError``.
    package func bind(host: String, port: Int) async throws -> Int {
        try await self.eventLoop.flatSubmit { self.startedCore.bind(host: host, port: port) }.get()
    }

    /// Keeps itself connected to an endpoint until closed, with growing waits between failed attempts. May be called
    /// from anywhere, any number of times.
    package func connect(host: String, port: Int) {
        self.onLoop { $0.connect(host: host, port: port) }
    }

    /// Gives up an endpoint, after writing the messages queued for it. May be called from anywhere.
    package func disconnect(host: String, port: Int) {
        self.onLoop { $0.disconnect(host: host, port: port) }
    }

    /// Closes one peer's connection at once. If this socket had connected to the peer, it connects again.
    package func disconnect(_ peer: PeerID) {
        self.box.value.connections[peer]?.close(.closedHere)
    }

    /// Receives no more, writes the queued messages, closes all connections. May be called from anywhere; from the moment
    /// it takes effect on the event loop the delegate is not called any more.
    ///
    /// - Parameter linger: How long to wait for peers to take the queued messages: `nil` is for ever, zero not at all.
    ///   A DEALER with messages sent before any peer was connected goes on connecting for that time.
    package func close(linger: TimeAmount?) async {
        // The promise never fails.
        try? await self.eventLoop.flatSubmit { self.box.value.close(linger: linger) }.get()
    }

    /// Closes with the linger time of the options.
    package func close() async {
        try? await self.eventLoop.flatSubmit { self.box.value.close(linger: self.box.value.options.linger) }.get()
    }

    // MARK: Messages

    /// Queues a message; it leaves with the next ``flush()``.
    ///
    /// - Parameters:
    ///   - frames: At least one frame. On a ROUTER the first is the identity of the peer it is for, which is not sent;
    ///     on a PUB or XPUB the first is compared with the subscriptions.
    ///   - skipping: How many frames at the front to ignore, so that a message can be passed on without its envelope and
    ///     without a copy.
    @discardableResult
    package func send(_ frames: Message, skipping: Int = 0) -> SendOutcome {
        self.box.value.send(frames, from: skipping)
    }

    /// Queues a message for one peer, whichever peer the socket's type would have chosen; not on a SUB. All frames are sent, on a
    /// ROUTER too.
    @discardableResult
    package func send(_ frames: Message, skipping: Int = 0, to peer: PeerID) -> SendOutcome {
        precondition(self.type != .sub, "a SUB socket cannot send")
        return self.box.value.send(frames, from: skipping, to: peer)
    }

    /// Writes queued messages, as far as the peers take them; the rest follows by itself.
    ///
    /// Call this once after a batch of sends. Unless ``SocketOptions/flushesAutomatically`` is off, the socket flushes by itself
    /// at the end of the event loop's tick.
    package func flush() {
        self.box.value.flush()
    }

    /// Stops or resumes reading, from all peers or from one, for a caller that is behind. Messages that were read already
    /// are still delivered, and the end of a connection that is not read goes unnoticed.
    package func setReading(_ isReading: Bool, from peer: PeerID? = nil) {
        let core = self.box.value
        if let peer {
            core.connections[peer]?.setReading(isReading)
        } else {
            core.isReading = isReading
            for connection in core.connections.values { connection.setReading(isReading) }
        }
    }

    /// Subscribes to messages whose first frame begins with a prefix; the empty prefix is for all. Subscriptions are counted: the
    /// same number of calls of ``unsubscribe(_:)`` ends them. May be called from anywhere.
    package func subscribe(_ prefix: ByteBuffer = ByteBuffer()) {
        self.onLoop { $0.subscribe(prefix) }
    }

    /// Ends one subscription. May be called from anywhere.
    package func unsubscribe(_ prefix: ByteBuffer = ByteBuffer()) {
        self.onLoop { $0.unsubscribe(prefix) }
    }

    // MARK: Statistics

    /// The numbers of messages that wait and that were lost.
    package struct Statistics: Sendable, Hashable {
        /// Messages not yet handed to the operating system's or the channel's buffers.
        package var queuedMessages = 0
        /// The bytes of these messages.
        package var queuedBytes = 0
        /// Bytes that the channel holds and the operating system has not taken yet.
        package var bufferedBytes = 0
        /// Messages dropped since the beginning, whatever the reason.
        package var dropped = 0
    }

    /// Peers whose handshake is over.
    package var peers: [PeerID] { self.box.value.peers }

    /// The peer that bears an identity on a ROUTER.
    package func peer(withIdentity identity: ByteBuffer) -> PeerID? {
        self.box.value.peer(withIdentity: identity)
    }

    /// The remote address of a peer, for people to read.
    package func address(of peer: PeerID) -> String? {
        self.box.value.connections[peer]?.address
    }

    /// The numbers for one peer; `nil` if it is gone.
    package func statistics(for peer: PeerID) -> Statistics? {
        guard let connection = self.box.value.connections[peer] else { return nil }
        return Statistics(
            queuedMessages: connection.outgoing.messages, queuedBytes: connection.outgoing.bytes,
            bufferedBytes: connection.bytesInChannel, dropped: connection.dropped)
    }

    /// The numbers for all peers together, and for messages that a DEALER keeps until it has a peer.
    package var statistics: Statistics {
        let core = self.box.value
        let backlog = core.queuedInBacklog
        var sum = Statistics(queuedMessages: backlog.messages, queuedBytes: backlog.bytes, dropped: core.dropped)
        for connection in core.connections.values {
            sum.queuedMessages += connection.outgoing.messages
            sum.queuedBytes += connection.outgoing.bytes
            sum.bufferedBytes += connection.bytesInChannel
        }
        return sum
    }

    // MARK: The way in

    /// The core with its reference to this socket, which it needs from its first connection on.
    private var startedCore: SocketCore {
        let core = self.box.value
        if core.closing == nil { core.face = self }
        return core
    }

    private func onLoop(_ body: @escaping @Sendable (SocketCore) -> Void) {
        if self.eventLoop.inEventLoop {
            body(self.startedCore)
        } else {
            self.eventLoop.execute { body(self.startedCore) }
        }
    }
}
