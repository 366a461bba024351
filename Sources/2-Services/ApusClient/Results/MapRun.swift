import ApusCore
import ApusWire
import NIOCore
import Pickle
import Locks

/// A map that was begun: the elements still to be sent, the tasks that make its calls, and their replies.
///
/// When a task ends, the client's event loop sends the next ones. So a map goes on whether or not a caller waits for it.
final class MapRun: Sendable {
    /// A task of the map, and the elements whose calls it is to make; of a task that has ended, those whose calls it made.
    struct Chunk: Sendable {
        let elements: Range<Int>
        let task: PendingTask
    }

    /// How a map sends its elements.
    struct Sender: Sendable {
        let sizing: MapScheduler.Sizing
        /// How many engines may run the tasks now.
        let engines: @Sendable () -> Int
        /// Sends the calls of some of the elements as one task.
        let send: @Sendable (Range<Int>, [[PickleValue]]) -> PendingTask
    }

    let client: Client
    /// How many calls there are.
    let count: Int
    /// Nil where all tasks were sent at once.
    private let sender: Sender?
    private let state: Mutex<State>

    private struct State {
        var scheduler: MapScheduler
        /// The elements as they travel, until the map is finished: a task may give some back.
        var columns: [[PickleValue]]
        /// Tasks that have not ended, by the first element of each.
        var underWay: [Int: Chunk] = [:]
        /// Tasks that have ended, in the order in which they ended.
        var ended: [Chunk] = []
        var endedCalls = 0
        var isFinished = false
        /// Why elements were not sent, if some were not.
        var stopped: TaskFailure?
        var endWatchers: [AsyncStream<Chunk>.Continuation] = []
        var sendWatchers: [@Sendable (PendingTask) -> Void] = []
        var finishWatchers: [@Sendable () -> Void] = []
    }

    /// Begins a map that sends its tasks while it runs.
    init(_ client: Client, _ columns: [[PickleValue]], _ sender: Sender) {
        self.client = client
        self.count = columns.map { $0.count }.min() ?? 0
        self.sender = sender
        self.state = Mutex(State(scheduler: MapScheduler(count: self.count, sizing: sender.sizing), columns: columns))
        client.connection.began(self)
        self.state.withLock { self.perform($0.scheduler.handle(.engines(sender.engines())), &$0) }
    }

    /// A map all of whose tasks were sent.
    init(_ client: Client, _ chunks: [Chunk]) {
        self.client = client
        self.count = chunks.last?.elements.upperBound ?? 0
        self.sender = nil
        self.state = Mutex(State(scheduler: MapScheduler(count: 0, sizing: .single), columns: []))
        self.state.withLock { state in
            // All tasks are noted before one is watched, because the last one to end finishes the map.
            for chunk in chunks { state.underWay[chunk.elements.lowerBound] = chunk }
            for chunk in chunks where !self.watch(chunk) { self.perform(self.note(chunk, &state), &state) }
            if chunks.isEmpty { self.finish(&state) }
        }
    }

    // MARK: Tasks that are sent and end

    private func perform(_ effects: [MapScheduler.Effect], _ state: inout State) {
        // The effects are a queue: a client that has ended fails a task at once, and the end of that task may send the next.
        var effects = effects[...]
        while let effect = effects.popFirst() {
            switch effect {
            case .finish: self.finish(&state)
            case .send(let elements):
                guard let sender else { preconditionFailure("a map whose tasks were all sent is to send another") }
                let chunk = Chunk(elements: elements, task: sender.send(elements, state.columns))
                state.underWay[elements.lowerBound] = chunk
                for watcher in state.sendWatchers { watcher(chunk.task) }
                if !self.watch(chunk) { effects += self.note(chunk, &state) }
            }
        }
    }

    /// Watches for the end of a task. False when the task has ended already.
    private func watch(_ chunk: Chunk) -> Bool {
        chunk.task.willBeDone { [self] in
            self.state.withLock { self.perform(self.note(chunk, &$0), &$0) }
        }
    }

    /// Notes the end of a task and gives the effects that follow.
    private func note(_ chunk: Chunk, _ state: inout State) -> [MapScheduler.Effect] {
        // A task of one call, or of a number that its caller chose, gives nothing back.
        let end = chunk.task.mapEnd(mayGiveBack: self.sender != nil && chunk.elements.count > 1)
        let made = min(max(end.calls ?? chunk.elements.count, 1), chunk.elements.count)
        let ended = Chunk(elements: chunk.elements.prefix(made), task: chunk.task)
        state.underWay[chunk.elements.lowerBound] = nil
        state.ended.append(ended)
        state.endedCalls += made
        for watcher in state.endWatchers { watcher.yield(ended) }
        guard let sender else {
            if state.underWay.isEmpty { self.finish(&state) }
            return []
        }
        var effects: [MapScheduler.Effect] = []
        if state.stopped == nil, let failure = end.stops ?? self.hopelessness(of: chunk.task) {
            state.stopped = failure
            effects = state.scheduler.handle(.stopped)
        }
        effects += state.scheduler.handle(.engines(sender.engines()))
        return effects + state.scheduler.handle(.ended(chunk.elements, calls: made, cost: end.cost))
    }

