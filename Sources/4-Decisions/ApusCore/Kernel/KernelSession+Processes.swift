// The life of a process: it is started, written to, replaced, left, stopped, and followed by the next.

extension KernelSession {
    // MARK: Start

    mutating func welcome(_ process: Int, _ effects: inout [Effect]) -> State {
        switch self.state {
        case .launching(let waiting):
            if self.identity == .told { self.identity = .owed }
            effects.append(.write([.sources] + self.takeDebts(), to: process))
            return .starting(Process(number: process), waiting)
        case .stopped:
            // The session was stopped while the system started the process.
            effects.append(.letGo(process, isHurried: true))
            return .stopped
        case .starting, .idle, .handing, .running, .interrupting, .dying, .leaving, .left, .stopping, .failed:
            self.misuse("process \(process) was not ordered")
        }
    }

    mutating func noteFailedStart(_ why: String, _ effects: inout [Effect]) -> State {
        switch self.state {
        case .launching(let waiting):
            return self.goOn(after: .beforeReady, .notStarted(why), waiting.map { .waiting($0) }, &effects)
        case .stopped: return .stopped
        case .starting, .idle, .handing, .running, .interrupting, .dying, .leaving, .left, .stopping, .failed:
            self.misuse("no process was ordered")
        }
    }

    mutating func noteReady(at now: MonotonicTime, _ effects: inout [Effect]) -> State {
        switch self.state {
        case .starting(var process, let waiting):
            process.upSince = now
            effects.append(.report(.ready))
            return waiting.map { self.hand($0, to: process, &effects) } ?? .idle(process)
        // The process is up already, or is ending.
        case .launching, .idle, .handing, .running, .interrupting, .dying, .leaving, .left, .stopping, .failed, .stopped:
            return self.state
        }
    }

    // MARK: Writing

    /// Takes the pieces that are to be written before the next request. They are written once, to one process.
    mutating func takeDebts() -> [Piece] {
        var pieces: [Piece] = []
        if self.identity == .owed {
            pieces.append(.identity)
            self.identity = .told
        }
        if self.owesClear { pieces.append(.clear) }
        self.owesClear = false
        return pieces
    }

    /// Writes the owed pieces to the process, if nothing else is being written.
    private mutating func pay(_ process: Process, _ effects: inout [Effect]) -> Process {
        guard process.pen == .free else { return process }
        let debts = self.takeDebts()
        guard !debts.isEmpty else { return process }
        effects.append(.write(debts, to: process.number))
        var process = process
        process.pen = .writing
        return process
    }

