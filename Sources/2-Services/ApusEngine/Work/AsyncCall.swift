import ApusFunctions
import ApusWire
import Dispatch
import Pickle
import Locks

/// The call of an asynchronous function.
///
/// The worker runs one request at a time; the function has its turn until it ends, or until it waits for other tasks. Then the
/// worker sets the call aside and takes the next request. A function whose wait is over wants its turn again, and gets it before
/// requests that have not begun.
///
/// Several waits of one function may be under way (`async let`, a task group). The function counts as waiting until the last of
/// them is over; code of the function that runs meanwhile runs without the turn.
final class AsyncCall: EngineTurn {
    let number: Int
    /// The request that the function was called for.
    let request: MessageID?
    private let calls: AsyncCalls
    private let state = Mutex(State())

    private struct State {
        var phase = Phase.running
        /// Waits under way.
        var waits = 0
        var task: Task<Void, Never>?
        /// Sleeps until the run limit, and then stops the function.
        var timer: Task<Void, Never>?
        var stop = Stop.none
        /// The last errors of other tasks that the function's waits have thrown.
        var met: [(error: TravellingError, of: any RelayedError)] = []
    }

    private enum Phase {
        /// The function has its turn. Becomes `aside` or `ended`, and the worker is woken.
        case running
        /// The function waits. Becomes `wanting` or `ended`.
        case aside
        /// The function's wait is over, and it goes on when the worker takes it up. A cancelled function goes on at once, because
        /// it has only to clean up; its continuation is nil. Becomes `running`, `ended`, or `aside` when the function begins
        /// another wait.
        case wanting(CheckedContinuation<Void, Never>?)
        /// Terminal.
        case ended(Result<PickleValue, any Error>)
    }

    private enum Stop {
        case none
        case interrupted
        case pastLimit(Double)
    }

    fileprivate init(number: Int, request: MessageID?, calls: AsyncCalls) {
        self.number = number
        self.request = request
        self.calls = calls
    }

    // MARK: The worker's side

    /// How a turn ended.
    enum TurnEnd {
        case ended(Result<PickleValue, any Error>)
        case aside
    }

    /// Begins the call and blocks the calling thread for its first turn; at the limit, in seconds from now, the function is
    /// cancelled.
    ///
    /// - Returns: How the turn ended; nil where ``AsyncCalls/endTurns(with:)`` replaces blocking by a call.
    func begin(limit: Double?, _ body: @escaping @Sendable () async throws -> PickleValue) -> TurnEnd? {
        // The lock is held until the task is stored, so that an interrupt that the function itself causes finds it.
        self.state.withLock { state in
            state.task = Task {
                do { self.end(.success(try await body())) } catch { self.end(.failure(error)) }
            }
        }
        if let limit { self.startTimer(limit) }
        return self.calls.waitForTurnsEnd() ? self.turnEnd : nil
    }

    private func startTimer(_ limit: Double) {
        let timer = Task {
            do { try await Task.sleep(for: .seconds(limit)) } catch { return }
            self.stop(.pastLimit(limit))
        }
        let hasEnded = self.state.withLock { state in
            state.timer = timer
            if case .ended = state.phase { return true }
            return false
        }
        if hasEnded { timer.cancel() }
    }

    enum TakingUp {
        /// The function has its turn: call ``goOn(_:)``.
        case turn(CheckedContinuation<Void, Never>?)
        case ended(Result<PickleValue, any Error>)
        /// The function waits again.
        case notNow
    }

    /// Gives the function its turn again, if it still wants it.
    func takeUp() -> TakingUp {
        self.state.withLock { state in
            switch state.phase {
            case .wanting(let continuation):
                state.phase = .running
                return .turn(continuation)
            case .ended(let outcome): return .ended(Self.outcome(outcome, state))
            case .running, .aside: return .notNow
            }
        }
    }

    /// Lets the function go on, and blocks the calling thread for its turn; gives the same as ``begin(limit:_:)``.
    func goOn(_ continuation: CheckedContinuation<Void, Never>?) -> TurnEnd? {
        continuation?.resume()
        return self.calls.waitForTurnsEnd() ? self.turnEnd : nil
    }

