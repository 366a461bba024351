import ApusCore
public import ApusFunctions
public import ApusWire
import NIOCore
import Pickle

/// Any engine: the controller's scheduler chooses one for each task.
///
/// The flags hold for every task sent through the view; change a copy of the view for a scope or a single call:
///
/// ```swift
/// var careful = client.loadBalancedView()
/// careful.retries = 3
/// let result = try careful.applyAsync($simulate, seed)
/// ```
public struct LoadBalancedView: Sendable {
    /// The client through which the view sends.
    public let client: Client
    /// The engines to choose among; nil: any.
    public var targets: Targets?
    /// The tasks that must have ended, as the dependency says, before a task of this view runs.
    public var after: TaskDependency?
    /// The tasks that must have run on an engine, as the dependency says, before the engine may run a task of this view.
    public var follow: TaskDependency?
    /// How long a task may wait for its dependencies; nil: as long as it takes. At the limit the task fails with code
    /// `taskTimeout`.
    public var timeout: Duration?
    /// How long a task may wait while no engine is registered.
    ///
    /// At the limit the task fails with code `noEnginesRegistered`. Nil: as long as the controller says, which is for ever unless
    /// it was told otherwise; zero: for ever. A new view takes the client's limit (``Client/engineTimeout``).
    public var engineTimeout: Duration?
    /// How long this client may be gone, killed or cut off, before its tasks of this view that still wait for an engine are aborted.
    ///
    /// Nil: for ever; tasks run without their client, and the hub keeps their results. Tasks that an engine has run on in any case. A
    /// client that is cut off and comes back within the time is as if it had never been gone.
    public var abandonedAfter: Duration?
    /// How many times a task is tried again when it fails or its engine dies.
    public var retries = 0
    /// When a task is tried again, and after which errors; nil: at once and after any error.
    public var retryRule: RetryRule?
    /// The priority of tasks in the scheduler's queue: higher ones leave first, equal ones first in, first out.
    public var priority = 0
    /// The resources that an engine must own to run a task, with the least amount of each.
    ///
    /// An engine that starts with `apus engine --resources gpu=1` can run tasks that need `["gpu": 1]`. An engine runs one task
    /// at a time, so the task has all of the engine's resources. While no engine owns enough, the task waits.
    public var resources: [String: Double] = [:]
    /// How long a function may run; nil: as long as it takes.
    ///
    /// At the limit an asynchronous Swift function is cancelled. A Python function is interrupted, and its kernel replaced if the
    /// function does not end. The result throws ``RemoteError`` named `RunLimitExceeded` of a Swift function, `KeyboardInterrupt`
    /// of Python. A synchronous Swift function cannot be stopped: it runs to its end, and then the result throws the same error.
    /// Engines of ipyparallel keep no limits: a task that would run on such an engine is refused with code `notSupported`; where
    /// only the engine's own answer tells its kind, the result throws that code.
    public var runLimit: Duration?
    /// A name for the work sent through this view, kept in the records of the tasks.
    public var label: String?
    /// What cancelling a Swift task that waits for a result does to the work.
    ///
    /// Nil: tasks that have not started are aborted where nobody else can wait for the result, as in `apply` and `map`, and for
    /// the results of `mapAsync`; a result of `applyAsync` leaves its work running.
    public var whenCancelled: CancellationPolicy?

    init(_ client: Client, targets: Targets? = nil) {
        self.client = client
        self.targets = targets
        self.engineTimeout = client.engineTimeout
    }

    /// A copy of the view with other flags, for a scope or a single call:
    /// `view.with { $0.retries = 3 }.apply($simulate, seed)`.
    public func with(_ change: (inout LoadBalancedView) -> Void) -> LoadBalancedView {
        var view = self
        change(&view)
        return view
    }

    // MARK: Calling

    /// Calls the function on an engine of the scheduler's choice.
    public func apply<Output, each Input>(_ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input)
        async throws
        -> Output
    {
        try await self.applyAsync(function, repeat each arguments).awaited(self.whenCancelled).value
    }

    /// Calls the function on an engine of the scheduler's choice, without waiting.
    public func applyAsync<Output, each Input>(
        _ function: RemoteFunction<Output, repeat each Input>, _ arguments: repeat each Input
    ) throws
        -> AsyncResult<Output>
    {
        let call = try Call(function)
        let arguments = try encode(repeat each arguments, for: function)
        return try self.apply(call, arguments) { try decodeResult(from: $0, function.decodeResult) }
    }

