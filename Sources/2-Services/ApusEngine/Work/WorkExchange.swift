import ApusCore
import ApusWire
import Dispatch
import NIOCore
import Locks

/// A request as it came, unread.
struct IncomingRequest: Sendable {
    let channel: EngineChannel
    let frames: [ByteBuffer]
    /// Why the request must be refused, which its sender is told; nil for a request to run.
    var problem: String?
}

/// Passes requests from the event loop to the worker, and replies and output back.
///
/// Both sides hold the lock for moments only. The worker takes one request at a time, so that waiting requests can be taken back.
/// The loop sends the worker's messages in batches, so that it is woken for each batch and not for each task.
final class WorkExchange: Sendable {
    fileprivate struct State {
        var queue = RequestQueue<IncomingRequest>()
        /// The request that was handed out last; nil once the worker has asked for more work.
        var current: IncomingRequest?
        /// The request that the worker is answering after it was set aside, unless the worker has handed the answer over.
        var answering: MessageID?
        /// Calls that want their turn again, in order; those before `firstWanting` have had it.
        var wanting: [Int] = []
        var firstWanting = 0
        /// The messages that the loop has not fetched, in order.
        var outgoing: [OutgoingMessage] = []
        /// The messages that follow `outgoing` and wait a moment for others to leave with.
        var trailing: [OutgoingMessage] = []
        /// Whether the loop will fetch: it was woken, or a timer is running there.
        var fetch = Fetch.none
        /// Whether the worker waits at the semaphore, or is about to.
        var workerSleeps = false
        /// Whether further messages are dropped, because the loop does not want them any more.
        var isAbandoned = false
        /// Wakes a worker without a thread; nil for a worker whose thread sleeps at the semaphore.
        var wakePaced: (@Sendable () -> Void)?
    }

