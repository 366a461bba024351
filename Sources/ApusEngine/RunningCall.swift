import ApusWire
import Dispatch
import Pickle
import Synchronization

/// The asynchronous call that the worker waits for, and the way to interrupt it.
final class RunningCall: Sendable {
    private enum State {
        /// Nothing runs, or a synchronous function, which nothing can interrupt.
        case none
        case running(Task<Void, Never>, MessageID?, isInterrupted: Bool)
    }

    private let state = Mutex(State.none)
    private let ended = DispatchSemaphore(value: 0)

    /// Runs the body in a task and blocks the calling thread until it has ended; at the limit, in seconds, it is cancelled.
    ///
    /// - Throws: What the body throws; a `KeyboardInterrupt` if it throws after an interrupt or past the limit.
    func wait(limit: Double? = nil, of request: MessageID? = nil, for body: @escaping @Sendable () async throws -> PickleValue)
        throws -> PickleValue
    {
        let box = OutcomeBox()
        // Known as running before it begins, so that an interrupt which its own doing brings about finds it.
        let task = self.state.withLock { state in
            let task = Task { [ended = self.ended] in
                do { box.set(.success(try await body())) } catch { box.set(.failure(error)) }
                ended.signal()
            }
            state = .running(task, request, isInterrupted: false)
            return task
        }
        var isPastLimit = false
        if let limit, self.ended.wait(timeout: .now() + limit) == .timedOut {
            isPastLimit = true
            task.cancel()
            self.ended.wait()
        } else if limit == nil {
            self.ended.wait()
        }
        let isInterrupted = self.state.withLock { state in
            defer { state = .none }
            if case .running(_, _, let isInterrupted) = state { return isInterrupted }
            return false
        }
        do { return try box.take() } catch {
            if isPastLimit, let limit {
                throw EngineTaskError(.keyboardInterrupt, "stopped at its limit of \(limit) s: \(error)")
            }
            throw isInterrupted ? EngineTaskError(.keyboardInterrupt, "interrupted: \(error)") : error
        }
    }

    /// Cancels what runs. False when nothing does, or a synchronous function.
    func interrupt() -> Bool {
        self.state.withLock { state in
            guard case .running(let task, let request, _) = state else { return false }
            task.cancel()
            state = .running(task, request, isInterrupted: true)
            return true
        }
    }

    /// Cancels what runs if it was asked for by one of these requests.
    func interrupt(anyOf requests: Set<MessageID>) {
        self.state.withLock { state in
            guard case .running(let task, let request?, _) = state, requests.contains(request) else { return }
            task.cancel()
            state = .running(task, request, isInterrupted: true)
        }
    }
}

/// Hands a task's outcome to the thread that waits for it.
private final class OutcomeBox: Sendable {
    private let outcome = Mutex<Result<PickleValue, any Error>?>(nil)

    func set(_ outcome: Result<PickleValue, any Error>) { self.outcome.withLock { $0 = outcome } }

    func take() throws -> PickleValue {
        guard let outcome = self.outcome.withLock({ $0 }) else { preconditionFailure("a call's task ended without an outcome") }
        return try outcome.get()
    }
}