    /// Calls a Python function on an engine of the scheduler's choice.
    public func apply<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) async throws -> Output {
        try await self.apply(Call(function), encode(list: arguments)) { try decodeResult(type, from: $0) }
            .awaited(self.whenCancelled).value
    }

    /// Calls a Python function on an engine of the scheduler's choice, without waiting.
    public func applyAsync<Output: Decodable & Sendable>(
        _ function: PythonFunction, _ arguments: any Encodable & Sendable..., returning type: Output.Type = Output.self
    ) throws -> AsyncResult<Output> {
        try self.apply(Call(function), encode(list: arguments)) { try decodeResult(type, from: $0) }
    }

    private func apply<Output>(
        _ call: Call, _ arguments: [PickleValue], decode: @escaping @Sendable (Message) throws -> Output
    ) throws -> AsyncResult<Output> {
        self.result(of: self.send(call.buffers(arguments), try self.terms(call, .once)), decode)
    }

    func result<Output>(of task: PendingTask, _ decode: @escaping @Sendable (Message) throws -> Output) -> AsyncResult<Output> {
        AsyncResult([task], client: self.client, isSingle: true, whenCancelled: self.whenCancelled) { try decode($0[0]) }
    }

    // MARK: Mapping

    /// Calls the function on every element and gives the results in the order of the input.
    ///
    /// Each call has an outcome of its own, also where several calls share a task: a call that throws does not lose the others'
    /// results.
    ///
    /// - Parameter chunkSize: How many calls a task makes. Nil: as many as fill some milliseconds, measured while the map runs,
    ///   with a bounded number of tasks under way, and fewer towards the end, so that all engines finish together. With nil, a
    ///   task makes a single call in a view with ``retries``, so that a call that fails is tried again alone; in a view with a
    ///   ``runLimit``, which then holds for each call; and for a function that is known by a plain name. With a chunk size,
    ///   retries and limit hold for a chunk as a whole.
    /// - Throws: ``CompositeError`` with the error of each call that failed, once all have ended; the error itself where there is
    ///   one element. Cancelling the waiting task throws `CancellationError` and aborts tasks that have not started; see
    ///   ``whenCancelled``.
    public func map<Input, Output>(
        _ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input>, chunkSize: Int? = nil
    ) async throws -> [Output] {
        try await self.mapAsync(function, elements, chunkSize: chunkSize).value
    }

    /// Calls the function on every element, without waiting; the results can be iterated as they come.
    public func mapAsync<Input, Output>(
        _ function: RemoteFunction<Output, Input>, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true
    ) throws -> AsyncMapResult<Output> {
        try self.map(
            Call(function), [encode(elements: elements)], chunkSize: chunkSize, ordered: ordered, decode: function.decodeResult)
    }

    /// Calls the function on the elements of two sequences or more, side by side, up to the end of the shortest.
    public func map<First: Sequence, Second: Sequence, each Other: Sequence, Output>(
        _ function: RemoteFunction<Output, First.Element, Second.Element, repeat (each Other).Element>, _ first: First,
        _ second: Second, _ others: repeat each Other, chunkSize: Int? = nil
    ) async throws -> [Output] {
        try await self.mapAsync(function, first, second, repeat each others, chunkSize: chunkSize).value
    }

    /// Calls the function on the elements of two sequences or more, without waiting; the results can be iterated as they come.
    public func mapAsync<First: Sequence, Second: Sequence, each Other: Sequence, Output>(
        _ function: RemoteFunction<Output, First.Element, Second.Element, repeat (each Other).Element>, _ first: First,
        _ second: Second, _ others: repeat each Other, chunkSize: Int? = nil, ordered: Bool = true
    ) throws -> AsyncMapResult<Output> {
        try self.map(
            Call(function), ElementReader.readers(first, second, repeat each others).columns(), chunkSize: chunkSize,
            ordered: ordered, decode: function.decodeResult)
    }

    /// Calls a Python function on every element.
    public func map<Input: Encodable & Sendable, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input>, chunkSize: Int? = nil,
        returning type: Output.Type = Output.self
    ) async throws -> [Output] {
        try await self.mapAsync(function, elements, chunkSize: chunkSize, returning: type).value
    }

    /// Calls a Python function on every element, without waiting; the results can be iterated as they come.
    public func mapAsync<Input: Encodable & Sendable, Output: Decodable & Sendable>(
        _ function: PythonFunction, _ elements: some Sequence<Input>, chunkSize: Int? = nil, ordered: Bool = true,
        returning type: Output.Type = Output.self
    ) throws -> AsyncMapResult<Output> {
        try self.map(Call(function), [encode(elements: elements)], chunkSize: chunkSize, ordered: ordered) {
            try PickleDecoder().decode(type, from: $0)
        }
    }

    func map<Output>(
        _ call: Call, _ sequences: [[PickleValue]], chunkSize: Int?, ordered: Bool,
        decode: @escaping @Sendable (PickleValue) throws -> Output
    ) throws -> AsyncMapResult<Output> {
        let run: MapRun
        if let chunkSize {
            guard chunkSize > 0 else { throw ApusError(.badArgument, "the chunk size is \(chunkSize); it must be at least 1") }
            let count = sequences.map { $0.count }.min() ?? 0
            let terms = try self.terms(call, .map)
            let tasks = count / chunkSize + (count % chunkSize == 0 ? 0 : 1)
            let chunks = Partition.blocks(of: count, over: tasks).map { range in
                MapRun.Chunk(
                    elements: range,
                    task: self.send(
                        call.mapBuffers(sequences.map { .list(Array($0[range])) }, self.manner(ofTasksWith: chunkSize)), terms))
            }
            run = MapRun(self.client, chunks)
        } else {
            run = MapRun(self.client, sequences, try self.sender(of: call))
        }
        return AsyncMapResult(run, isOrdered: ordered, whenCancelled: self.whenCancelled, decode: decode)
    }

    /// Makes the sender of a map without a chunk size. Its tasks make as many calls as measurements suggest, or one call each
    /// where retries or a limit must hold for each call, or where a call that fails would lose the others of its task.
    private func sender(of call: Call) throws -> MapRun.Sender {
        let isMeasured = call.keepsOutcomes && self.retries == 0 && self.runLimit == nil
        let single = try self.terms(call, .map)
        let several = isMeasured ? try self.terms(call, .slice) : single
        let view = self
        return MapRun.Sender(sizing: isMeasured ? .measured : .single, engines: { view.engineCount }) { range, columns in
            let isOne = range.count == 1
            return view.send(
                call.mapBuffers(columns.map { .list(Array($0[range])) }, isOne ? .once : .slice), isOne ? single : several)
        }
    }

    /// How a Python engine makes a task's calls: each with an outcome of its own, unless a failed call must fail its task to be
    /// tried again.
    func manner(ofTasksWith calls: Int) -> Call.Manner { calls == 1 || self.retries > 0 ? .once : .map }

    /// How many engines may get the view's tasks now.
    private var engineCount: Int {
        let registered = self.client.connection.engines
        guard case .engines(let ids)? = self.targets else { return registered.count }
        return ids.count { registered[$0] != nil }
    }

    // MARK: On the wire

    /// The parts of a request that follow from the view's flags; the same for all tasks of a map.
    struct Terms: Sendable {
        let metadata: ByteBuffer
        /// See ``PendingTask/limitedOn``.
        let limitedOn: [EngineUUID]?
    }

    func send(_ buffers: [ByteBuffer], _ terms: Terms) -> PendingTask {
        self.client.connection.submit(
            .applyRequest, on: .task, metadata: terms.metadata, buffers: buffers, limitedOn: terms.limitedOn)
    }

    func terms(_ call: Call, _ manner: Call.Manner, results: [(place: Int, task: TaskID)] = []) throws -> Terms {
        let limitedOn = try self.runLimit.map { _ in
            let engines = try self.targets.map(self.client.connection.resolve)
            return try self.client.connection.requireLimits(
                amongAnyOf: engines ?? self.client.connection.engines.map { (id: $0.key, uuid: $0.value) })
        }
        return Terms(metadata: try self.metadata(call, manner, results: results), limitedOn: limitedOn)
    }

    /// The request's metadata, in which Python's schedulers expect every key.
    private func metadata(_ call: Call, _ manner: Call.Manner, results: [(place: Int, task: TaskID)]) throws -> ByteBuffer {
        if let ended = self.client.connection.ended { throw ended }
        guard self.client.connection.info.taskScheme != "none" else {
            throw ApusError(
                .notSupported, "this controller runs no task scheduler (its scheme is 'none'); address engines directly")
        }
        var terms = RequestMetadata.ForScheduler()
        terms.after = self.after
        terms.follow = self.follow
        terms.timeout = self.timeout
        terms.targets = try self.targets.map { try self.client.connection.resolve($0).map { $0.uuid } } ?? []
        terms.retries = self.retries
        if !self.resources.isEmpty { try self.client.connection.require(.resources) }
        terms.resources = self.resources
        if self.engineTimeout != nil { try self.client.connection.require(.engineTimeout) }
        terms.engineTimeout = self.engineTimeout
        if self.abandonedAfter != nil { try self.client.connection.require(.abandonedAfter) }
        terms.abandonedAfter = self.abandonedAfter
        if self.retryRule != nil { try self.client.connection.require(.retryRule) }
        terms.retryRule = self.retryRule
        terms.depth = EngineContext.current.map { $0.depth + 1 }
        if self.priority != 0 { try self.client.connection.require(.priority) }
        terms.priority = self.priority
        if !results.isEmpty {
            try self.client.connection.require(.results)
            guard self.client.connection.info.taskScheme != "pure" else {
                throw ApusError(
                    .notSupported,
                    "this controller's scheme is 'pure', in which tasks wait for nothing, nor for each other's results")
            }
            terms.results = ResultPlaces(results)
        }
        var metadata = ByteBuffer()
        terms.begin(&metadata)
        call.metadata(manner, limit: self.runLimit).write(label: self.label, into: &metadata)
        metadata.writeStaticString("}")
        return metadata
    }
}
