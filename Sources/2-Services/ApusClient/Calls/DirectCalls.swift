import ApusCore
import ApusFunctions
import ApusWire
import NIOCore
import Pickle

/// Sends the requests of views that name their engines: one for each target, or one broadcast.
struct DirectCalls: Sendable {
    let client: Client
    let targets: Targets
    var label: String?
    var limit: Duration?
    var route = Route.direct

    /// How a request that is the same for all targets is sent.
    enum Route: Sendable {
        /// As one message for each target.
        case direct
        /// As one message that the controller copies.
        case broadcast
    }

    typealias Engine = (id: EngineID, uuid: EngineUUID)

    private var connection: ClientConnection { self.client.connection }

    func engines() throws -> [Engine] { try self.connection.resolve(self.targets) }

    func apply(_ call: Call, _ arguments: [PickleValue]) throws -> [PendingTask] {
        try self.sendToAll(call, buffers: call.buffers(arguments))
    }

    /// Splits each sequence over the engines and calls the function on the parts. Engines without a part get no task.
    func map(_ call: Call, _ sequences: [[PickleValue]]) throws -> MapRun {
        let engines = try self.engines()
        let count = sequences.map { $0.count }.min() ?? 0
        let parts = zip(engines, Partition.blocks(of: count, over: engines.count)).filter { !$1.isEmpty }
        let chunks = try parts.map { engine, range in
            let buffers = call.mapBuffers(sequences.map { .list(Array($0[range])) }, .map)
            return MapRun.Chunk(
                elements: range, task: try self.send(call, self.outgoing(buffers, to: [engine]), .map, to: [engine])[0])
        }
        return MapRun(self.client, chunks)
    }

    func execute(_ code: String, silent: Bool) throws -> [PendingTask] {
        let content = JSONValue.object(["code": .string(code), "silent": .bool(silent), "user_expressions": [:]]).packed
        let engines = try self.engines()
        switch self.route {
        case .direct:
            let limitedOn = try self.limited(on: engines)
            let metadata = self.metadata(nil, .once, isQuiet: false)
            return engines.map { engine in
                self.connection.submit(
                    .executeRequest, on: .mux, to: engine.uuid, metadata: metadata, content: content, waitsForOutput: true,
                    limitedOn: limitedOn.map { _ in [engine.uuid] })
            }
        case .broadcast:
            return try self.broadcast(.executeRequest, nil, to: engines, content: content, waitsForOutput: true)
        }
    }

    /// Sets the same names on every target; the values are encoded once for all targets.
    func push(_ values: [(String, PickleValue)]) throws -> [PendingTask] {
        try self.sendToAll(nil, buffers: Self.pushBuffers(values))
    }

    /// Sets the same names on every target, for a caller who waits: a large value that is not in shared memory goes to the
    /// controller once and not once for each target.
    ///
    /// A broadcast takes another connection, on which it may overtake requests sent to an engine directly, so it is used only
    /// while no target owes an answer.
    func pushAndWait(_ values: [(String, PickleValue)]) throws -> [PendingTask] {
        let engines = try self.engines()
        let buffers = self.outgoing(Self.pushBuffers(values), to: engines)
        var calls = self
        if engines.count > 1, self.connection.info.broadcast != nil,
            buffers.frames.reduce(0, { $0 + $1.readableBytes }) >= Self.largePush,
            !self.connection.isAwaiting(anyOf: engines.map { $0.uuid })
        {
            calls.route = .broadcast
        }
        return try calls.send(nil, buffers, to: engines)
    }

    /// The bytes from which sending a second copy of a value costs more than a broadcast.
    private static let largePush = 1 << 20

    /// Sets a name to each target's own part.
    func scatter(_ name: String, _ parts: [PickleValue]) throws -> [PendingTask] {
        try zip(self.engines(), parts).map { engine, part in
            try self.send(nil, self.outgoing(Self.pushBuffers([(name, part)]), to: [engine]), .once, to: [engine])[0]
        }
    }

    private static func pushBuffers(_ values: [(String, PickleValue)]) -> [ByteBuffer] {
        ApplyPayload(function: PythonCall.pushFunction, arguments: [], keywords: values).encode()
    }

    func pull(_ names: PickleValue) throws -> [PendingTask] {
        let buffers = ApplyPayload(function: PythonCall.pullFunction, arguments: [names], keywords: []).encode()
        return try self.sendToAll(nil, buffers: buffers)
    }

    /// Broadcasts a call whose replies the controller gathers into one.
    func applyCoalescing(_ call: Call, _ arguments: [PickleValue]) throws -> PendingTask {
        let engines = try self.engines()
        let buffers = self.outgoing(call.buffers(arguments), to: engines)
        let task = try self.broadcast(.applyRequest, call, to: engines, isCoalescing: true, buffers: buffers)[0]
        self.keep(buffers, until: [task])
        return task
    }

    private func sendToAll(_ call: Call?, buffers: [ByteBuffer]) throws -> [PendingTask] {
        let engines = try self.engines()
        return try self.send(call, self.outgoing(buffers, to: engines), to: engines)
    }

    private func send(_ call: Call?, _ buffers: SharedBuffers, to engines: [Engine]) throws -> [PendingTask] {
        switch self.route {
        case .direct: return try self.send(call, buffers, .once, to: engines)
        case .broadcast:
            let tasks = try self.broadcast(.applyRequest, call, to: engines, buffers: buffers)
            self.keep(buffers, until: tasks)
            return tasks
        }
    }

