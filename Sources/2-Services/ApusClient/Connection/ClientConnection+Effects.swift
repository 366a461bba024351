import ApusCore
import ApusWire
import Logging
import NIOCore
import Locks

// Events, through the session, to effects.
extension ClientConnection {
    /// A message or an error that came with an event. The session does not look at the cargo; its effects say what the cargo is
    /// for.
    enum Cargo {
        case nothing
        case reply(Message, received: WireDate)
        case output(MessageType, Message)
        case results([TaskID: RecordedResult])
        case cause(any Error)
    }

    /// A part of an effect that is done without the lock, because it takes time or calls waiting code, which may submit more
    /// tasks.
    enum Deed: Sendable {
        case finish(PendingTask)
        /// Indirect, because this case is many times as large as the frequent ones.
        indirect case keepOutput(PendingTask, MessageType, Message, isEnd: Bool)
        case fail(PendingTask, ClientSession.Failure, cause: (any Error)?)
        /// Send what is in the outbound batch.
        case drain
        case wake([@Sendable () -> Void])
        case warnOfNoEngines(waiting: Int)
        case refreshEngines
        case identifyHub(recovery: Int)
        case fetchResults([TaskID], recovery: Int)
        case findEngines([TaskID], recovery: Int)
    }

    /// Has the session decide on an event, and does what follows.
    func handle(_ event: ClientSession.Event, with cargo: Cargo = .nothing) {
        let now = MonotonicTime.now
        let deeds = self.state.withLock { state in
            var deeds: [Deed] = []
            self.decide(event, with: cargo, at: now, &state, &deeds)
            return deeds
        }
        self.perform(deeds)
    }

    /// Handles an event on the event loop, from any thread. Events that end tasks take this way, so that they do not overtake a
    /// reply that the event loop has taken.
    func handleOnLoop(_ event: ClientSession.Event, with cargo: Cargo = .nothing) {
        self.eventLoop.execute { self.handle(event, with: cargo) }
    }

    /// Has the session decide on an event, and does what must be done before the next one.
    func decide(
        _ event: ClientSession.Event, with cargo: Cargo = .nothing, at now: MonotonicTime, _ state: inout State,
        _ deeds: inout [Deed]
    ) {
        state.core.handle(event, at: now, effects: &state.effects)
        self.carryOut(with: cargo, &state, &deeds)
    }

