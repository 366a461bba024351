// The life of a request: it is handed over, begun, interrupted, published for, and answered.

extension KernelSession {
    // MARK: Handing over

    mutating func take(_ request: Request, _ effects: inout [Effect]) -> State {
        guard request.number > self.lastRequest else { self.misuse("request \(request.number) is not the next") }
        let turn = Turn(request)
        defer { self.lastRequest = request.number }
        switch self.state {
        case .launching(nil): return .launching(.asked(turn))
        case .starting(let process, nil): return .starting(process, .asked(turn))
        case .idle(let process): return self.hand(.asked(turn), to: process, &effects)
        case .dying(let process, nil, let end): return .dying(process, .waiting(.asked(turn)), end)
        case .leaving(let process, nil): return .leaving(process, .waiting(.asked(turn)))
        case .left(nil): return .left(.asked(turn))
        case .stopping(_, nil), .stopped:
            self.end(turn, .inPlace(.stopped, goesOn: false), &effects)
            return self.state
        case .failed(let end):
            self.end(turn, .inPlace(end, goesOn: false), &effects)
            return self.state
        case .launching, .starting, .handing, .running, .interrupting, .dying, .leaving, .left, .stopping:
            self.misuse("request \(request.number) came before the end of the last")
        }
    }

    /// Hands the request, after owed pieces, to a process that is up; if the process cannot be written to yet, the request waits.
    mutating func hand(_ waiting: Waiting, to process: Process, _ effects: inout [Effect]) -> State {
        guard process.pen == .free else { return .handing(process, waiting) }
        let number = waiting.turn.request.number
        var process = process
        process.pen = .writing
        process.handed += 1
        process.lastHanded = number
        effects.append(.write(self.takeDebts() + [.request(number)], to: process.number))
        switch waiting {
        case .asked(let turn): return .running(process, turn)
        case .interrupted(let turn):
            effects.append(.startTimer(.interruptAgain(request: number), after: Self.interruptPause))
            return .interrupting(process, turn)
        }
    }

    // MARK: Interrupts

