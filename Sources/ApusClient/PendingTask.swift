import ApusWire
import NIOCore
import Locks

/// One request that was sent, and what has come back for it so far.
///
/// Any number of callers may wait. The connection's event loop completes it; callers read it from wherever they are.
final class PendingTask: Sendable {
    let id: MessageID
    /// The engines that the request was addressed to; empty where a scheduler chooses.
    let targets: [EngineUUID]
    let submitted: WireDate
    /// The engines that must keep its run limit, as far as the client chose them; nil where there is no limit.
    let limitedOn: [EngineUUID]?
    /// Where it was sent; nil for one that somebody else sent.
    let channel: ClientConnection.Channel?
    /// How large the request's buffers are.
    let requestBytes: Int
    private let outputPolicy: OutputPolicy

    /// What must be in, besides the reply, for the result to be there.
    enum OutputPolicy: Sendable {
        /// As much output as the reply says there is.
        case counted
        /// All output: the engine has said that it is idle again.
        case awaited
        /// None: many engines' output belongs to one reply, and nobody counts it.
        case ignored
    }

    private let state: Mutex<State>

    private struct State {
        var outcome: Outcome?
        var output = TaskOutput()
        /// How many output messages the engine says it published; nil until it says so, and for engines that never do.
        var outputsExpected: Int?
        var outputsSeen = 0
        var isIdle = false
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
        id: MessageID, targets: [EngineUUID], submitted: WireDate, outputPolicy: OutputPolicy, limitedOn: [EngineUUID]? = nil,
        channel: ClientConnection.Channel? = nil, requestBytes: Int = 0
    ) {
        self.channel = channel
        self.requestBytes = requestBytes
        self.limitedOn = limitedOn
        self.id = id
        self.targets = targets
        self.submitted = submitted
        self.outputPolicy = outputPolicy
        self.state = Mutex(State())
    }

    var isDone: Bool { self.state.withLock { $0.isDone } }
    var outcome: Outcome? { self.state.withLock { $0.isDone ? $0.outcome : nil } }
    var output: TaskOutput { self.state.withLock { $0.output } }
    /// Whether its reply must say that the run limit was heeded. One made of many replies says nothing.
    var mustSayLimit: Bool { self.limitedOn != nil && self.outputPolicy != .ignored }

    // MARK: On the connection's event loop. Each gives true when nothing more is expected.

    func take(reply: Message) -> Bool {
        let outputs = self.outputPolicy == .ignored ? 0 : reply.outputCount
        // Replies that no user code made (dead engine, impossible dependency, aborted) have no output to wait for.
        let synthetic = self.outputPolicy == .awaited && outputs == nil && reply.isSynthetic
        return self.update { state in
            state.outcome = .reply(reply, received: .now)
            state.outputsExpected = outputs
            if synthetic { state.isIdle = true }
        }
    }

    func take(output type: MessageType, _ message: Message) -> Bool {
        if type == .stream { self.show(message) }
        return self.update { state in
            if type == .status {
                if message.content.textMember("execution_state") == "idle" { state.isIdle = true }
            } else {
                state.outputsSeen += 1
                state.output.take(type, message)
            }
        }
    }

    /// Completes the task by a reply and output that were recorded.
    func restore(_ reply: Message, output: TaskOutput) {
        self.state.withLock { $0.output = output }
        _ = self.take(reply: reply)
    }

    /// Tells those who want to see what is printed when it is.
    private func show(_ message: Message) {
        let watchers = self.state.withLock { $0.printWatchers }
        guard !watchers.isEmpty, let content = try? JSONValue(parsing: message.content), let text = content["text"]?.string else {
            return
        }
        // The topic: `engine.3.stdout`.
        let topic = message.identities.first.map { String(buffer: $0).split(separator: ".") } ?? []
        let engine = topic.count > 1 && topic[0] == "engine" ? Int(topic[1]).map { EngineID($0) } : nil
        let stream = content["name"]?.string.flatMap { PrintedText.Stream(rawValue: $0) } ?? .stdout
        for watcher in watchers { watcher(PrintedText(engineID: engine, task: self.id, stream: stream, text: text)) }
    }

    /// Calls the body with everything that the task prints, what came before first.
    func whenPrinted(_ body: @escaping @Sendable (PrintedText) -> Void) {
        let output = self.state.withLock { state in
            if !state.isDone { state.printWatchers.append(body) }
            return state.output
        }
        for (stream, text) in [(PrintedText.Stream.stdout, output.stdout), (.stderr, output.stderr)] where !text.isEmpty {
            body(PrintedText(engineID: nil, task: self.id, stream: stream, text: text))
        }
    }

    func fail(_ error: ApusError) {
        _ = self.update { state in
            if state.outcome == nil { state.outcome = .failed(error) }
            state.isIdle = true
            state.outputsExpected = state.outputsSeen
        }
    }

    /// Stops waiting for output that does not come.
    func giveUpOutput() {
        _ = self.update { state in
            state.isIdle = true
            state.outputsExpected = state.outputsSeen
        }
    }

    private func update(_ change: (inout State) -> Void) -> Bool {
        let (isComplete, watchers) = self.state.withLock { state -> (Bool, [@Sendable () -> Void]) in
            change(&state)
            let outputIsIn = state.isIdle || state.outputsExpected.map { state.outputsSeen >= $0 } == true
            let isComplete = state.outcome != nil && outputIsIn
            guard !state.isDone, state.outcome != nil, isComplete || !self.mustWaitForOutput(state) else {
                return (isComplete, [])
            }
            state.isDone = true
            defer {
                state.watchers = []
                state.printWatchers = []
            }
            return (isComplete, state.watchers)
        }
        for watcher in watchers { watcher() }
        return isComplete
    }

    private func mustWaitForOutput(_ state: State) -> Bool {
        self.outputPolicy == .awaited || state.outputsExpected != nil
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

/// Waits until the event has called what it is given. Cancelling the caller ends its waiting.
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

extension Message {
    /// What our engines write into the metadata of a quiet request's reply: how many output messages belong to it.
    fileprivate var outputCount: Int? {
        let count = try? self.metadata.withJSONCursor { (cursor: inout JSONCursor) throws(WireError) -> Int? in
            guard try cursor.find("apus_outputs") else { return nil }
            return try cursor.readValue().int
        }
        return count ?? nil
    }

    fileprivate var isSynthetic: Bool {
        guard let content = try? JSONValue(parsing: self.content) else { return true }
        switch content["status"]?.string {
        case "aborted": return true
        case "error": return content["engine_info"]?.object?.isEmpty ?? true
        default: return false
        }
    }
}
