private import Locks

/// A value that arrives once, and that any number of tasks may wait for.
final class Arrival<Value: Sendable>: Sendable {
    private enum State {
        /// Becomes `arrived`. Each waiter's key is its own, so that it can leave.
        case awaited([Int: CheckedContinuation<Value?, Never>], nextKey: Int)
        /// Terminal.
        case arrived(Value)
    }

    private let state = Mutex(State.awaited([:], nextKey: 0))

    /// Stores the value and resumes all waiting tasks; later values are dropped.
    func arrive(_ value: Value) {
        let waiters = self.state.withLock { state -> [CheckedContinuation<Value?, Never>] in
            guard case .awaited(let waiters, _) = state else { return [] }
            state = .arrived(value)
            return Array(waiters.values)
        }
        for waiter in waiters { waiter.resume(returning: value) }
    }

    /// The value, if it is there.
    var current: Value? {
        self.state.withLock { if case .arrived(let value) = $0 { value } else { nil } }
    }

    /// The value, or nil when the waiting task is cancelled first.
    var value: Value? {
        get async {
            let key = self.state.withLock { state -> Int? in
                guard case .awaited(let waiters, let key) = state else { return nil }
                state = .awaited(waiters, nextKey: key + 1)
                return key
            }
            guard let key else { return self.current }
            return await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let answer = self.state.withLock { state -> Value?? in
                        switch state {
                        case .arrived(let value): return .some(value)
                        // The task was cancelled before it could be resumed, so it must not wait.
                        case .awaited where Task.isCancelled: return .some(nil)
                        case .awaited(var waiters, let nextKey):
                            waiters[key] = continuation
                            state = .awaited(waiters, nextKey: nextKey)
                            return nil
                        }
                    }
                    if let answer { continuation.resume(returning: answer) }
                }
            } onCancel: {
                let waiter = self.state.withLock { state -> CheckedContinuation<Value?, Never>? in
                    guard case .awaited(var waiters, let nextKey) = state else { return nil }
                    let waiter = waiters.removeValue(forKey: key)
                    state = .awaited(waiters, nextKey: nextKey)
                    return waiter
                }
                waiter?.resume(returning: nil)
            }
        }
    }
}