    private func send(_ call: Call?, _ buffers: SharedBuffers, _ manner: Call.Manner, to engines: [Engine]) throws
        -> [PendingTask]
    {
        let limitedOn = call == nil ? nil : try self.limited(on: engines)
        let metadata = self.metadata(call, manner, buffers: buffers)
        let tasks = engines.map { engine in
            self.connection.submit(
                .applyRequest, on: .mux, to: engine.uuid, metadata: metadata, buffers: buffers.frames,
                limitedOn: limitedOn.map { _ in [engine.uuid] })
        }
        self.keep(buffers, until: tasks)
        return tasks
    }

    /// The engines that must keep the run limit; nil where there is none.
    private func limited(on engines: [Engine]) throws -> [EngineUUID]? {
        guard self.limit != nil else { return nil }
        try self.connection.requireLimits(of: engines)
        return engines.map { $0.uuid }
    }

    /// Puts large buffers into shared memory where all these engines can map this process's memory; otherwise they go by the
    /// network.
    private func outgoing(_ buffers: [ByteBuffer], to engines: [Engine]) -> SharedBuffers {
        guard buffers.contains(where: { $0.readableBytes >= SharedBuffers.smallest }),
            self.connection.sharesMemory(with: engines.map { $0.uuid })
        else { return SharedBuffers(sending: buffers) }
        return SharedBuffers(sharing: buffers)
    }

    private func keep(_ buffers: SharedBuffers, until tasks: [PendingTask]) {
        guard !buffers.memory.isEmpty else { return }
        for task in tasks { task.whenDone { withExtendedLifetime(buffers) {} } }
    }

    private func broadcast(
        _ type: MessageType, _ call: Call?, to engines: [Engine], isCoalescing: Bool = false,
        content: ByteBuffer = MessageParts.emptyObject, buffers: SharedBuffers = SharedBuffers(sending: []),
        waitsForOutput: Bool = false
    ) throws -> [PendingTask] {
        guard self.connection.info.broadcast != nil else {
            throw ApusError(.notSupported, "this controller has no broadcast scheduler; use a direct view")
        }
        // A request that only moves values runs no user code, so it needs no limit.
        let limitedOn = call == nil && !waitsForOutput ? nil : try self.limited(on: engines)
        var metadata = ByteBuffer()
        RequestMetadata.ForBroadcast(to: engines.map { ($0.uuid, $0.id) }, isCoalescing: isCoalescing).begin(&metadata)
        self.writeMembers(call, .once, isQuiet: !waitsForOutput, into: &metadata)
        buffers.writeMember(into: &metadata)
        metadata.writeStaticString("}")
        return self.connection.broadcast(
            type, to: engines.map { $0.uuid }, isCoalescing: isCoalescing, metadata: metadata, content: content,
            buffers: buffers.frames, waitsForOutput: waitsForOutput, limitedOn: limitedOn)
    }

    private func metadata(
        _ call: Call?, _ manner: Call.Manner, isQuiet: Bool = true, buffers: SharedBuffers = SharedBuffers(sending: [])
    ) -> ByteBuffer {
        var metadata = ByteBuffer()
        RequestMetadata.ForBroadcast.beginNone(&metadata)
        self.writeMembers(call, manner, isQuiet: isQuiet, into: &metadata)
        buffers.writeMember(into: &metadata)
        metadata.writeStaticString("}")
        return metadata
    }

    private func writeMembers(_ call: Call?, _ manner: Call.Manner, isQuiet: Bool, into metadata: inout ByteBuffer) {
        var members = call?.metadata(manner, limit: self.limit) ?? RequestMetadata.ForEngine()
        if call == nil {
            members.isQuiet = isQuiet
            // A request that only moves values runs no user code, so it needs no limit.
            if !isQuiet { members.limit = self.limit.map { $0 / .seconds(1) } }
        }
        members.write(label: self.label, into: &metadata)
    }
}

/// How sequences are spread over engines.
public enum Partition: Sendable {
    /// Each engine gets neighbouring elements (ipyparallel's `b`).
    case block
    /// The elements are dealt out one by one (ipyparallel's `r`).
    case roundRobin

    /// Splits a sequence into one part per engine; the first parts have an element more where the count does not divide evenly.
    func split<Element>(_ elements: [Element], over parts: Int) -> [[Element]] {
        switch self {
        case .block: Self.blocks(of: elements.count, over: parts).map { Array(elements[$0]) }
        case .roundRobin: (0..<parts).map { part in stride(from: part, to: elements.count, by: parts).map { elements[$0] } }
        }
    }

    /// Puts the parts together again, in the order that the sequence had.
    func join<Element>(_ parts: [[Element]]) -> [Element] {
        switch self {
        case .block: parts.flatMap { $0 }
        case .roundRobin:
            (0..<(parts.map { $0.count }.max() ?? 0)).flatMap { row in parts.compactMap { row < $0.count ? $0[row] : nil } }
        }
    }

    static func blocks(of count: Int, over parts: Int) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        var start = 0
        for part in 0..<parts {
            let size = count / parts + (part < count % parts ? 1 : 0)
            ranges.append(start..<start + size)
            start += size
        }
        return ranges
    }
}
