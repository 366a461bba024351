// The states of a session, and their values.

extension KernelSession {
    enum State {
        /// There is no process; one is ordered, perhaps after a pause. Becomes `starting`; `launching` again or `failed`, if the system
        /// starts none; or `stopped`.
        case launching(Waiting?)
        /// The process is not up yet. Becomes `idle`, or with a request `running`, `interrupting` or `handing`; `dying`, `leaving` or
        /// `stopping`; and at the process's end `launching` or `failed`.
        case starting(Process, Waiting?)
        /// The process is up and has nothing to do. Becomes `running` or `handing`; `dying`, `leaving` or `stopping`; and at the
        /// process's end `launching` or `failed`.
        case idle(Process)
        /// The request waits for the end of a write to the process. Becomes `running` or `interrupting`; `dying`,
        /// `leaving` or `stopping`; and at the process's end `launching`, with its request, or `failed`.
        case handing(Process, Waiting)
        /// The process was handed the request. Becomes `idle` or `interrupting`; `dying`, `leaving` or `stopping`; and at the process's
        /// end `launching` or `failed`.
        case running(Process, Turn)
        /// As `running`, but a client wants the request to end, or its limit has passed. Becomes `idle`; `dying`, `leaving` or
        /// `stopping`; and at the process's end `launching` or `failed`.
        case interrupting(Process, Turn)
        /// The session killed the process, for this reason; new requests wait for the next process. Becomes `launching`;
        /// `leaving`, if user code ended the process before; or `stopping`.
        case dying(Process, Held?, KernelEnd)
        /// User code has ended the interpreter: the process is handed no more requests. Becomes `left` or `stopping`.
        case leaving(Process, Held?)
        /// User code has ended the interpreter, and the engine ends: a request that comes meanwhile is not begun. Becomes `stopped`.
        case left(Waiting?)
        /// The engine ends, and the process has some time for its exit handlers. Becomes `stopped`.
        case stopping(Process, Turn?)
        /// There is no interpreter and will be none, for this reason: each request is answered at once. Terminal.
        case failed(KernelEnd)
        /// The engine ends: each request is answered at once. Terminal.
        case stopped
    }

    /// A process, from its start to its end.
    struct Process {
        let number: Int
        var pen = Pen.writing
        /// How many requests the process was handed; their numbers follow each other, up to `lastHanded`.
        var handed = 0
        var lastHanded = 0
        /// When the process was up, because its life decides when the next one is started; nil while it is not up.
        var upSince: MonotonicTime?

        /// The number of the request at that place; nil if there is none, or if it was too long ago.
        func request(at place: Int) -> Int? {
            place >= 1 && place <= self.handed && place > self.handed - KernelSession.rememberedRequests
                ? self.lastHanded - self.handed + place : nil
        }
    }

    /// Whether a process can be written to: only one thread writes at a time, so that frames stay whole.
    enum Pen { case free, writing }

    /// A request that was not answered.
    struct Turn {
        let request: Request
        /// Whether clients are still to be told that the engine is busy with the request, before any of its output.
        var owesBusy: Bool
        /// How many messages were published for the request so far.
        var outputs = 0
        var watch = Watch.off

        init(_ request: Request) {
            self.request = request
            self.owesBusy = !request.isQuiet
        }
    }

    /// Which timer of a request's limit runs.
    enum Watch {
        /// No timer runs. Becomes `limit` when Python says that it begins the request, if the request has a limit.
        case off
        /// The timer of that name runs. Becomes `grace`.
        case limit
        /// The request was interrupted at its limit, and the timer of that name runs. Terminal.
        case grace
    }

    /// A request that no process was handed.
    enum Waiting {
        /// Becomes `interrupted`.
        case asked(Turn)
        /// The request is to be interrupted as soon as Python has begun it. Terminal.
        case interrupted(Turn)
    }

    /// The request of a process that is handed no more requests.
    enum Held {
        /// No process was handed the request.
        case waiting(Waiting)
        /// This process was handed the request.
        case handed(Turn)
    }

    /// Whether the process must get the engine's identity on the wire before its next request.
    enum Identity {
        /// The engine has no id yet. Becomes `owed`.
        case unknown
        /// Becomes `told`.
        case owed
        /// Becomes `owed` with the next process, or when the engine has another id.
        case told
    }
}

extension KernelSession.Turn {
    mutating func tellBusy(_ effects: inout [KernelSession.Effect]) {
        if self.owesBusy { effects.append(.tellBusy(self.request.number)) }
        self.owesBusy = false
    }

    func watched(_ watch: KernelSession.Watch) -> Self {
        var turn = self
        turn.watch = watch
        return turn
    }
}

extension KernelSession.Waiting {
    var turn: KernelSession.Turn {
        switch self {
        case .asked(let turn), .interrupted(let turn): turn
        }
    }

    var interrupted: Self { .interrupted(self.turn) }

    func changingTurn(_ change: (inout KernelSession.Turn) -> Void) -> Self {
        var turn = self.turn
        change(&turn)
        switch self {
        case .asked: return .asked(turn)
        case .interrupted: return .interrupted(turn)
        }
    }
}

extension KernelSession.Held {
    var turn: KernelSession.Turn {
        switch self {
        case .waiting(let waiting): waiting.turn
        case .handed(let turn): turn
        }
    }

    func changingTurn(_ change: (inout KernelSession.Turn) -> Void) -> Self {
        switch self {
        case .waiting(let waiting): return .waiting(waiting.changingTurn(change))
        case .handed(var turn):
            change(&turn)
            return .handed(turn)
        }
    }
}

extension KernelSession.State {
    /// The process, in any state that has one.
    var process: KernelSession.Process? {
        switch self {
        case .starting(let process, _), .idle(let process), .handing(let process, _), .running(let process, _),
            .interrupting(let process, _), .dying(let process, _, _), .leaving(let process, _), .stopping(let process, _):
            process
        case .launching, .left, .failed, .stopped: nil
        }
    }

    /// The unanswered request, in any state that has one.
    var turn: KernelSession.Turn? {
        switch self {
        case .launching(let waiting), .starting(_, let waiting), .left(let waiting): waiting?.turn
        case .handing(_, let waiting): waiting.turn
        case .running(_, let turn), .interrupting(_, let turn): turn
        case .dying(_, let held, _), .leaving(_, let held): held?.turn
        case .stopping(_, let turn): turn
        case .idle, .failed, .stopped: nil
        }
    }

    /// The same state, with a change to its request if there is one.
    func changingTurn(_ change: (inout KernelSession.Turn) -> Void) -> Self {
        switch self {
        case .launching(let waiting): return .launching(waiting?.changingTurn(change))
        case .starting(let process, let waiting): return .starting(process, waiting?.changingTurn(change))
        case .handing(let process, let waiting): return .handing(process, waiting.changingTurn(change))
        case .running(let process, var turn):
            change(&turn)
            return .running(process, turn)
        case .interrupting(let process, var turn):
            change(&turn)
            return .interrupting(process, turn)
        case .dying(let process, let held, let end): return .dying(process, held?.changingTurn(change), end)
        case .leaving(let process, let held): return .leaving(process, held?.changingTurn(change))
        case .left(let waiting): return .left(waiting?.changingTurn(change))
        case .stopping(let process, .some(var turn)):
            change(&turn)
            return .stopping(process, turn)
        case .idle, .stopping(_, nil), .failed, .stopped: return self
        }
    }
}
