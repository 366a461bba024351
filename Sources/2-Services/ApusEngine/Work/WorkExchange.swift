import ApusCore
import ApusWire
import Dispatch
import NIOCore
import Locks

/// A request as it came, unread.
struct IncomingRequest: Sendable {
    let channel: EngineChannel
    let frames: [ByteBuffer]
    /// What is wrong with it, if something is that its sender is to be told.
    var problem: String?
}

/// Where the event loop and the worker meet: requests go one way, replies and output the other.
///
/// Both sides hold the lock for moments only. The worker takes one request at a time, so that whatever waits can be taken back;
/// what it sends leaves in batches, a wake-up of the loop for each and not for each task.
final class WorkExchange: Sendable {
    fileprivate struct State {
        var queue = RequestQueue<IncomingRequest>()
        /// What was handed out last, unless the worker has asked for more since.
        var current: IncomingRequest?
        /// Calls that want their turn again, in order; those before `firstWanting` have had it.
        var wanting: [Int] = []
        var firstWanting = 0
        /// What the loop has not fetched, in order.
        var outgoing: [OutgoingMessage] = []
        /// What follows `outgoing` and waits a moment for something to leave with.
        var trailing: [OutgoingMessage] = []
        /// Whether the loop will fetch: it was woken, or a timer is running there.
        var fetch = Fetch.none
        /// Whether the worker waits at the semaphore, or is about to.
        var workerSleeps = false
        /// The loop is not to be woken any more.
        var isAbandoned = false
        /// Wakes a worker that has no thread to sleep.
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

    /// So many messages do not wait for the timer.
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
        /// The worker goes on.
        case soon
        /// Something trails behind.
        case eventually
    }

    /// Gives what is to be sent.
    ///
    /// - Parameter all: Also what waits for something to leave with.
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

    /// The request that the worker was handed last and has not answered; nil while it waits, or runs one that was set aside.
    var current: IncomingRequest? { self.state.withLock { $0.current } }

    func abortEarly(_ ids: some Sequence<MessageID>) { self.state.withLock { $0.queue.abortEarly(ids) } }

    /// Lets the worker end once it has answered what it runs.
    func close() {
        let wakes = self.state.withLock { state in
            state.queue.close()
            return state.takeSleeper()
        }
        if wakes { self.wakeWorker() }
    }

    /// As ``close()``; and what a function still running may send is dropped.
    func abandon() {
        self.state.withLock { $0.isAbandoned = true }
        self.close()
    }

    // MARK: The worker's side

    /// What there is to do.
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

    /// Hands over what the last request gave and waits for the next; nil when there will be none.
    func next(sending finished: inout [OutgoingMessage]) -> Work? {
        while true {
            switch self.step(sending: &finished) {
            case .run(let work): return work
            case .sleep: self.wake.wait()
            case .end: return nil
            }
        }
    }

    /// Hands over what the last request gave and takes the next, without waiting for one. A worker that is told to sleep is woken.
    func step(sending finished: inout [OutgoingMessage]) -> Step {
        let (step, wakes) = self.state.withLock { state -> (Step, Bool) in
            state.take(&finished)
            state.current = nil
            // What was begun goes before what was not.
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

    /// Has the worker woken by a call: it has no thread that sleeps.
    func wakePaced(by wake: @escaping @Sendable () -> Void) { self.state.withLock { $0.wakePaced = wake } }

    private func wakeWorker() {
        if let wake = self.state.withLock({ $0.wakePaced }) { wake() } else { self.wake.signal() }
    }

    /// Hands over what cannot wait for the end of a request.
    func send(_ messages: inout [OutgoingMessage]) {
        let wakes = self.state.withLock { state in
            state.take(&messages)
            return state.wantsWake(isHurried: true)
        }
        if wakes { self.wakeLoop() }
    }

    /// Hands over a reply and what follows it and is waited for by nobody: that the engine is idle.
    ///
    /// Clients that take one task after the other are then not kept by it from sending the next: it reaches them with the next
    /// busy, while the engine works.
    func send(_ messages: inout [OutgoingMessage], trailing: [OutgoingMessage]) {
        let wakes = self.state.withLock { state in
            state.take(&messages)
            if !state.isAbandoned { state.trailing += trailing }
            return state.wantsWake(isHurried: true)
        }
        if wakes { self.wakeLoop() }
    }

    /// A call wants its turn; from any thread.
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
