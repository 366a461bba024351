package import ApusWire

/// Decides what an engine does between its start and its end: registers, watches the controller's heartbeat, answers control
/// requests and stops in the right order. An engine that lives though its controller gave it up drops its requests and
/// registers again.
///
/// The session is a value. An event goes in, the effects it calls for come out, in the order in which they must be performed.
/// The order of requests is not decided here but in the engine's ``RequestQueue``, which another thread shares.
package struct EngineSession: Sendable {
    package enum Event: Sendable, Equatable {
        /// The registration socket exists.
        case started
        /// The hub accepted the engine. The hub pings once in that many milliseconds.
        case registered(EngineID, heartbeatPeriod: Int)
        /// The hub answered the registration with an error.
        case refused(String)
        case timerFired(Timer)
        /// All sockets for requests are connected, and so is the one for output.
        case connected
        /// A ping of the controller came.
        case pinged
        case requested(ControlRequest)
        /// The worker has finished its last request and takes no more.
        case workEnded
        /// The process was told to end (SIGTERM), or the engine's owner cancelled it.
        case cancelled
        /// The process that started the engine is gone.
        case parentLost
        /// The Python interpreter has ended for good, for this reason.
        case kernelLost(String)
        /// User code ended the Python interpreter: `exit()` in a cell.
        case kernelQuit
    }

    package enum Timer: Sendable, Hashable {
        case registration
        /// A second for the withdrawal of a registration that timed out to reach the hub.
        case withdrawal
        /// The limit for the sockets to connect.
        case connection
        case heartbeatCheck
    }

    package enum Effect: Sendable, Equatable {
        case sendRegistrationRequest
        /// An id of nil withdraws a registration that was not answered.
        case sendUnregistrationRequest(EngineID?)
        /// Make the sockets for requests and start the worker; report ``Event/connected``.
        case serve(EngineID)
        /// Publish `starting` and answer pings. At the first answer the hub announces this engine to clients.
        case startHeart
        /// Start the timer; a timer that runs already starts anew.
        case startTimer(Timer, milliseconds: Int)
        case stopTimer(Timer)
        /// Answer the control request that the event brought.
        case reply(ControlReply)
        /// Answer these requests as aborted: the queued ones now, later ones when they come.
        case abort(Abortion)
        /// Interrupt the request that runs if it is one of these.
        case interruptIfRunning([MessageID])
        /// Remove these requests from the queue if they have not started, and reply with their ids; they will run elsewhere.
        case giveBack([MessageID])
        /// Reply with the ids of all requests that are held, and repeat the answers to these.
        case report([MessageID])
        case clearNamespace
        /// Replace the Python interpreter; the engine and its registration stay.
        case restartKernel
        /// Interrupt the running work, if possible, and reply whether it was.
        case interrupt(ControlReply.Kind)
        /// Close the sockets for requests and heartbeats, drop the queue, and interrupt the running request, whose answer nobody
        /// wants: this engine's tasks were failed or given to others. Report ``Event/workEnded`` when the request has ended.
        case standDown
        /// Raise a signal in this process, and reply.
        case raiseSignal(Int32)
        case publishShutdown(restart: Bool)
        /// Take no more requests; report ``Event/workEnded`` when the running one has been answered.
        case endWork
        /// The engine's life is over. No effect follows, and no further event changes anything.
        case finish(EngineEnding)
    }

    package struct Options: Sendable, Equatable {
        /// How long the hub may take to answer the registration.
        package var registrationTimeout = 10_000
        /// How long the sockets may take to connect.
        package var connectionTimeout = 10_000
        /// How many checks in a row find no ping before the controller counts as gone; 0: it never does.
        package var missedHeartbeatLimit = 50

        /// Whether there is a kernel that can be replaced: a client's shutdown with `restart` then only replaces the kernel.
        package var hasKernel = false

        package init() {}
    }

    private enum State {
        /// Becomes `registering` or `ended`.
        case idle
        /// The request is on its way to the hub. Becomes `connecting`, `withdrawing` or `ended`.
        case registering
        /// The hub did not answer in time. Becomes `ended`.
        case withdrawing
        /// The hub no longer knows this engine, and the running request is ending. Becomes `returning` or `ended`.
        case standingDown(attempts: Int?)
        /// The engine has asked to be registered again, and may ask this many more times; nil: without limit. Becomes
        /// `connecting` or `ended`.
        case returning(attempts: Int?)
        /// The hub gave the engine an id. Becomes `serving` or `ended`.
        case connecting(EngineID, heartbeatPeriod: Int)
        /// Clients may send requests. Becomes `stopping`, `standingDown` or `ended`.
        case serving(EngineID, Heartbeat)
        /// The last task is finishing. Becomes `ended`.
        case stopping(EngineID)
        /// Terminal.
        case ended
    }

    /// The checks of the controller's heartbeat.
    private struct Heartbeat {
        /// Milliseconds between two checks.
        let period: Int
        /// Whether a ping came since the last check.
        var wasHeard = false
        /// Checks in a row without a ping.
        var missed = 0
    }

    private let options: Options
    private var state = State.idle

    package init(options: Options = Options()) { self.options = options }

    /// The id that the hub gave the engine, from registration to the end.
    package var engineID: EngineID? {
        switch self.state {
        case .connecting(let id, _), .serving(let id, _), .stopping(let id): id
        default: nil
        }
    }

    /// Whether the hub's answer to the registration is awaited.
    package var isRegistering: Bool {
        switch self.state {
        case .registering, .returning: true
        default: false
        }
    }

    /// Looks for contradictions in what is kept; for tests.
    package func checkInvariants() throws(BrokenInvariant) {
        guard case .serving(let id, let heartbeat) = self.state else { return }
        let limit = self.options.missedHeartbeatLimit
        if limit > 0, heartbeat.missed >= limit {
            throw BrokenInvariant(description: "engine \(id) serves a controller that has missed \(heartbeat.missed) pings")
        }
    }

    package mutating func handle(_ event: Event) -> [Effect] {
        switch event {
        case .started: return self.register()
        case .registered(let id, let period): return self.serve(as: id, heartbeatPeriod: period)
        case .refused(let reason):
            switch self.state {
            case .registering, .returning: return self.end(.refused(reason), after: [.stopTimer(.registration)])
            default: return []
            }
        case .timerFired(.registration): return self.endRegistration()
        case .timerFired(.withdrawal):
            guard case .withdrawing = self.state else { return [] }
            return self.end(.registrationTimedOut)
        case .connected: return self.startHeart()
        case .timerFired(.connection):
            // The sockets must be connected before the first heartbeat: at that the hub announces this engine to clients, and a
            // router drops messages to an engine that is not connected.
            guard case .connecting = self.state else { return [] }
            return self.leave(.portsSilent)
        case .timerFired(.heartbeatCheck): return self.checkHeartbeat()
        case .pinged:
            guard case .serving(let id, var heartbeat) = self.state else { return [] }
            heartbeat.wasHeard = true
            self.state = .serving(id, heartbeat)
            return []
        case .requested(let request):
            guard let id = self.engineID else { return [] }
            if case .stopping = self.state { return [] }
            return self.answer(request, as: id)
        case .workEnded:
            switch self.state {
            case .stopping: return self.end(.shutDown)
            case .standingDown(let attempts): return self.registerAgain(attempts)
            default: return []
            }
        case .cancelled: return self.leave(.cancelled)
        case .parentLost: return self.leave(.parentLost)
        case .kernelLost(let reason): return self.leave(.kernelLost(reason))
        case .kernelQuit: return self.leave(.quit)
        }
    }

    // MARK: Registration

    private mutating func register() -> [Effect] {
        guard case .idle = self.state else { return [] }
        self.state = .registering
        return [.sendRegistrationRequest, .startTimer(.registration, milliseconds: self.options.registrationTimeout)]
    }

    /// The longest accepted time between heartbeats, in milliseconds: a day.
    private static let longestPeriod = 86_400_000

    /// Ends a registration that was not answered in time.
    private mutating func endRegistration() -> [Effect] {
        switch self.state {
        case .registering:
            self.state = .withdrawing
            return [.sendUnregistrationRequest(nil), .startTimer(.withdrawal, milliseconds: 1000)]
        case .returning(.some(let attempts)) where attempts <= 0: return self.end(.controllerLost)
        case .returning(let attempts): return self.registerAgain(attempts)
        default: return []
        }
    }

    private mutating func standDown() -> [Effect] {
        // Only a serving engine answers pings, by which the controller noticed that it does not know the engine.
        guard case .serving(_, let heartbeat) = self.state else { return [] }
        // The engine keeps asking for as long as it would wait for a silent controller.
        let patience = self.options.missedHeartbeatLimit.multipliedReportingOverflow(by: heartbeat.period)
        let attempts =
            self.options.missedHeartbeatLimit <= 0 || patience.overflow
            ? nil : patience.partialValue / max(1, self.options.registrationTimeout)
        self.state = .standingDown(attempts: attempts)
        return [.stopTimer(.heartbeatCheck), .standDown]
    }

    private mutating func registerAgain(_ attempts: Int?) -> [Effect] {
        self.state = .returning(attempts: attempts.map { $0 - 1 })
        return [.sendRegistrationRequest, .startTimer(.registration, milliseconds: self.options.registrationTimeout)]
    }

    private mutating func serve(as id: EngineID, heartbeatPeriod: Int) -> [Effect] {
        switch self.state {
        case .registering, .returning:
            self.state = .connecting(id, heartbeatPeriod: min(max(1, heartbeatPeriod), Self.longestPeriod))
            return [
                .stopTimer(.registration), .serve(id), .startTimer(.connection, milliseconds: self.options.connectionTimeout),
            ]
        case .withdrawing:
            // The answer crossed with the withdrawal; the hub must not wait for a heart that never beats.
            return [.sendUnregistrationRequest(id)]
        default: return []
        }
    }

    private mutating func startHeart() -> [Effect] {
        guard case .connecting(let id, let period) = self.state else { return [] }
        // Half a second more than a period, so that a check never falls between two pings that are on time.
        let heartbeat = Heartbeat(period: period + 500)
        self.state = .serving(id, heartbeat)
        let check: [Effect] =
            self.options.missedHeartbeatLimit > 0 ? [.startTimer(.heartbeatCheck, milliseconds: heartbeat.period)] : []
        return [.stopTimer(.connection), .startHeart] + check
    }

    private mutating func checkHeartbeat() -> [Effect] {
        guard case .serving(let id, var heartbeat) = self.state else { return [] }
        heartbeat.missed = heartbeat.wasHeard ? 0 : heartbeat.missed + 1
        heartbeat.wasHeard = false
        self.state = .serving(id, heartbeat)
        guard heartbeat.missed < self.options.missedHeartbeatLimit else { return self.leave(.controllerLost) }
        return [.startTimer(.heartbeatCheck, milliseconds: heartbeat.period)]
    }

    // MARK: Control

    private mutating func answer(_ request: ControlRequest, as id: EngineID) -> [Effect] {
        switch request {
        case .abort(let abortion): return [.abort(abortion), .reply(.ok(.abort))]
        case .abortAndInterrupt(let ids): return [.abort(.requests(ids)), .interruptIfRunning(ids), .reply(.ok(.abort))]
        case .recall(let ids): return [.giveBack(ids)]
        case .report(let ids): return [.report(ids)]
        case .registerAgain: return self.standDown()
        case .clear: return [.clearNamespace, .reply(.ok(.clear))]
        case .kernelInfo: return [.reply(.kernelInfo)]
        case .interrupt: return [.interrupt(.interrupt)]
        case .signal(let signal): return self.handle(signal: signal)
        case .shutdown(restart: true) where self.options.hasKernel:
            return [.restartKernel, .reply(.shutdown(restart: true))]
        case .shutdown(let restart):
            self.state = .stopping(id)
            // The hub recognises the published reply by the session; the request after it is for a controller that missed the
            // reply.
            return [
                .stopTimer(.connection), .stopTimer(.heartbeatCheck), .reply(.shutdown(restart: restart)),
                .publishShutdown(restart: restart),
                .sendUnregistrationRequest(id), .endWork,
            ]
        }
    }

    private mutating func handle(signal: EngineSignal) -> [Effect] {
        switch signal {
        case .interrupt: return [.interrupt(.signal)]
        case .terminate: return [.reply(.ok(.signal))] + self.leave(.signalled)
        case .kill: return [.reply(.ok(.signal))] + self.leave(.killed)
        case .other(let number): return [.raiseSignal(number)]
        case .unknown(let name):
            return [.reply(.error(.signal, ErrorContent(.valueError, "'\(name)' is no signal that this engine knows")))]
        }
    }

    // MARK: The end

    /// Stops without waiting for running work, and unregisters if the hub may know the engine.
    private mutating func leave(_ ending: EngineEnding) -> [Effect] {
        switch self.state {
        case .ended: return []
        case .idle: return self.end(ending)
        case .registering, .withdrawing:
            return self.end(ending, after: [.stopTimer(.registration), .stopTimer(.withdrawal), .sendUnregistrationRequest(nil)])
        case .connecting(let id, _), .serving(let id, _):
            return self.end(
                ending, after: [.stopTimer(.connection), .stopTimer(.heartbeatCheck), .sendUnregistrationRequest(id)])
        // The hub has forgotten this engine; a registration that it has not answered ends when no heartbeat follows.
        case .standingDown, .returning: return self.end(ending, after: [.stopTimer(.registration)])
        case .stopping: return self.end(ending)
        }
    }

    private mutating func end(_ ending: EngineEnding, after effects: [Effect] = []) -> [Effect] {
        self.state = .ended
        return effects + [.finish(ending)]
    }
}

