internal import ApusCore
internal import CSimulatedTime
internal import Dispatch
internal import HeapModule
internal import Locks
internal import NIOCore

/// The clock and the agenda of a simulated world: one thread runs event loops, Swift's jobs and messages from one agenda.
///
/// Work that would run on other threads runs on this thread, in an order that follows from the seed. The tasks of one event loop
/// keep their order; loops and jobs are as independent of each other as threads are.
final class VirtualTime: Sendable {
    private struct Entry: Comparable {
        let time: Int64
        let order: UInt64
        let loop: VirtualLoop?
        let body: @Sendable () -> Void

        static func < (left: Entry, right: Entry) -> Bool { (left.time, left.order) < (right.time, right.order) }
        static func == (left: Entry, right: Entry) -> Bool { left.order == right.order }
    }

    private struct State {
        var now: Int64 = 1_000_000_000_000
        var order: UInt64 = 0
        var agenda = Heap<Entry>()
        var random: SeededGenerator
        /// The loop whose entry runs now; nil if the entry belongs to no loop.
        var current: VirtualLoop?
        var happened = 0
    }

    private let state: Mutex<State>
    /// The limit of a thread's random delay, in nanoseconds.
    private static let latest: Int64 = 60_000

    private init(seed: UInt64) { self.state = Mutex(State(random: SeededGenerator(seed: seed))) }

    /// Whether this system can simulate a world.
    static var isPossible: Bool { apus_simulation_is_possible() }

    /// Calls the body in a simulation: the thread's clocks, random numbers and Swift jobs are simulated until the body returns.
    static func run<Result>(seed: UInt64, _ body: (VirtualTime) -> Result) -> Result {
        let time = VirtualTime(seed: seed)
        apus_simulation_set_time(time.nanoseconds)
        apus_simulation_enter(
            Unmanaged.passUnretained(time).toOpaque(),
            { simulation, work, job, delay in
                let time = Unmanaged<VirtualTime>.fromOpaque(simulation).takeUnretainedValue()
                time.plan(in: delay + time.lateness()) { apus_simulation_run(work, job) }
            }, seed)
        defer { apus_simulation_leave() }
        return body(time)
    }

    var nanoseconds: Int64 { self.state.withLock { $0.now } }
    var now: NIODeadline { .uptimeNanoseconds(UInt64(self.nanoseconds)) }
    /// The number of agenda entries that have run.
    var happened: Int { self.state.withLock { $0.happened } }
    func isTurn(of loop: VirtualLoop) -> Bool { self.state.withLock { $0.current === loop } }

    // MARK: Chance

    /// A random number that is not negative and less than the bound.
    func below(_ bound: Int64) -> Int64 { self.state.withLock { Int64.random(in: 0..<max(bound, 1), using: &$0.random) } }
    func chance(_ percent: Int) -> Bool { self.below(100) < percent }
    /// A random delay of a thread, in nanoseconds.
    func lateness() -> Int64 { self.below(Self.latest) }

    // MARK: The agenda

    func plan(in delay: Int64, on loop: VirtualLoop? = nil, _ body: @escaping @Sendable () -> Void) {
        self.plan(at: self.nanoseconds + delay, on: loop, body)
    }

    func plan(at time: Int64, on loop: VirtualLoop? = nil, _ body: @escaping @Sendable () -> Void) {
        self.state.withLock { state in
            state.order += 1
            state.agenda.insert(Entry(time: max(time, state.now), order: state.order, loop: loop, body: body))
        }
    }

    /// Runs the next entry of the agenda.
    ///
    /// - Returns: False if no entry is left before the deadline.
    func turn(until deadline: Int64 = .max) -> Bool {
        let next = self.state.withLock { state -> Entry? in
            while let next = state.agenda.min, next.time <= deadline {
                state.agenda.removeMin()
                if let loop = next.loop, case let end = loop.pauseEnd, end > next.time {
                    // A paused process runs its entries after the pause, in the same order.
                    state.agenda.insert(Entry(time: end, order: next.order, loop: loop, body: next.body))
                    continue
                }
                state.now = max(state.now, next.time)
                state.current = next.loop
                state.happened += 1
                return next
            }
            return nil
        }
        guard let next else { return false }
        apus_simulation_set_time(self.nanoseconds)
        next.body()
        next.loop?.look()
        self.state.withLock { $0.current = nil }
        return true
    }
}

/// The event loop of one simulated process. The world's ``VirtualTime`` runs its tasks.
final class VirtualLoop: EventLoop, NIOSerialEventLoopExecutor {
    let time: VirtualTime
    private let state = Mutex(State())

    private struct State {
        /// When the last task that was given to `execute` runs.
        var last: Int64 = 0
        var pauseEnd: Int64 = 0
        var check: (@Sendable () -> Void)?
        /// The number of entries that have run since the last check.
        var unchecked = 0
    }

    /// The number of entries between checks; checks after every entry would take longer than all other work.
    private static let checkInterval = 4

    init(_ time: VirtualTime) { self.time = time }

    /// Has the loop call a check of its process's invariants after every fourth entry that runs on it.
    func check(_ check: @escaping @Sendable () -> Void) { self.state.withLock { $0.check = check } }

    fileprivate func look() {
        let check = self.state.withLock { state -> (@Sendable () -> Void)? in
            state.unchecked += 1
            guard state.unchecked >= Self.checkInterval else { return nil }
            state.unchecked = 0
            return state.check
        }
        check?()
    }

    /// The time until which the process is paused.
    var pauseEnd: Int64 {
        get { self.state.withLock { $0.pauseEnd } }
        set { self.state.withLock { $0.pauseEnd = newValue } }
    }

    // MARK: EventLoop

    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        preconditionFailure("a simulated loop ends with its world")
    }

    var inEventLoop: Bool { self.time.isTurn(of: self) }
    var now: NIODeadline { self.time.now }
    func next() -> any EventLoop { self }

    func execute(_ task: @escaping @Sendable () -> Void) {
        let soon = self.time.nanoseconds + self.time.lateness()
        let time = self.state.withLock { state in
            state.last = max(state.last, soon)
            return state.last
        }
        self.time.plan(at: time, on: self, task)
    }

    func submit<T>(_ task: @escaping @Sendable () throws -> T) -> EventLoopFuture<T> {
        let promise = self.makePromise(of: T.self)
        self.execute { Self.perform(task, promise) }
        return promise.futureResult
    }

    func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        let promise = self.makePromise(of: T.self)
        let isCancelled = Flag()
        self.time.plan(at: Int64(clamping: deadline.uptimeNanoseconds), on: self) {
            if !isCancelled.isSet { Self.perform(task, promise) }
        }
        return Scheduled(promise: promise) { isCancelled.set() }
    }

    private static func perform<T>(_ task: () throws -> T, _ promise: EventLoopPromise<T>) {
        do { promise.assumeIsolated().succeed(try task()) } catch { promise.fail(error) }
    }

    func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        self.scheduleTask(deadline: self.now + delay, task)
    }

    func makeIterator() -> EventLoopIterator { EventLoopIterator([self]) }
    func any() -> any EventLoop { self }
    func preconditionInEventLoop(file: StaticString, line: UInt) { precondition(self.inEventLoop, file: file, line: line) }
    func preconditionNotInEventLoop(file: StaticString, line: UInt) { precondition(!self.inEventLoop, file: file, line: line) }
}

/// A Boolean value that any thread may read and set.
final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { self.value.load(ordering: .relaxed) }
    func set() { self.value.store(true, ordering: .relaxed) }
}