    /// How the turn ended that is over.
    var turnEnd: TurnEnd {
        self.state.withLock { state in
            if case .ended(let outcome) = state.phase { return .ended(Self.outcome(outcome, state)) }
            // The function may want its turn again by now; then the worker has been told, and takes it up like any other.
            return .aside
        }
    }

    private static func outcome(_ outcome: Result<PickleValue, any Error>, _ state: State) -> Result<PickleValue, any Error> {
        guard case .failure(let error) = outcome else { return outcome }
        switch state.stop {
        case .none:
            // Another task's error that the function passed on is reported with that task's traceback.
            guard !state.met.isEmpty, let travelling = TravellingError(error),
                let origin = state.met.last(where: { $0.error == travelling })
            else { return outcome }
            return .failure(origin.of)
        case .interrupted: return .failure(EngineTaskError(.keyboardInterrupt, "interrupted\(Self.ending(error))"))
        case .pastLimit(let limit):
            return .failure(
                EngineTaskError(.runLimitExceeded, "the function was stopped at its limit of \(limit) s\(Self.ending(error))"))
        }
    }

    /// The error that a cancelled function threw, as a text; empty for a `CancellationError`.
    private static func ending(_ error: any Error) -> String { error is CancellationError ? "" : ": \(error)" }

    // MARK: The function's side

    private func end(_ outcome: Result<PickleValue, any Error>) {
        let (hadTurn, left, timer) = self.state.withLock {
            state -> (Bool, CheckedContinuation<Void, Never>?, Task<Void, Never>?) in
            defer {
                state.phase = .ended(outcome)
                state.timer = nil
            }
            switch state.phase {
            case .running: return (true, nil, state.timer)
            case .wanting(let continuation): return (false, continuation, state.timer)
            case .aside, .ended: return (false, nil, state.timer)
            }
        }
        timer?.cancel()
        // The continuation of a wait that the function has begun and not awaited.
        left?.resume()
        if hadTurn { self.calls.turnHasEnded() } else { self.calls.wantsTurn(self.number) }
    }

    func expectWait() throws { try self.calls.countWaiting(self.number) }

    func beginWait() throws {
        try self.expectWait()
        let (gaveUpTurn, goesOn) = self.state.withLock { state -> (Bool, CheckedContinuation<Void, Never>?) in
            state.waits += 1
            switch state.phase {
            case .running:
                state.phase = .aside
                return (true, nil)
            case .wanting(let continuation):
                // With another wait begun, the function counts as waiting: the code that wanted the turn goes on without it.
                state.phase = .aside
                return (false, continuation)
            case .aside, .ended: return (false, nil)
            }
        }
        goesOn?.resume()
        if gaveUpTurn { self.calls.turnHasEnded() }
    }

    func endWait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isCancelled = Task.isCancelled
                let wants = self.state.withLock { state in
                    state.waits -= 1
                    guard state.waits == 0, case .aside = state.phase else { return false }
                    state.phase = .wanting(isCancelled ? nil : continuation)
                    return true
                }
                if wants { self.calls.wantsTurn(self.number) }
                if !wants || isCancelled { continuation.resume() }
            }
        } onCancel: {
            let continuation: CheckedContinuation<Void, Never>? = self.state.withLock { state in
                guard case .wanting(let continuation) = state.phase else { return nil }
                state.phase = .wanting(nil)
                return continuation
            }
            continuation?.resume()
        }
    }

    func met(_ error: TravellingError, of task: any RelayedError) {
        self.state.withLock { state in
            state.met.append((error, of: task))
            if state.met.count > Self.metLimit { state.met.removeFirst() }
        }
    }

    /// How many errors are remembered. A function that goes on after many errors most likely ends with one of the last.
    private static let metLimit = 16

    /// Whether the worker has set the call aside, or will when the turn that is under way has ended.
    fileprivate var waits: Bool {
        self.state.withLock { state in
            switch state.phase {
            case .aside, .wanting: true
            case .running, .ended: false
            }
        }
    }

    // MARK: Stopping

    func interrupt() { self.stop(.interrupted) }

    private func stop(_ reason: Stop) {
        let task: Task<Void, Never>? = self.state.withLock { state in
            if case .ended = state.phase { return nil }
            if case .none = state.stop { state.stop = reason }
            return state.task
        }
        task?.cancel()
    }
}

