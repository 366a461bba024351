import ApusCore
import ApusTransport
import ApusWire
import NIOCore
import Locks

// Requests, from the caller to the sockets.
extension ClientConnection {
    /// Nanoseconds between batches.
    private static let drainInterval: UInt64 = 100_000

    /// Sends a request and gives the task that its reply completes.
    func submit(
        _ type: MessageType, on channel: Channel, to target: EngineUUID? = nil, metadata: ByteBuffer = MessageParts.emptyObject,
        content: ByteBuffer = MessageParts.emptyObject, buffers: [ByteBuffer] = [], waitsForOutput: Bool = false,
        limitedOn: [EngineUUID]? = nil
    ) -> PendingTask {
        let number = self.nextNumber.wrappingAdd(1, ordering: .relaxed).oldValue
        let now = WireDate.now
        let id = self.session.messageID(number: number)
        let message = self.session.message(
            type, id: id, identities: target.map { [ByteBuffer(string: $0.text)] } ?? [], metadata: metadata, content: content,
            buffers: buffers, date: now)
        // Of what is no work the reply is all that comes.
        let output: ClientSession.OutputPolicy = !channel.takesTasks ? .ignored : waitsForOutput ? .awaited : .counted
        let task = PendingTask(
            id: id, targets: target.map { [$0] } ?? [], submitted: now, ignoresOutput: output == .ignored, limitedOn: limitedOn,
            channel: channel, requestBytes: buffers.reduce(0) { $0 + $1.readableBytes })
        self.send(message, on: channel, for: CollectionOfOne(task), output)
        return task
    }

    /// Sends a request that the controller copies to every target (protocol article, "Broadcast"), and gives the task of each
    /// copy, in the order of the targets; only one of all where the replies are to be made one.
    func broadcast(
        _ type: MessageType, to targets: [EngineUUID], isCoalescing: Bool, metadata: ByteBuffer, content: ByteBuffer,
        buffers: [ByteBuffer], waitsForOutput: Bool, limitedOn: [EngineUUID]?
    ) -> [PendingTask] {
        let id = self.session.messageID(number: self.nextNumber.wrappingAdd(1, ordering: .relaxed).oldValue)
        let now = WireDate.now
        let message = self.session.message(type, id: id, metadata: metadata, content: content, buffers: buffers, date: now)
        let output: ClientSession.OutputPolicy = isCoalescing ? .ignored : waitsForOutput ? .awaited : .counted
        let tasks: [PendingTask]
        if isCoalescing {
            tasks = [
                PendingTask(
                    id: id, targets: targets, submitted: now, ignoresOutput: true, limitedOn: limitedOn, channel: .broadcast,
                    isCoalescing: true)
            ]
        } else {
            tasks = targets.map { target in
                PendingTask(
                    id: Self.copy(of: id, for: target), targets: [target], submitted: now, ignoresOutput: false,
                    limitedOn: limitedOn.map { _ in [target] }, channel: .broadcast)
            }
        }
        self.send(message, on: .broadcast, for: tasks, output)
        return tasks
    }

    private func send(
        _ message: Message, on channel: Channel, for tasks: some Collection<PendingTask>, _ output: ClientSession.OutputPolicy
    ) {
        let (deeds, mustSchedule) = self.state.withLock { state -> ([Deed], Bool) in
            var deeds: [Deed] = []
            for task in tasks {
                let request = ClientSession.Request(on: channel, to: task.targets, output: output)
                switch state.core.submit(task.id, request, effects: &state.effects) {
                case .accepted(let slot):
                    state.keep(task, in: slot, channel == .task || channel == .mux ? message.frames : [])
                    if channel.takesTasks { state.history.append(task) }
                case .refused(let failure): deeds.append(.fail(task, failure, cause: nil))
                }
                self.carryOut(&state, &deeds)
            }
            guard state.core.ending == nil else { return (deeds, false) }
            state.outbound.append((channel: channel, frames: message.frames))
            defer { state.drainIsScheduled = true }
            return (deeds, !state.drainIsScheduled)
        }
        self.perform(deeds)
        if mustSchedule { self.scheduleDrain() }
    }

    /// A request after a pause leaves at once; those that follow closely leave together a moment later. An event loop runs what
    /// is asked of it before it looks at its sockets again, so whoever submits in a loop would keep it from reading.
    func scheduleDrain() {
        let next = self.nextDrain.load(ordering: .relaxed)
        if NIODeadline.now().uptimeNanoseconds >= next { return self.eventLoop.execute { self.drain() } }
        self.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(next)) { self.drain() }
    }

    private func drain() {
        let (outbound, sockets) = self.state.withLock { state in
            let outbound = state.outbound
            // The next batch is likely to be as large.
            state.outbound = []
            state.outbound.reserveCapacity(outbound.count)
            state.drainIsScheduled = false
            return (outbound, state.sockets)
        }
        self.nextDrain.store(
            NIODeadline.now().uptimeNanoseconds + Self.drainInterval, ordering: .relaxed)
        for (channel, frames) in outbound { sockets[channel]?.send(frames) }
        for (channel, socket) in sockets where channel.takesRequests { socket.flush() }
    }

    // MARK: Requests whose answer is content

    /// Sends a request whose answer is content, not a task's result, and waits for it.
    ///
    /// - Throws: The error that the answer carries, as ``RemoteError``.
    func request(_ type: MessageType, content: JSONObject, on channel: Channel, to target: EngineUUID? = nil) async throws
        -> JSONValue
    {
        try await self.answer(to: type, JSONValue.object(content).packed, on: channel, to: target).content
    }

    /// Sends a request, waits for its answer, and gives the answer's content and buffers.
    func requestWithBuffers(_ type: MessageType, content: JSONObject, on channel: Channel) async throws -> (
        content: JSONValue, buffers: [ByteBuffer]
    ) {
        try await self.answer(to: type, JSONValue.object(content).packed, on: channel, to: nil)
    }

    private func answer(
        to type: MessageType, _ content: ByteBuffer, on channel: Channel, to target: EngineUUID?
    ) async throws -> (content: JSONValue, buffers: [ByteBuffer]) {
        while true {
            do { return try await self.answer(to: self.submit(type, on: channel, to: target, content: content)) } catch {
                guard (error as? ApusError)?.code == .connectionLost, type.isQuestion else { throw error }
            }
        }
    }

    private func answer(to task: PendingTask) async throws -> (content: JSONValue, buffers: [ByteBuffer]) {
        // Also where the asker is cancelled: nobody else waits for this answer.
        defer { self.handle(.abandoned(task.id)) }
        try await task.wait()
        switch task.outcome {
        case .failed(let error): throw error
        case .reply(let message, _):
            let content: JSONValue
            do { content = try JSONValue(parsing: message.content) } catch {
                throw ApusError(.badResult, "an answer cannot be read: \(error)")
            }
            if content["status"]?.string == "error" { throw RemoteError(ErrorContent(content), engineID: nil, engineUUID: nil) }
            return (content, Array(message.buffers))
        case nil: throw ApusError(.closed, "the client was closed")
        }
    }
}