/// Why an engine's life ended.
package enum EngineEnding: Sendable, Hashable {
    /// A client asked for the end; the running request was finished first.
    case shutDown
    /// The hub refused the registration, with this message.
    case refused(String)
    case registrationTimedOut
    /// Not all of the controller's ports answered.
    case portsSilent
    /// No ping came for as long as the limit allows.
    case controllerLost
    case parentLost
    /// The process got SIGTERM, or the engine's owner cancelled it.
    case cancelled
    /// The Python interpreter has ended for good, for this reason.
    case kernelLost(String)
    /// User code ended the interpreter.
    case quit
    /// A client sent SIGTERM through the control channel.
    case signalled
    /// A client sent SIGKILL through the control channel.
    case killed
}

extension EngineEnding: CustomStringConvertible {
    package var description: String {
        switch self {
        case .shutDown: "shut down by a client"
        case .refused(let reason): "the hub refused the registration: \(reason)"
        case .registrationTimedOut: "the hub did not answer the registration in time"
        case .portsSilent: "not all of the controller's ports answer"
        case .controllerLost: "the controller's heartbeat has stopped"
        case .parentLost: "the process that started this engine is gone"
        case .cancelled: "stopped"
        case .kernelLost(let reason): reason
        case .quit: "user code ended the interpreter"
        case .signalled: "ended by a client's SIGTERM"
        case .killed: "ended by a client's SIGKILL"
        }
    }
}