/// The asynchronous calls of an engine that have not been answered.
final class AsyncCalls: Sendable {
    private struct State {
        var calls: [Int: AsyncCall] = [:]
        var lastNumber = 0
        /// The calls that wait, have waited, or may wait because they have a client.
        var waiting: Set<Int> = []
    }

    private let state = Mutex(State())
    /// Signalled once for each turn that was given.
    private let turnEnded = DispatchSemaphore(value: 0)
    /// Called in place of that where no thread waits.
    private let endTurn = Mutex<(@Sendable () -> Void)?>(nil)
    private let engineID: EngineID
    /// How many calls may be in `waiting`.
    private let limit: Int
    /// Tells the worker that a call wants its turn; called from any thread.
    fileprivate let wantsTurn: @Sendable (Int) -> Void

    init(engineID: EngineID, limit: Int, wantsTurn: @escaping @Sendable (Int) -> Void) {
        self.engineID = engineID
        self.limit = limit
        self.wantsTurn = wantsTurn
    }

    /// Has the end of each turn told by a call, from any thread: the worker has no thread that could wait for it.
    func endTurns(with endTurn: @escaping @Sendable () -> Void) { self.endTurn.withLock { $0 = endTurn } }

    fileprivate func turnHasEnded() {
        if let endTurn = self.endTurn.withLock({ $0 }) { endTurn() } else { self.turnEnded.signal() }
    }

    /// Waits for the end of the turn that was just given. False where it will be told by a call.
    fileprivate func waitForTurnsEnd() -> Bool {
        guard self.endTurn.withLock({ $0 }) == nil else { return false }
        self.turnEnded.wait()
        return true
    }

    func add(for request: MessageID?) -> AsyncCall {
        self.state.withLock { state in
            state.lastNumber += 1
            let call = AsyncCall(number: state.lastNumber, request: request, calls: self)
            state.calls[state.lastNumber] = call
            return call
        }
    }

    func call(_ number: Int) -> AsyncCall? { self.state.withLock { $0.calls[number] } }

    func remove(_ call: AsyncCall) {
        self.state.withLock { state in
            state.calls[call.number] = nil
            state.waiting.remove(call.number)
        }
    }

    fileprivate func countWaiting(_ call: Int) throws {
        let isTooMany = self.state.withLock { state in
            if state.calls[call] == nil || state.waiting.contains(call) { return false }
            if state.waiting.count >= self.limit { return true }
            state.waiting.insert(call)
            return false
        }
        if isTooMany {
            throw EngineTaskError(
                .engineError,
                "\(self.limit) functions on engine \(self.engineID) wait for tasks of their own, and no more can. Does a recursion never end?"
            )
        }
    }

    /// The requests of all calls.
    var requests: [MessageID] { self.state.withLock { $0.calls.values.compactMap(\.request) } }

    /// The requests of the calls that wait for other tasks, in the order of the calls.
    var waitingRequests: [MessageID] {
        let calls = self.state.withLock { Array($0.calls.values) }
        return calls.filter(\.waits).sorted { $0.number < $1.number }.compactMap(\.request)
    }

    /// Cancels and forgets all calls, whose requests are never answered.
    func abandon() {
        let calls = self.state.withLock { state in
            defer { state = State() }
            return Array(state.calls.values)
        }
        for call in calls { call.interrupt() }
    }

    /// Cancels all calls. False when there is none, even while a synchronous function runs.
    @discardableResult
    func interrupt() -> Bool {
        let calls = self.state.withLock { Array($0.calls.values) }
        for call in calls { call.interrupt() }
        return !calls.isEmpty
    }

    /// Cancels the calls of these requests.
    func interrupt(anyOf requests: Set<MessageID>) {
        let calls = self.state.withLock { $0.calls.values.filter { $0.request.map(requests.contains) ?? false } }
        for call in calls { call.interrupt() }
    }
}