    /// Does what must be done of the effects before the next event: finds the tasks that they name, keeps outcomes, sets the
    /// timer.
    func carryOut(with cargo: Cargo = .nothing, _ state: inout State, _ deeds: inout [Deed]) {
        for index in state.effects.indices {
            switch state.effects[index] {
            case .keepReply(let slot, let next):
                guard case .reply(let message, let received) = cargo else { continue }
                state.task(slot).keep(message, received: received)
                switch next {
                case .wait: break
                case .tell: deeds.append(.finish(state.task(slot)))
                case .end: deeds.append(.finish(state.removeTask(slot)))
                }
            case .keepOutput(let slot, let next):
                guard case .output(let type, let message) = cargo else { continue }
                let task = next == .end ? state.removeTask(slot) : state.task(slot)
                deeds.append(.keepOutput(task, type, message, isEnd: next != .wait))
            case .restore(let slot):
                guard case .results(let results) = cargo else { continue }
                let task = state.removeTask(slot)
                if let result = results[task.id] { task.keep(result) }
                deeds.append(.finish(task))
            case .conclude(let slot): deeds.append(.finish(state.removeTask(slot)))
            case .fail(let slot, let failure):
                let cause: (any Error)? = if case .cause(let error) = cargo { error } else { nil }
                deeds.append(.fail(state.removeTask(slot), failure, cause: cause))
            case .forget(let slot): _ = state.removeTask(slot)
            case .sendAgain(let slot):
                guard let channel = state.task(slot).channel else { continue }
                state.outbound.append((channel: channel, frames: state.requests[slot]))
                if !state.drainIsScheduled { deeds.append(.drain) }
                state.drainIsScheduled = true
            case .announceChange:
                deeds.append(.wake(state.changeWatchers))
                state.changeWatchers = []
            case .setTimer(let time):
                state.timer?.cancel()
                state.timer = self.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(time.nanoseconds)) { [weak self] in
                    self?.handle(.timerFired)
                }
            case .warnOfNoEngines(let waiting): deeds.append(.warnOfNoEngines(waiting: waiting))
            case .refreshEngines: deeds.append(.refreshEngines)
            case .identifyHub(let recovery): deeds.append(.identifyHub(recovery: recovery))
            case .fetchResults(let tasks, let recovery): deeds.append(.fetchResults(tasks, recovery: recovery))
            case .findEngines(let tasks, let recovery): deeds.append(.findEngines(tasks, recovery: recovery))
            }
        }
        // Nearly always there is one effect or none, and then this costs much less than to remove all and keep the memory.
        while state.effects.popLast() != nil {}
    }

    func perform(_ deeds: [Deed]) {
        for deed in deeds {
            switch deed {
            case .finish(let task): task.finish()
            case .keepOutput(let task, let type, let message, let isEnd):
                task.keep(output: type, message)
                if isEnd { task.finish() }
            case .fail(let task, let failure, let cause): task.fail(self.error(failure, of: task.id, cause: cause))
            case .drain: self.scheduleDrain()
            case .wake(let watchers): for watcher in watchers { watcher() }
            case .warnOfNoEngines(let waiting):
                self.logger.warning(
                    "\(NoEngineText.isRegistered): \(waiting) task\(waiting == 1 ? " waits" : "s wait") for one; \(NoEngineText.remedy)"
                )
            case .refreshEngines:
                Task {
                    do { try await self.refreshEngines() } catch {
                        self.logger.debug("who is registered now could not be asked: \(error)")
                    }
                }
            case .identifyHub(let recovery): self.identifyHub(recovery)
            case .fetchResults(let tasks, let recovery): self.fetchResults(of: tasks, recovery)
            case .findEngines(let tasks, let recovery): self.findEngines(of: tasks, recovery)
            }
        }
    }

    // MARK: Questions about tasks whose answers may be lost

    private func identifyHub(_ recovery: Int) {
        Task {
            do {
                // The header of the hub's answer names the session that is the hub now.
                try await self.refreshEngines()
                self.handleOnLoop(.hubIdentified(recovery: recovery))
            } catch { self.handleOnLoop(.recoveryFailed(recovery), with: .cause(error)) }
        }
    }

    private func fetchResults(of tasks: [TaskID], _ recovery: Int) {
        Task {
            do {
                let results = try await self.fetchResults(ofPending: tasks)
                self.handleOnLoop(.resultsCame(tasks.filter { results[$0] != nil }, recovery: recovery), with: .results(results))
            } catch let error as RemoteError where error.isOfRecords {
                self.handleOnLoop(.recordsUnreadable(recovery: recovery), with: .cause(error))
            } catch {
                let problem: ClientSession.ResultProblem =
                    switch error {
                    // Of a coalescing broadcast a copy is named, whose id begins with the broadcast's.
                    case let error as RemoteError where tasks.count == 1 && error.value.hasPrefix("No such message: \(tasks[0])"):
                        .unknown
                    case is RemoteError: .refused
                    default: .failed
                    }
                self.handleOnLoop(.resultsFailed(problem, recovery: recovery), with: .cause(error))
            }
        }
    }

    private func findEngines(of tasks: [TaskID], _ recovery: Int) {
        Task {
            do {
                let reply = try await self.request(
                    .databaseRequest,
                    content: ["query": ["msg_id": ["$in": .array(tasks.map { .string($0.text) })]], "keys": ["engine_uuid"]],
                    on: .query)
                var engines: [TaskID: EngineUUID] = [:]
                for record in reply["records"]?.array ?? [] {
                    guard let id = record["msg_id"]?.string, let engine = record["engine_uuid"]?.string else { continue }
                    engines[TaskID(id)] = EngineUUID(engine)
                }
                self.handleOnLoop(.enginesFound(engines, recovery: recovery))
            } catch let error as RemoteError where error.isOfRecords {
                self.handleOnLoop(.recordsUnreadable(recovery: recovery), with: .cause(error))
            } catch { self.handleOnLoop(.recoveryFailed(recovery), with: .cause(error)) }
        }
    }
}

extension RemoteError {
    /// Whether the hub cannot read its records at the moment, because its disk is full for example.
    fileprivate var isOfRecords: Bool { ErrorName(rawValue: self.name) == .databaseError }
}

extension MonotonicTime {
    /// The time of event loops.
    static var now: MonotonicTime { MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds) }
}