    /// The failure of the task, if every further task would fail with it; nil otherwise.
    private func hopelessness(of task: PendingTask) -> TaskFailure? {
        do { _ = try self.client.connection.reply(of: task) } catch {
            let codes: [ApusError.Code] = [.noEnginesRegistered, .impossibleDependency, .invalidDependency]
            return (error.error as? ApusError).flatMap { codes.contains($0.code) ? error : nil }
        }
        return nil
    }

    private func finish(_ state: inout State) {
        state.isFinished = true
        state.columns = []
        for watcher in state.endWatchers { watcher.finish() }
        for watcher in state.finishWatchers { watcher() }
        state.endWatchers = []
        state.sendWatchers = []
        state.finishWatchers = []
        self.client.connection.finished(self)
    }

    // MARK: Sending the rest, and stopping

    /// Sends all elements that were not sent, so that every call is in a task.
    func sendRest() { self.state.withLock { self.perform($0.scheduler.handle(.restWanted), &$0) } }

    /// Sends no more tasks; the calls that were not sent end as aborted. Gives the tasks that have not ended.
    @discardableResult
    func stop() -> [TaskID] {
        self.state.withLock { state in
            guard !state.isFinished else { return [] }
            if state.stopped == nil, self.sender != nil { state.stopped = Self.notSent }
            if self.sender != nil { self.perform(state.scheduler.handle(.stopped), &state) }
            return state.underWay.values.map { $0.task.id }
        }
    }

    private static let notSent = TaskFailure(ApusError(.taskAborted, "the map was called off before this call was sent"))

    // MARK: State and ends

    var isFinished: Bool { self.state.withLock { $0.isFinished } }
    /// Calls that have outcomes.
    var endedCalls: Int { self.state.withLock { $0.isFinished ? self.count : $0.endedCalls } }
    /// The tasks sent so far, in the order of their elements.
    var tasks: [PendingTask] {
        self.state.withLock { Array($0.underWay.values) + $0.ended }.sorted { $0.elements.lowerBound < $1.elements.lowerBound }
            .map { $0.task }
    }

    /// The tasks of a finished map in the order of their elements, and the failure of elements that are in no task.
    var ends: (chunks: [Chunk], missing: TaskFailure) {
        let (chunks, stopped) = self.state.withLock { ($0.ended, $0.stopped) }
        return (chunks.sorted { $0.elements.lowerBound < $1.elements.lowerBound }, stopped ?? Self.notSent)
    }

    /// The failure of elements that were not sent.
    var missing: TaskFailure { self.state.withLock { $0.stopped } ?? Self.notSent }

    /// Gives the tasks as they end, beginning with tasks that have ended already.
    func endings() -> AsyncStream<Chunk> {
        let (stream, continuation) = AsyncStream.makeStream(of: Chunk.self)
        self.state.withLock { state in
            for chunk in state.ended { continuation.yield(chunk) }
            if state.isFinished { continuation.finish() } else { state.endWatchers.append(continuation) }
        }
        return givingUpTurn(in: stream)
    }

    /// Calls the body with every task, at once with tasks that were sent already.
    func whenSent(_ body: @escaping @Sendable (PendingTask) -> Void) {
        let sent = self.state.withLock { state in
            if !state.isFinished { state.sendWatchers.append(body) }
            return Array(state.underWay.values) + state.ended
        }
        for chunk in sent { body(chunk.task) }
    }

    /// Calls the body once every call has its outcome, at once if all have.
    func whenFinished(_ body: @escaping @Sendable () -> Void) {
        let isFinished = self.state.withLock { state in
            if !state.isFinished { state.finishWatchers.append(body) }
            return state.isFinished
        }
        if isFinished { body() }
    }

    /// Waits until every call has its outcome. Cancelling the caller ends its waiting only.
    nonisolated(nonsending) func wait() async throws {
        if self.isFinished { return }
        try await waitForEvent { self.whenFinished($0) }
    }
}

/// The parts of a task's end that its map needs.
private struct MapEnd {
    /// How many calls the task made, where it did not make all.
    var calls: Int?
    var cost: MapScheduler.Cost?
    /// The failure for which the map sends no further task.
    var stops: TaskFailure?
}

extension PendingTask {
    fileprivate func mapEnd(mayGiveBack: Bool) -> MapEnd {
        var end = MapEnd()
        switch self.outcome {
        case nil: break
        case .failed(let error):
            // Further tasks would fail for the same reason.
            if [.closed, .controllerGone].contains(error.code) { end.stops = TaskFailure(error) }
        case .reply(let message, _):
            guard let metadata = try? ReplyMetadata.ForClient(scanning: message.metadata) else { break }
            if mayGiveBack { end.calls = metadata.calls }
            if message.content.textMember("status") == "aborted" {
                end.stops = TaskFailure(
                    ApusError(.taskAborted, "a task of the map was aborted, and then no further ones were sent"))
            }
            // The time that a call waits is part of its cost, so that calls that wait are not put one after another into one
            // task.
            if let started = metadata.started, let completed = (try? MessageHeader(scanning: message.header))?.date {
                end.cost = MapScheduler.Cost(
                    microseconds: completed.seconds(since: started) * 1_000_000,
                    bytes: max(self.requestBytes, message.buffers.reduce(0) { $0 + $1.readableBytes }))
            }
            // Python's engines say nothing of calls that were not made, so after a slice of time their results are counted.
            if mayGiveBack, end.calls == nil, let cost = end.cost, cost.microseconds >= Double(Call.slice) {
                end.calls = message.pythonCalls
            }
        }
        return end
    }
}
