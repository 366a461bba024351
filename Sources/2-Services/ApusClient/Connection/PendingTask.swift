import ApusWire
import NIOCore
import Locks

/// One request that was sent, and what has come back for it so far.
///
/// Any number of callers may wait for the task and read it, on any thread. The connection's event loop completes the task.
final class PendingTask: Sendable {
    let id: MessageID
    /// The engines that the request was addressed to; empty where a scheduler chooses.
    let targets: [EngineUUID]
    let submitted: WireDate
    /// The engines that must keep the task's run limit, as far as the client chose them; nil where there is no limit.
    let limitedOn: [EngineUUID]?
    /// The channel that the request was sent by; nil for a task whose result comes from the hub.
    let channel: ClientConnection.Channel?
    /// Whether one answer stands for those of all targets of a broadcast.
    let isCoalescing: Bool
    /// How large the request's buffers are.
    let requestBytes: Int
    /// Whether one reply stands for those of many engines, or for none.
    private let ignoresOutput: Bool

    private let state: Mutex<State>

    private struct State {
        var outcome: Outcome?
        var output = TaskOutput()
        var isDone = false
        var watchers: [@Sendable () -> Void] = []
        var printWatchers: [@Sendable (PrintedText) -> Void] = []
    }

    /// How a request ended.
    enum Outcome: Sendable {
        case reply(Message, received: WireDate)
        case failed(ApusError)
    }

    init(
        id: MessageID, targets: [EngineUUID], submitted: WireDate, ignoresOutput: Bool, limitedOn: [EngineUUID]? = nil,
        channel: ClientConnection.Channel? = nil, requestBytes: Int = 0, isCoalescing: Bool = false
    ) {
        self.isCoalescing = isCoalescing
        self.channel = channel
        self.requestBytes = requestBytes
        self.limitedOn = limitedOn
        self.id = id
        self.targets = targets
        self.submitted = submitted
        self.ignoresOutput = ignoresOutput
        self.state = Mutex(State())
    }

    var isDone: Bool { self.state.withLock { $0.isDone } }
    var outcome: Outcome? { self.state.withLock { $0.isDone ? $0.outcome : nil } }
    var output: TaskOutput { self.state.withLock { $0.output } }
    /// Whether the task's reply must say that the run limit was heeded. A reply made of many replies says nothing.
    var mustSayLimit: Bool { self.limitedOn != nil && !self.ignoresOutput }

    // MARK: What the connection's session decides

    /// Keeps the reply as the outcome, for when the waiting callers are told.
    func keep(_ reply: Message, received: WireDate) {
        self.state.withLock { $0.outcome = .reply(reply, received: received) }
    }

    /// Shows and keeps output, also output that comes after the waiting callers were told.
    func keep(output type: MessageType, _ message: Message) {
        // In one step, so that a watcher that comes now gets the text once: as it is printed, or with what was printed before.
        let watchers = self.state.withLock { state in
            state.output.take(type, message)
            return type == .stream ? state.printWatchers : []
        }
        self.show(message, to: watchers)
    }

    /// Keeps a reply and output that were recorded, as the outcome.
    func keep(_ result: RecordedResult) {
        self.state.withLock { state in
            if state.isDone { return }
            state.output = result.output
            state.outcome = .reply(result.reply, received: .now)
        }
    }

    /// Calls the print watchers with the text of a stream message.
    private func show(_ message: Message, to watchers: [@Sendable (PrintedText) -> Void]) {
        guard !watchers.isEmpty, let content = try? JSONValue(parsing: message.content), let text = content["text"]?.string else {
            return
        }
        // The topic: `engine.3.stdout`.
        let topic = message.identities.first.map { String(buffer: $0).split(separator: ".") } ?? []
        let engine = topic.count > 1 && topic[0] == "engine" ? Int(topic[1]).map { EngineID($0) } : nil
        let stream = content["name"]?.string.flatMap { PrintedText.Stream(rawValue: $0) } ?? .stdout
        for watcher in watchers { watcher(PrintedText(engineID: engine, task: self.id, stream: stream, text: text)) }
    }

    /// Calls the body with everything that the task prints, beginning with the text that was printed earlier.
    func whenPrinted(_ body: @escaping @Sendable (PrintedText) -> Void) {
        let output = self.state.withLock { state in
            if !state.isDone { state.printWatchers.append(body) }
            return state.output
        }
        for (stream, text) in [(PrintedText.Stream.stdout, output.stdout), (.stderr, output.stderr)] where !text.isEmpty {
            body(PrintedText(engineID: nil, task: self.id, stream: stream, text: text))
        }
    }

    /// Ends the task with an error, unless it has an outcome already, and wakes those who wait for the task.
    func fail(_ error: ApusError) {
        self.finish { state in if state.outcome == nil { state.outcome = .failed(error) } }
    }

    /// Tells the waiting callers that the outcome is there, if they have not been told.
    func finish() { self.finish { _ in } }

    private func finish(_ change: (inout State) -> Void) {
        let watchers = self.state.withLock { state -> [@Sendable () -> Void] in
            change(&state)
            state.isDone = true
            defer {
                state.watchers = []
                state.printWatchers = []
            }
            return state.watchers
        }
        for watcher in watchers { watcher() }
    }

    // MARK: Waiting

    /// Calls the body once the task is done, at once if it is.
    func whenDone(_ body: @escaping @Sendable () -> Void) {
        if !self.willBeDone(body) { body() }
    }

    /// Calls the body once the task is done. False, and the body is not called, when it is done already.
    func willBeDone(_ body: @escaping @Sendable () -> Void) -> Bool {
        self.state.withLock { state in
            if !state.isDone { state.watchers.append(body) }
            return !state.isDone
        }
    }

    /// Waits until the task is done. Cancelling the caller ends its waiting only.
    nonisolated(nonsending) func wait() async throws {
        if self.isDone { return }
        try await waitForEvent { self.whenDone($0) }
    }
}

/// Waits until the event has called the closure that it is given. Cancelling the caller ends its waiting.
nonisolated(nonsending) func waitForEvent(_ whenDone: (@escaping @Sendable () -> Void) -> Void) async throws {
    try await givingUpTurn {
        let waiter = Waiter()
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                waiter.start(continuation)
                whenDone { waiter.finish(nil) }
            }
        } onCancel: {
            waiter.finish(CancellationError())
        }
    }
}

/// A continuation that the first of two, the event or the cancellation, resumes.
private final class Waiter: Sendable {
    private enum State {
        case idle
        case waiting(CheckedContinuation<Void, any Error>)
        case finished((any Error)?)
    }

    private let state = Mutex(State.idle)

    func start(_ continuation: CheckedContinuation<Void, any Error>) {
        let already: Result<Void, any Error>? = self.state.withLock { state in
            guard case .finished(let error) = state else {
                state = .waiting(continuation)
                return nil
            }
            return error.map { .failure($0) } ?? .success(())
        }
        if let already { continuation.resume(with: already) }
    }

    func finish(_ error: (any Error)?) {
        let continuation: CheckedContinuation<Void, any Error>? = self.state.withLock { state in
            defer { if case .finished = state {} else { state = .finished(error) } }
            guard case .waiting(let continuation) = state else { return nil }
            return continuation
        }
        if let error { continuation?.resume(throwing: error) } else { continuation?.resume() }
    }
}
