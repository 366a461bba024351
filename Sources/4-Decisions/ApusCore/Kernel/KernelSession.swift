/// Decides over an engine's Python requests, and over the interpreter that runs them.
///
/// The engine's worker brings one request at a time and waits for its end. Each request ends exactly once: with Python's answer,
/// or with the reason why Python cannot answer. A request that no process was handed survives the end of a process and is handed
/// to the next.
///
/// The session is a value. An event goes in, the effects it calls for come out, in the order in which they must be performed.
/// Effects that take time, ``Effect/start(after:)``, ``Effect/write(_:to:)`` and ``Effect/letGo(_:isHurried:)``, report their end
/// as an event. All others, signals among them, are performed before the next event is handled. So no interrupt can hit the next
/// request, because the worker brings that one after the answer to the last.
package struct KernelSession: Sendable {
    /// A request as the session knows it.
    package struct Request: Sendable, Equatable {
        /// Requests are numbered as they come, from 1.
        package let number: Int
        /// Seconds that it may run; nil: without limit.
        package let limit: Double?
        /// Whether no client wants the message that the engine is busy with the request.
        package let isQuiet: Bool

        package init(number: Int, limit: Double? = nil, isQuiet: Bool = true) {
            self.number = number
            self.limit = limit
            self.isQuiet = isQuiet
        }
    }

    package enum Event: Sendable, Equatable {
        /// The worker brings a request, and waits for its end.
        case requested(Request)
        /// The engine has an id on the wire, or a new one.
        case connected
        /// A client wants the namespace emptied.
        case clearAsked
        /// A client wants a request interrupted; nil: the one that runs.
        case interruptAsked(request: Int?)
        /// A client wants another interpreter, whatever this one is doing.
        case restartAsked
        /// The engine ends.
        case stopAsked
        /// The system has started a process. Processes have numbers, none of them twice.
        case started(process: Int)
        /// The system has started no process, for this reason.
        case startFailed(String)
        /// The write to the process has ended, successfully or because the process is gone.
        case written(process: Int)
        /// The process sent a message.
        case said(Saying, by: Int)
        /// The process is gone, and all of its messages were reported.
        case ended(process: Int, how: String, isTorn: Bool, at: MonotonicTime)
        case timerFired(Timer)
    }

    /// A message of a kernel (`kernel.py`).
    package enum Saying: Sendable, Equatable {
        /// Python is up.
        case ready(at: MonotonicTime)
        /// The request, which has a limit, begins.
        case begun
        /// An interrupt came while no request ran.
        case missedInterrupt
        /// Output is to be published for a request, given by its place among those that this process was handed: 1, 2 and so on.
        case published(place: Int)
        /// The request has ended, perhaps with an error that stops the cells queued behind it.
        case replied(stopsOthers: Bool)
        /// User code wants the interpreter to end; at most one reply follows.
        case leaves
    }

    /// A timer, with the number of its request or process, so that a timer that fires late affects no other.
    package enum Timer: Sendable, Hashable {
        /// The request has run for as long as it may.
        case limit(request: Int)
        /// The time for the request to end after its interrupt at the limit is over.
        case grace(request: Int)
        /// The last interrupt may have come before Python began the request.
        case interruptAgain(request: Int)
        /// The time for a process that user code has ended to go is over.
        case linger(process: Int)
    }

    package enum Effect: Sendable, Equatable {
        /// Start a process after this pause; report ``Event/started(process:)`` or ``Event/startFailed(_:)``.
        case start(after: Duration)
        /// End the pause: no process is wanted any more.
        case cancelStart
        /// Write these pieces to the process; report ``Event/written(process:)``. May block.
        case write([Piece], to: Int)
        /// Send the process SIGINT.
        case interrupt(Int)
        /// Send the process SIGKILL.
        case kill(Int)
        /// Tell the process that no more requests come, and kill it if it has not ended after a while, or at once.
        case letGo(Int, isHurried: Bool)
        /// Start the timer; a timer that runs already starts anew.
        case startTimer(Timer, after: Duration)
        case stopTimer(Timer)
        /// Tell clients that the engine is busy with the request.
        case tellBusy(Int)
        /// Publish the output that the event brought for the request.
        case publish(for: Int)
        /// Send the request's only reply and let the worker go on. `outputs` messages were published for the request.
        case answer(Int, Answer, outputs: Int)
        case report(Report)
    }

    /// A piece of data that is written to a kernel.
    package enum Piece: Sendable, Equatable {
        /// The kernel's own code and its settings.
        case sources
        /// The engine's identity on the wire.
        case identity
        /// Empty the namespace.
        case clear
        case request(Int)
    }

    package enum Answer: Sendable, Equatable {
        /// Python's reply, which the event brought.
        case asPythonSays(stopsOthers: Bool)
        /// An error in place of Python's reply; `goesOn` says whether the engine goes on with another kernel.
        case inPlace(KernelEnd, goesOn: Bool)
    }

    /// A change of the kernel that the engine must know.
    package enum Report: Sendable, Equatable {
        case ready
        /// The kernel ended, and the next one follows after this pause.
        case restarted(KernelEnd, after: Duration)
        /// There is no kernel any more; the engine cannot go on.
        case failed(KernelEnd)
        /// User code has ended the interpreter.
        case left
    }

    package struct Options: Sendable, Equatable {
        /// Whether a kernel that died is replaced by a new one; otherwise the engine ends with it.
        package var restarts = true
        /// Seconds that a request may take to end after it was interrupted at its limit.
        package var grace = 2.0

        package init() {}
    }

    // MARK: State

    /// How many of the requests that a process was handed can still be published for.
    package static let rememberedRequests = 1024
    /// An interrupt that came too early is repeated after this time.
    package static let interruptPause = Duration.milliseconds(5)
    /// A process that user code has ended is killed after this time, if it waits for its threads, say.
    package static let lingerLimit = Duration.seconds(2)

    let options: Options
    var state = State.launching(nil)
    var restarts = KernelRestarts()
    var identity = Identity.unknown
    /// Whether the namespace is to be emptied before the next request.
    var owesClear = false
    /// The number of the request that came last, which gets output that names no known request. 0 before the first.
    var lastRequest = 0

    /// A new session, which waits for its first process; the caller must start one.
    package init(options: Options = Options()) { self.options = options }

    /// The request that the worker waits for.
    package var request: Int? { self.state.turn?.request.number }

    // MARK: Events

    package mutating func handle(_ event: Event) -> [Effect] {
        var effects: [Effect] = []
        self.state = self.next(after: event, &effects)
        return effects
    }

    /// The state that follows. Each event has a function, with a branch for each state, so that a forgotten case does not
    /// compile.
    private mutating func next(after event: Event, _ effects: inout [Effect]) -> State {
        switch event {
        case .requested(let request): return self.take(request, &effects)
        case .connected:
            self.identity = .owed
            return self.payDebts(&effects)
        case .clearAsked:
            self.owesClear = true
            return self.payDebts(&effects)
        case .interruptAsked(let request):
            guard request == nil || request == self.request else { return self.state }
            return self.interrupt(&effects)
        case .restartAsked: return self.replace(&effects)
        case .stopAsked: return self.stop(&effects)
        case .started(let process): return self.welcome(process, &effects)
        case .startFailed(let why): return self.noteFailedStart(why, &effects)
        case .written(let process):
            guard self.state.process?.number == process else { return self.state }
            return self.putDownPen(&effects)
        case .said(let saying, let process):
            // A message of a process that is gone is ignored.
            guard self.state.process?.number == process else { return self.state }
            switch saying {
            case .ready(let now): return self.noteReady(at: now, &effects)
            case .begun: return self.noteBeginning(&effects)
            case .missedInterrupt: return self.interruptSoon(&effects)
            case .published(let place): return self.publish(for: place, &effects)
            case .replied(let stopsOthers): return self.passOn(.asPythonSays(stopsOthers: stopsOthers), &effects)
            case .leaves: return self.leave(&effects)
            }
        case .ended(let process, let how, let isTorn, let now):
            guard self.state.process?.number == process else { return self.state }
            return self.end(how, isTorn: isTorn, at: now, &effects)
        case .timerFired(.limit(let request)):
            guard request == self.request else { return self.state }
            return self.passLimit(&effects)
        case .timerFired(.grace(let request)):
            guard request == self.request else { return self.state }
            return self.endGrace(&effects)
        case .timerFired(.interruptAgain(let request)):
            guard request == self.request else { return self.state }
            return self.interruptAgain(&effects)
        case .timerFired(.linger(let process)):
            guard self.state.process?.number == process else { return self.state }
            return self.endLingering(&effects)
        }
    }

    /// Stops the program because the session's driver broke its rules.
    func misuse(_ what: String) -> Never { preconditionFailure("\(what), while the session is \(self)") }
}