    fileprivate enum Fetch {
        case none
        /// The loop looks at the latest when its timer fires.
        case later
        case now
    }

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)
    /// Makes the loop fetch; called from any thread.
    private let wakeLoop: @Sendable () -> Void

    /// As many messages as this do not wait for the loop's timer.
    fileprivate static let batchLimit = 64

    init(wakeLoop: @escaping @Sendable () -> Void) {
        self.wakeLoop = wakeLoop
    }

    // MARK: The loop's side

    func submit(_ requests: some Sequence<IncomingRequest>) {
        let wakes = self.state.withLock { state in
            state.queue.append(contentsOf: requests)
            return state.takeSleeper()
        }
        if wakes { self.wakeWorker() }
    }

    /// When the loop must look again.
    enum Look {
        case whenWoken
        /// The worker has more requests, whose replies may come without a wake-up.
        case soon
        /// Trailing messages wait for others to leave with.
        case eventually
    }

    /// Gives the messages to send, and says when the loop must look again.
    ///
    /// - Parameter all: Whether trailing messages are among them.
    func fetch(into batch: inout [OutgoingMessage], all: Bool) -> Look {
        self.state.withLock { state in
            if all { state.attachTrailing() }
            swap(&batch, &state.outgoing)
            if !state.queue.isEmpty {
                state.fetch = .later
                return .soon
            }
            state.fetch = .none
            return state.trailing.isEmpty ? .whenWoken : .eventually
        }
    }

    /// Takes out requests that wait and satisfy the condition.
    func takeOut(where isMeant: (IncomingRequest) -> Bool) -> [IncomingRequest] {
        self.state.withLock { $0.queue.takeOut(where: isMeant) }
    }

    /// The request that the worker was handed last and has not answered; nil while the worker waits, or runs one that was set
    /// aside.
    var current: IncomingRequest? { self.state.withLock { $0.current } }

    /// The requests that wait, the one that the worker was handed last, and those whose answers have not been fetched.
    ///
    /// - Parameter isMeant: Whether a request that waits counts.
    func held(where isMeant: (IncomingRequest) -> Bool) -> Set<MessageID> {
        self.state.withLock { state in
            let waiting = state.queue.requests.filter(isMeant).compactMap(\.messageID)
            let sent = (state.outgoing + state.trailing).filter { $0.channel.takesTasks }.compactMap {
                MessageHeader.messageID(scanning: $0.message.parent)
            }
            return Set(waiting + sent + [state.current?.messageID, state.answering].compactMap { $0 })
        }
    }

    func abortEarly(_ ids: some Sequence<MessageID>) { self.state.withLock { $0.queue.abortEarly(ids) } }

    /// Lets the worker end once it has answered the running request.
    func close() {
        let wakes = self.state.withLock { state in
            state.queue.close()
            return state.takeSleeper()
        }
        if wakes { self.wakeWorker() }
    }

    /// Closes the exchange, and drops the messages of a function that still runs.
    func abandon() {
        self.state.withLock { $0.isAbandoned = true }
        self.close()
    }

    // MARK: The worker's side

    /// Work for the worker.
    enum Work {
        case request(IncomingRequest, mayBeAborted: Bool)
        /// A call that was set aside wants its turn.
        case call(Int)
    }

    /// What a worker has to do next.
    enum Step {
        case run(Work)
        case sleep
        case end
    }

    /// Hands over the last request's messages and waits for the next work; nil when there will be none.
    func next(sending finished: inout [OutgoingMessage]) -> Work? {
        while true {
            switch self.step(sending: &finished) {
            case .run(let work): return work
            case .sleep: self.wake.wait()
            case .end: return nil
            }
        }
    }

    /// Hands over the last request's messages and takes the next work, without waiting. A worker that is told to sleep is woken
    /// when there is work.
    func step(sending finished: inout [OutgoingMessage]) -> Step {
        let (step, wakes) = self.state.withLock { state -> (Step, Bool) in
            state.take(&finished)
            state.current = nil
            state.answering = nil
            // Calls that were begun go before new requests.
            if !state.queue.isClosed, let call = state.nextWanting() {
                return (.run(.call(call)), state.wantsWake(isHurried: false))
            }
            if let (request, mayBeAborted) = state.queue.next() {
                state.current = request
                return (.run(.request(request, mayBeAborted: mayBeAborted)), state.wantsWake(isHurried: false))
            }
            let wakes = state.wantsWake(isHurried: true)
            if state.queue.isClosed { return (.end, wakes) }
            state.workerSleeps = true
            return (.sleep, wakes)
        }
        if wakes { self.wakeLoop() }
        return step
    }

    /// Sets the function that wakes a worker without a thread.
    func wakePaced(by wake: @escaping @Sendable () -> Void) { self.state.withLock { $0.wakePaced = wake } }

    private func wakeWorker() {
        if let wake = self.state.withLock({ $0.wakePaced }) { wake() } else { self.wake.signal() }
    }

    /// The worker answers a request that was set aside: until the answer has been handed over the request is found here.
    func noteAnswering(_ request: MessageID?) { self.state.withLock { $0.answering = request } }

    /// Hands over messages that cannot wait for the end of a request.
    func send(_ messages: inout [OutgoingMessage]) {
        let wakes = self.state.withLock { state in
            state.take(&messages)
            return state.wantsWake(isHurried: true)
        }
        if wakes { self.wakeLoop() }
    }

    /// Hands over a reply, and trailing messages that no client waits for: that the engine is idle.
    ///
    /// The idle status leaves with the next busy status, while the engine works, so it does not delay a client that sends one
    /// task after another.
    func send(_ messages: inout [OutgoingMessage], trailing: [OutgoingMessage]) {
        let wakes = self.state.withLock { state in
            state.take(&messages)
            if !state.isAbandoned { state.trailing += trailing }
            return state.wantsWake(isHurried: true)
        }
        if wakes { self.wakeLoop() }
    }

    /// Notes that a call wants its turn again. May be called from any thread.
    func wantTurn(_ call: Int) {
        let wakes = self.state.withLock { state in
            state.wanting.append(call)
            return state.takeSleeper()
        }
        if wakes { self.wakeWorker() }
    }

    func consumeAbortion(of id: MessageID) -> Bool { self.state.withLock { $0.queue.consumeAbortion(of: id) } }
}

extension WorkExchange.State {
    fileprivate mutating func take(_ messages: inout [OutgoingMessage]) {
        if self.isAbandoned { messages.removeAll(keepingCapacity: true) }
        guard !messages.isEmpty else { return }
        self.attachTrailing()
        self.outgoing.append(contentsOf: messages)
        messages.removeAll(keepingCapacity: true)
    }

    fileprivate mutating func attachTrailing() {
        guard !self.trailing.isEmpty else { return }
        self.outgoing.append(contentsOf: self.trailing)
        self.trailing.removeAll(keepingCapacity: true)
    }

    fileprivate mutating func nextWanting() -> Int? {
        guard self.firstWanting < self.wanting.count else { return nil }
        defer {
            self.firstWanting += 1
            if self.firstWanting == self.wanting.count {
                self.wanting.removeAll(keepingCapacity: true)
                self.firstWanting = 0
            } else if self.firstWanting > 64, self.firstWanting > self.wanting.count / 2 {
                self.wanting.removeFirst(self.firstWanting)
                self.firstWanting = 0
            }
        }
        return self.wanting[self.firstWanting]
    }

    fileprivate mutating func takeSleeper() -> Bool {
        defer { self.workerSleeps = false }
        return self.workerSleeps
    }

    /// Whether the caller must wake the loop now.
    fileprivate mutating func wantsWake(isHurried: Bool) -> Bool {
        guard !self.outgoing.isEmpty else { return false }
        switch self.fetch {
        case .now: return false
        case .later where !isHurried && self.outgoing.count < WorkExchange.batchLimit: return false
        case .later, .none:
            self.fetch = .now
            return true
        }
    }
}