    func interrupt(_ effects: inout [Effect]) -> State {
        switch self.state {
        // Before the kernel has set its own signal handler, Python's handler would end the process.
        case .launching(let waiting): return .launching(waiting?.interrupted)
        case .starting(let process, let waiting): return .starting(process, waiting?.interrupted)
        case .handing(let process, let waiting):
            // Work in the kernel's event loop may keep the kernel from reading the bytes that are being written.
            effects.append(.interrupt(process.number))
            return .handing(process, waiting.interrupted)
        case .running(let process, let turn), .interrupting(let process, let turn):
            effects.append(.interrupt(process.number))
            return .interrupting(process, turn)
        case .dying(let process, .waiting(let waiting), let end): return .dying(process, .waiting(waiting.interrupted), end)
        case .leaving(let process, .some):
            // The process may hang in its exit handlers.
            effects.append(.interrupt(process.number))
            return self.state
        case .idle, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    /// The process ran nothing when the signal came: the request was on its way to it, or had just ended.
    func interruptSoon(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .interrupting(_, let turn):
            effects.append(.startTimer(.interruptAgain(request: turn.request.number), after: Self.interruptPause))
            return self.state
        case .running:
            // The interrupt was for an earlier request, which ended first.
            return self.state
        // A request that waits is interrupted when it is handed over.
        case .launching, .starting, .idle, .handing, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    func interruptAgain(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .interrupting(let process, _):
            effects.append(.interrupt(process.number))
            return self.state
        case .launching, .starting, .idle, .handing, .running, .dying, .leaving, .left, .stopping, .failed, .stopped:
            return self.state
        }
    }

    // MARK: Limits

    /// Starts the limit of the request that Python has begun; Python reports the beginning of requests with a limit only. Time
    /// before does not count, because other work may have delayed the kernel.
    func noteBeginning(_ effects: inout [Effect]) -> State {
        func begin(_ turn: Turn) -> Turn {
            guard let limit = turn.request.limit, turn.watch == .off else { return turn }
            effects.append(.startTimer(.limit(request: turn.request.number), after: .seconds(limit)))
            return turn.watched(.limit)
        }
        switch self.state {
        case .running(let process, let turn): return .running(process, begin(turn))
        case .interrupting(let process, let turn): return .interrupting(process, begin(turn))
        case .leaving(let process, .handed(let turn)): return .leaving(process, .handed(begin(turn)))
        case .launching, .starting, .idle, .handing, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    func passLimit(_ effects: inout [Effect]) -> State {
        func interrupt(_ turn: Turn, _ process: Process) -> Turn {
            guard turn.watch == .limit else { return turn }
            effects.append(.interrupt(process.number))
            effects.append(.startTimer(.grace(request: turn.request.number), after: .seconds(self.options.grace)))
            return turn.watched(.grace)
        }
        switch self.state {
        case .running(let process, let turn):
            return turn.watch == .limit ? .interrupting(process, interrupt(turn, process)) : self.state
        case .interrupting(let process, let turn): return .interrupting(process, interrupt(turn, process))
        case .leaving(let process, .handed(let turn)): return .leaving(process, .handed(interrupt(turn, process)))
        case .launching, .starting, .idle, .handing, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    func endGrace(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .interrupting(let process, let turn):
            guard turn.watch == .grace, let limit = turn.request.limit else { return self.state }
            effects.append(.kill(process.number))
            return .dying(process, .handed(turn.watched(.off)), .ignoredInterrupt(limit: limit, grace: self.options.grace))
        case .leaving(let process, .handed(let turn)):
            if turn.watch == .grace { effects.append(.kill(process.number)) }
            return self.state
        case .launching, .starting, .idle, .handing, .running, .dying, .leaving, .left, .stopping, .failed, .stopped:
            return self.state
        }
    }

    // MARK: Output and answers

    /// Publishes output for the request that it names, or for the last request if it names no known one. Output may name an ended
    /// request, because a task that the request left in Python's event loop can print much later.
    func publish(for place: Int, _ effects: inout [Effect]) -> State {
        guard let process = self.state.process else { return self.state }
        let own = process.request(at: place)
        // Before the first request there is no request to publish for.
        guard let parent = own ?? (self.lastRequest > 0 ? self.lastRequest : nil) else { return self.state }
        let counts = own == nil || own == self.request
        let state =
            counts
            ? self.state.changingTurn { turn in
                turn.tellBusy(&effects)
                turn.outputs += 1
            } : self.state
        effects.append(.publish(for: parent))
        return state
    }

    /// Answers the request that the process was handed. A killed process may have answered before the signal reached it.
    func passOn(_ answer: Answer, _ effects: inout [Effect]) -> State {
        switch self.state {
        case .running(let process, let turn), .interrupting(let process, let turn):
            self.end(turn, answer, &effects)
            return .idle(process)
        case .dying(let process, .handed(let turn), let end):
            self.end(turn, answer, &effects)
            return .dying(process, nil, end)
        case .leaving(let process, .handed(let turn)):
            self.end(turn, answer, &effects)
            effects.append(.startTimer(.linger(process: process.number), after: Self.lingerLimit))
            return .leaving(process, nil)
        case .stopping(let process, .some(let turn)):
            self.end(turn, answer, &effects)
            return .stopping(process, nil)
        // User code may write to the kernel's descriptor; a request that no process was handed is not answered by that.
        case .launching, .starting, .idle, .handing, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    /// Answers the request. No other effect concerns the request after this, except late output.
    func end(_ turn: Turn, _ answer: Answer, _ effects: inout [Effect]) {
        var turn = turn
        self.endWatch(of: turn, &effects)
        turn.tellBusy(&effects)
        effects.append(.answer(turn.request.number, answer, outputs: turn.outputs))
    }

    /// Stops the request's timer, which may have been set for years.
    func endWatch(of turn: Turn, _ effects: inout [Effect]) {
        switch turn.watch {
        case .off: break
        case .limit: effects.append(.stopTimer(.limit(request: turn.request.number)))
        case .grace: effects.append(.stopTimer(.grace(request: turn.request.number)))
        }
    }
}
