import NIOCore
import NIOPosix

extension SocketCore {
    /// Connections waiting to be accepted; the operating system may allow fewer.
    private static let acceptBacklog: Int32 = 4096
    /// When the channel holds `high` bytes, the rest waits in the connection's queue until it holds `low`.
    private static let writeBufferWaterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 128 * 1024, high: 1024 * 1024)
    private static let readsPerTick: UInt = 8

    // MARK: Listening

    func bind(host: String, port: Int) -> EventLoopFuture<Int> {
        let closed = BindError(host: host, port: port, reason: .other("the socket is closed"))
        guard self.closing == nil else { return self.eventLoop.makeFailedFuture(closed) }
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        let address = host == "*" ? "0.0.0.0" : host
        return ServerBootstrap(group: self.eventLoop)
            .serverChannelOption(.backlog, value: Self.acceptBacklog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.maxMessagesPerRead, value: 64)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try bound.value.prepare(channel, connector: nil) }
            }
            .bind(host: address, port: port)
            .flatMapThrowing { channel in
                let core = bound.value
                guard core.closing == nil else {
                    channel.close(promise: nil)
                    throw closed
                }
                core.servers.append(channel)
                guard let port = channel.localAddress?.port else {
                    throw BindError(host: host, port: port, reason: .other("the address has no port"))
                }
                return port
            }
            .flatMapErrorThrowing { error in
                if error is BindError { throw error }
                let isInUse = (error as? IOError)?.errnoCode == EADDRINUSE
                throw BindError(host: host, port: port, reason: isInUse ? .addressInUse : .other(String(describing: error)))
            }
    }

    /// Sets up a new channel with its options and connection.
    private func prepare(_ channel: any Channel, connector: Connector?) throws {
        guard let options = channel.syncOptions else { throw ChannelError.operationUnsupported }
        try options.setOption(.tcpOption(.tcp_nodelay), value: 1)
        try options.setOption(.socketOption(.so_keepalive), value: 1)
        try options.setOption(.maxMessagesPerRead, value: Self.readsPerTick)
        try options.setOption(.writeBufferWaterMark, value: Self.writeBufferWaterMark)
        try options.setOption(
            .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 4 * 1024, initial: 16 * 1024, maximum: 1024 * 1024))
        let connection = Connection(peer: self.makePeerID(), connector: connector, socket: self)
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    // MARK: Connecting

    func connect(host: String, port: Int) {
        guard self.closing == nil else { return }
        let connector = Connector(host: host, port: port)
        self.connectors.append(connector)
        self.connectNow(connector)
    }

    func disconnect(host: String, port: Int) {
        for connector in self.connectors where connector.host == host && connector.port == port {
            connector.cancel()
            connector.connection?.drain()
        }
        self.connectors.removeAll { $0.isCancelled }
    }

    private func connectNow(_ connector: Connector) {
        connector.retry = nil
        let bound = NIOLoopBound((core: self, connector: connector), eventLoop: self.eventLoop)
        let bootstrap = ClientBootstrap(group: self.eventLoop)
            .connectTimeout(self.options.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try bound.value.core.prepare(channel, connector: bound.value.connector) }
            }
        let attempt: EventLoopFuture<any Channel>
        if let address = try? SocketAddress(ipAddress: connector.host, port: connector.port) {
            attempt = bootstrap.connect(to: address)
        } else {
            attempt = bootstrap.connect(host: connector.host, port: connector.port)
        }
        attempt.assumeIsolated().whenFailure { error in
            guard !connector.isCancelled else { return }
            self.connectLater(connector, failure: String(describing: error))
        }
    }

    /// Connects again after a wait, for ever.
    func connectLater(_ connector: Connector, failure: String? = nil) {
        guard !connector.isCancelled else { return }
        guard connector.connection == nil, connector.retry == nil else { return }
        connector.failures += 1
        var generator = SystemRandomNumberGenerator()
        let wait = self.options.reconnect.wait(afterFailure: connector.failures, using: &generator)
        connector.retry = self.eventLoop.assumeIsolated().scheduleTask(in: wait) { self.connectNow(connector) }
        if let failure, self.closing == nil {
            self.emit(
                .connectFailed(
                    host: connector.host, port: connector.port, attempt: connector.failures, reason: failure, retryIn: wait))
        }
    }

    /// Whether the error says that the peer is gone.
    static func isReset(_ error: any Error) -> Bool {
        guard let code = (error as? IOError)?.errnoCode else { return false }
        return code == ECONNRESET || code == EPIPE
    }

    // MARK: Closing

    /// The state of a socket that is being closed.
    struct Closing {
        /// Fulfilled when the last connection is gone.
        let done: EventLoopPromise<Void>
        /// Whether a DEALER still has messages sent before any peer was connected: connecting goes on until they are gone.
        var isDrainingBacklog: Bool
        var deadline: Scheduled<Void>?
    }

    func close(linger: TimeAmount?) -> EventLoopFuture<Void> {
        if let closing = self.closing { return closing.done.futureResult }
        let hasBacklog = self.queuedInBacklog.messages > 0 && linger != .zero && !self.connectors.isEmpty
        var closing = Closing(done: self.eventLoop.makePromise(), isDrainingBacklog: hasBacklog)
        let done = closing.done.futureResult
        if let linger {
            closing.deadline = self.eventLoop.assumeIsolated().scheduleTask(in: linger) { self.closeAtOnce() }
        }
        self.closing = closing
        for server in self.servers { server.close(promise: nil) }
        self.servers = []
        if linger == .zero {
            self.closeAtOnce()
        } else {
            if !hasBacklog { self.giveUpConnecting() }
            for connection in self.connections.values {
                // The kept messages wait for a connection that is about to open.
                if connection.isOpen || !hasBacklog || connection.connector == nil { connection.drain() }
            }
            self.finishClosingIfDone()
        }
        return done
    }

    private func giveUpConnecting() {
        for connector in self.connectors { connector.cancel() }
        self.connectors = []
    }

    private func closeAtOnce() {
        self.closing?.isDrainingBacklog = false
        self.giveUpConnecting()
        for connection in self.connections.values { connection.close(.closedHere) }
        self.finishClosingIfDone()
    }

    func finishClosingIfDone() {
        guard var closing = self.closing else { return }
        if closing.isDrainingBacklog, self.queuedInBacklog.messages == 0 {
            closing.isDrainingBacklog = false
            self.closing = closing
            self.giveUpConnecting()
        }
        guard !closing.isDrainingBacklog, self.connections.isEmpty else { return }
        closing.deadline?.cancel()
        self.delegate = nil
        self.face = nil
        closing.done.succeed(())
    }
}