    mutating func payDebts(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .starting(let process, let waiting): return .starting(self.pay(process, &effects), waiting)
        case .idle(let process): return .idle(self.pay(process, &effects))
        case .running(let process, let turn): return .running(self.pay(process, &effects), turn)
        case .interrupting(let process, let turn): return .interrupting(self.pay(process, &effects), turn)
        // The pieces are written together with the request that waits.
        case .handing: return self.state
        // The pieces are written to the next process, if there is one.
        case .launching, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    /// Notes that the write has ended. If the request was written, clients are told only now that the engine is busy, so that
    /// Python need not wait for this message, which only observers want.
    mutating func putDownPen(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .starting(var process, let waiting):
            process.pen = .free
            return .starting(self.pay(process, &effects), waiting)
        case .idle(var process):
            process.pen = .free
            return .idle(self.pay(process, &effects))
        case .handing(var process, let waiting):
            process.pen = .free
            return self.hand(waiting, to: process, &effects)
        case .running(var process, var turn):
            process.pen = .free
            turn.tellBusy(&effects)
            return .running(self.pay(process, &effects), turn)
        case .interrupting(var process, var turn):
            process.pen = .free
            turn.tellBusy(&effects)
            return .interrupting(self.pay(process, &effects), turn)
        // Nothing more is written to a process in these states.
        case .dying(let process, .handed(var turn), let end):
            turn.tellBusy(&effects)
            return .dying(process, .handed(turn), end)
        case .leaving(let process, .handed(var turn)):
            turn.tellBusy(&effects)
            return .leaving(process, .handed(turn))
        case .stopping(let process, .some(var turn)):
            turn.tellBusy(&effects)
            return .stopping(process, turn)
        case .launching, .dying, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    // MARK: End

    func replace(_ effects: inout [Effect]) -> State {
        func kill(_ process: Process, _ held: Held?) -> State {
            effects.append(.kill(process.number))
            return .dying(process, held, .replaced)
        }
        switch self.state {
        // A new process is being started anyhow.
        case .launching: return self.state
        case .starting(let process, let waiting): return kill(process, waiting.map { .waiting($0) })
        case .idle(let process): return kill(process, nil)
        case .handing(let process, let waiting): return kill(process, .waiting(waiting))
        case .running(let process, let turn), .interrupting(let process, let turn):
            self.endWatch(of: turn, &effects)
            return kill(process, .handed(turn.watched(.off)))
        case .dying(let process, let held, _): return kill(process, held)
        case .leaving(let process, _), .stopping(let process, _):
            // The process ends sooner, and still no other follows.
            effects.append(.kill(process.number))
            return self.state
        case .left, .failed, .stopped: return self.state
        }
    }

    func leave(_ effects: inout [Effect]) -> State {
        func leave(_ process: Process, _ held: Held?) -> State {
            switch held {
            // The request's reply follows; the time for the process to end begins with that.
            case .handed: break
            case .waiting, nil: effects.append(.startTimer(.linger(process: process.number), after: Self.lingerLimit))
            }
            return .leaving(process, held)
        }
        switch self.state {
        case .starting(let process, let waiting): return leave(process, waiting.map { .waiting($0) })
        case .idle(let process): return leave(process, nil)
        case .handing(let process, let waiting): return leave(process, .waiting(waiting))
        case .running(let process, let turn), .interrupting(let process, let turn): return leave(process, .handed(turn))
        case .dying(let process, let held, _): return leave(process, held)
        case .launching, .leaving, .left, .stopping, .failed, .stopped: return self.state
        }
    }

    func endLingering(_ effects: inout [Effect]) -> State {
        switch self.state {
        case .leaving(let process, _), .stopping(let process, _):
            effects.append(.kill(process.number))
            return self.state
        case .launching, .starting, .idle, .handing, .running, .interrupting, .dying, .left, .failed, .stopped: return self.state
        }
    }

    func stop(_ effects: inout [Effect]) -> State {
        func dismiss(_ waiting: Waiting?) {
            if let waiting { self.end(waiting.turn, .inPlace(.stopped, goesOn: false), &effects) }
        }
        /// A process with a request is killed at once; one without may finish its exit handlers.
        func letGo(_ process: Process, _ held: Held?) -> State {
            effects.append(.letGo(process.number, isHurried: held != nil))
            switch held {
            case .waiting(let waiting):
                dismiss(waiting)
                return .stopping(process, nil)
            case .handed(let turn):
                self.endWatch(of: turn, &effects)
                return .stopping(process, turn.watched(.off))
            case nil: return .stopping(process, nil)
            }
        }
        switch self.state {
        case .launching(let waiting):
            effects.append(.cancelStart)
            dismiss(waiting)
            return .stopped
        case .starting(let process, let waiting): return letGo(process, waiting.map { .waiting($0) })
        case .idle(let process): return letGo(process, nil)
        case .handing(let process, let waiting): return letGo(process, .waiting(waiting))
        case .running(let process, let turn), .interrupting(let process, let turn): return letGo(process, .handed(turn))
        case .dying(let process, let held, _), .leaving(let process, let held): return letGo(process, held)
        case .left(let waiting):
            dismiss(waiting)
            return .stopped
        case .stopping(let process, let turn): return letGo(process, turn.map { .handed($0) })
        case .failed, .stopped: return self.state
        }
    }

    mutating func end(_ how: String, isTorn: Bool, at now: MonotonicTime, _ effects: inout [Effect]) -> State {
        switch self.state {
        case .starting(_, let waiting):
            return self.goOn(after: .beforeReady, .endedBeforeReady(how: how), waiting.map { .waiting($0) }, &effects)
        case .idle(let process):
            return self.goOnIfWanted(after: .idle, process, nil, isTorn ? .torn : .died(how: how), now, &effects)
        case .handing(let process, let waiting):
            return self.goOnIfWanted(after: .idle, process, .waiting(waiting), isTorn ? .torn : .died(how: how), now, &effects)
        case .running(let process, let turn), .interrupting(let process, let turn):
            return self.goOnIfWanted(
                after: .duringRequest, process, .handed(turn), isTorn ? .torn : .died(how: how), now, &effects)
        case .dying(_, let held, let end): return self.goOn(after: .replaced, end, held, &effects)
        case .leaving(_, let held):
            defer { effects.append(.report(.left)) }
            switch held {
            case .handed(let turn):
                self.end(turn, .inPlace(.left, goesOn: false), &effects)
                return .left(nil)
            case .waiting(let waiting): return .left(waiting)
            case nil: return .left(nil)
            }
        case .stopping(_, let turn):
            if let turn { self.end(turn, .inPlace(.stopped, goesOn: false), &effects) }
            return .stopped
        case .launching, .left, .failed, .stopped: return self.state
        }
    }

    private mutating func goOnIfWanted(
        after ending: KernelRestarts.Ending, _ process: Process, _ held: Held?, _ end: KernelEnd, _ now: MonotonicTime,
        _ effects: inout [Effect]
    ) -> State {
        guard self.options.restarts else { return self.fail(end, held, &effects) }
        return self.goOn(after: ending, life: process.upSince.map { now - $0 } ?? .zero, end, held, &effects)
    }

    /// Orders the next process after a kernel's end, and answers the request that the kernel was handed. A request that no
    /// process was handed waits for the next.
    private mutating func goOn(
        after ending: KernelRestarts.Ending, life: Duration = .zero, _ end: KernelEnd, _ held: Held?, _ effects: inout [Effect]
    ) -> State {
        guard case .start(let pause) = self.restarts.ended(ending, after: life) else { return self.fail(end, held, &effects) }
        let waiting: Waiting?
        switch held {
        case .handed(let turn):
            self.end(turn, .inPlace(end, goesOn: true), &effects)
            waiting = nil
        case .waiting(let request): waiting = request
        case nil: waiting = nil
        }
        effects.append(.report(.restarted(end, after: pause)))
        effects.append(.start(after: pause))
        return .launching(waiting)
    }

    private func fail(_ end: KernelEnd, _ held: Held?, _ effects: inout [Effect]) -> State {
        if let held { self.end(held.turn, .inPlace(end, goesOn: false), &effects) }
        effects.append(.report(.failed(end)))
        return .failed(end)
    }
}
