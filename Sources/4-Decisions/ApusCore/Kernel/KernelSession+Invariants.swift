extension KernelSession {
    /// Throws if the stored values contradict each other; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        func demand(_ holds: Bool, _ what: @autoclosure () -> String) throws(BrokenInvariant) {
            if !holds { throw BrokenInvariant(description: "\(what()), while the session is \(self)") }
        }
        func demandHanded(_ turn: Turn?, to process: Process) throws(BrokenInvariant) {
            guard let turn else { return }
            try demand(process.handed > 0 && process.lastHanded == turn.request.number, "the process was handed another request")
        }
        func demandWaiting(_ waiting: Waiting?, at process: Process?) throws(BrokenInvariant) {
            guard let turn = waiting?.turn else { return }
            try demand(turn.watch == .off, "the limit of a request that waits is watched")
            try demand(process?.lastHanded != turn.request.number, "a request that waits was handed over")
        }
        if let request { try demand(request == self.lastRequest, "request \(request) is not the last") }
        let owes = self.identity == .owed || self.owesClear
        switch self.state {
        case .launching(let waiting), .left(let waiting): try demandWaiting(waiting, at: nil)
        case .starting(let process, let waiting):
            try demand(process.upSince == nil, "the process is up")
            try demand(process.pen == .writing || !owes, "what is owed is not written")
            try demandWaiting(waiting, at: process)
        case .idle(let process):
            try demand(process.upSince != nil, "the process is not up")
            try demand(process.pen == .writing || !owes, "what is owed is not written")
        case .handing(let process, let waiting):
            try demand(process.upSince != nil, "the process is not up")
            try demand(process.pen == .writing, "the request waits for nothing")
            try demandWaiting(waiting, at: process)
        case .running(let process, let turn), .interrupting(let process, let turn):
            try demand(process.upSince != nil, "the process is not up")
            try demand(process.pen == .writing || !owes, "what is owed is not written")
            try demand(process.pen == .writing || !turn.owesBusy, "nobody was told that the engine is busy")
            try demandHanded(turn, to: process)
            if case .running = self.state { try demand(turn.watch != .grace, "the request was interrupted at its limit") }
        case .dying(let process, let held, _), .leaving(let process, let held):
            switch held {
            case .waiting(let waiting): try demandWaiting(waiting, at: process)
            case .handed(let turn): try demandHanded(turn, to: process)
            case nil: break
            }
        case .stopping(let process, let turn): try demandHanded(turn, to: process)
        case .failed, .stopped: break
        }
    }
}

extension KernelSession: CustomStringConvertible {
    /// The state by its name, with the numbers of the process and of the request: "running, process 2, request 7".
    package var description: String {
        let name =
            switch self.state {
            case .launching: "launching"
            case .starting: "starting"
            case .idle: "idle"
            case .handing: "handing"
            case .running: "running"
            case .interrupting: "interrupting"
            case .dying: "dying"
            case .leaving: "leaving"
            case .left: "left"
            case .stopping: "stopping"
            case .failed: "failed"
            case .stopped: "stopped"
            }
        let process = self.state.process.map { ", process \($0.number)" } ?? ""
        let request = self.request.map { ", request \($0)" } ?? ""
        return name + process + request
    }
}
