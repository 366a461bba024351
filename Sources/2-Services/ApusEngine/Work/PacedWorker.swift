import Locks

/// Runs a worker's turns on the engine's event loop, at the times that a simulation chooses.
///
/// A request is taken as soon as the one before is answered, and from then on counts as begun; its function runs when its turn comes.
final class PacedWorker: Sendable {
    private let worker: Mutex<RequestWorker>
    private let exchange: WorkExchange
    private let calls: AsyncCalls
    private let pace: @Sendable (_ turn: @escaping @Sendable () -> Void) -> Void
    private let whenEnded: @Sendable () -> Void

    init(
        _ worker: consuming sending RequestWorker, _ exchange: WorkExchange, _ calls: AsyncCalls,
        _ pace: @escaping @Sendable (_ turn: @escaping @Sendable () -> Void) -> Void, whenEnded: @escaping @Sendable () -> Void
    ) {
        self.worker = Mutex(worker)
        self.exchange = exchange
        self.calls = calls
        self.pace = pace
        self.whenEnded = whenEnded
    }

    func start() {
        self.calls.endTurns {
            self.pace {
                self.worker.withLock { $0.endTurn() }
                self.look()
            }
        }
        self.exchange.wakePaced { self.look() }
        self.look()
    }

    private func look() {
        switch self.worker.withLock({ $0.step() }) {
        case .run(let work):
            self.pace {
                self.worker.withLock { $0.turn(work) }
                self.look()
            }
        case .sleep: break
        case .end:
            // Nobody holds the other any more.
            self.exchange.wakePaced {}
            self.calls.endTurns {}
            self.whenEnded()
        }
    }
}
