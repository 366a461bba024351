package import ApusTransport
public import ApusWire
package import Logging
package import NIOCore

/// A connection to a controller, through which calls reach its engines.
///
/// ```swift
/// let client = try await Client.connect()
/// let squares = try await client.loadBalancedView().map($square, 0..<1000)
/// await client.close()
/// ```
///
/// A client may be used from any number of tasks at once.
public final class Client: Sendable {
    let connection: ClientConnection

    /// Connects to a controller whose addresses are known.
    ///
    /// - Parameters:
    ///   - eventLoop: The event loop of the client's sockets; the caller keeps its group running until the client is closed.
    ///   - timeout: How long to wait for the hub's answer.
    ///   - patience: How long the controller may be out of reach before waiting calls fail.
    ///   - maximumMessageSize: Bytes of the largest message that the client takes; nil: as the environment says, or half of the
    ///     memory.
    ///   - outputPatience: How long the client waits for output after the reply that the output belongs to.
    package init(
        _ info: ClientConnectionInfo, transport: any Transport, eventLoop: any EventLoop, timeout: Duration = .seconds(10),
        patience: Duration = .seconds(60), outputPatience: Duration = .seconds(5), username: String? = nil,
        maximumMessageSize: Int? = nil, logger: Logger = Logger(label: "apus.client")
    ) async throws {
        self.connection = try await ClientConnection(
            info, transport: transport, eventLoop: eventLoop, timeout: timeout, patience: patience,
            outputPatience: outputPatience, username: username, maximumMessageSize: maximumMessageSize, logger: logger)
    }

    // MARK: Engines

    /// The ids of the registered engines, in order.
    public var ids: [EngineID] { self.connection.engines.keys.sorted() }

    /// Waits until at least this many engines are registered; ``ids`` has them then.
    ///
    /// - Throws: ``ApusError`` with code `timeout` and the number of engines that are registered, or with code
    ///   `noEnginesRegistered` and the reason when the controller knows that no engine is coming.
    public func waitForEngines(_ count: Int = 1, timeout: Duration? = nil) async throws {
        let enough: Void? = try await withDeadline(timeout) {
            while true {
                // Watched before the engines are counted, so that an engine that comes between the two is not missed.
                let change = self.connection.nextEngineChange()
                if let ended = self.connection.ended { throw ended }
                if self.connection.engines.count >= count { return }
                // A notification can be missed while a subscription is on its way; asking costs little.
                try await self.connection.refreshEngines()
                let here = self.connection.engines.count
                if here >= count { return }
                if let reason = self.connection.noEngineIsComing {
                    throw ApusError(
                        .noEnginesRegistered, "\(here) of \(count) engines are registered, and none is coming: \(reason)")
                }
                try await change.wait(atMost: .milliseconds(500))
            }
        }
        if enough == nil {
            throw ApusError(
                .timeout, "\(self.ids.count) of \(count) engines registered within \(timeout.map { "\($0)" } ?? "the time")")
        }
    }

    /// How long tasks of load-balanced views that are made from now on may wait while no engine is registered.
    ///
    /// Nil: as long as the controller says, which is for ever unless it was told otherwise. See
    /// ``LoadBalancedView/engineTimeout``.
    public var engineTimeout: Duration? {
        get { self.connection.engineTimeout }
        set { self.connection.engineTimeout = newValue }
    }

    // MARK: Views

    /// A view of one engine: calls give one value.
    public subscript(_ id: Int) -> EngineView { EngineView(self, EngineID(id)) }
    @_disfavoredOverload
    public subscript(_ id: EngineID) -> EngineView { EngineView(self, id) }

    /// A view of every engine that is registered now: calls give a list.
    public subscript(_ range: UnboundedRange) -> DirectView { DirectView(self, .engines(self.ids)) }

    /// A view of the engines with these ids that are registered now, in order.
    public subscript(_ range: some RangeExpression<Int>) -> DirectView {
        DirectView(self, .engines(self.ids.filter { range.contains($0.number) }))
    }

    /// A view of the engines with these ids, in the order given.
    @_disfavoredOverload
    public subscript(_ ids: some Sequence<Int>) -> DirectView { DirectView(self, .engines(ids.map { EngineID($0) })) }

    /// A view of the targets, addressed directly; by default of all engines, engines that register later included.
    public func directView(_ targets: Targets = .all) -> DirectView { DirectView(self, targets) }

    /// A view of the targets, reached by one message that the controller copies; by default of all engines, engines that register
    /// later included.
    ///
    /// - Parameter isCoalescing: Whether the controller gathers all replies into one; see ``BroadcastView/isCoalescing``.
    public func broadcastView(_ targets: Targets = .all, isCoalescing: Bool = false) -> BroadcastView {
        BroadcastView(self, targets, isCoalescing: isCoalescing)
    }

    /// A view of any engine, or of any of the targets: the controller's scheduler chooses one for each task.
    public func loadBalancedView(_ targets: Targets? = nil) -> LoadBalancedView { LoadBalancedView(self, targets: targets) }

    // MARK: Waiting

    /// Waits until every request sent so far has been answered, and every map begun so far has ended. False when the time is over
    /// first.
    @discardableResult
    public func wait(timeout: Duration? = nil) async throws -> Bool {
        let (maps, tasks) = (self.connection.maps, self.connection.pendingTasks)
        return try await withDeadline(timeout) {
            for map in maps { try await map.wait() }
            for task in tasks { try await task.wait() }
            return true
        } ?? false
    }

    /// Waits until every request and map begun so far has ended, with a progress line on standard error. False when the time is
    /// over first.
    @discardableResult
    public func waitInteractive(interval: Duration = .milliseconds(200), timeout: Duration? = nil) async throws -> Bool {
        let (maps, tasks) = (self.connection.maps, self.connection.pendingTasks)
        // The tasks of a map are counted as its calls.
        let ofMaps = Set(maps.flatMap { $0.tasks.map { $0.id } })
        let others = tasks.filter { !ofMaps.contains($0.id) }
        return try await ProgressLine.wait(
            total: others.count + maps.reduce(0) { $0 + $1.count }, interval: interval, timeout: timeout,
            done: { others.count { $0.isDone } + maps.reduce(0) { $0 + $1.endedCalls } },
            lacksEngines: { self.connection.lacksEngines(for: tasks, isMap: false) }
        ) {
            for map in maps { try await map.wait() }
            for task in others { try await task.wait() }
        }
    }

    /// The ids of requests that were sent and are not yet answered.
    public var outstanding: Set<TaskID> { Set(self.connection.pendingTasks.lazy.filter { !$0.isDone }.map { $0.id }) }

    // MARK: Ending

    /// Closes the client's sockets. Calls that still wait for a result throw an error with code `closed`.
    ///
    /// - Parameter linger: How long to wait until the messages sent have left; messages that have not left by then are dropped.
    public func close(linger: Duration = .milliseconds(500)) async { await self.connection.close(linger: linger) }
}
