internal import ApusClient
internal import ApusWire
internal import Locks
internal import Logging

/// Records what happens in a simulated world: a story to read, the promises that were broken, and the facts that excuse errors.
final class Chronicle: Sendable {
    /// A kind of misfortune, which excuses some errors once it has happened.
    enum Misfortune: Hashable, Sendable {
        /// An engine died, was stopped, was paused, or had not started yet.
        case engine
        /// A connection of a client was cut.
        case clientConnection
        /// A connection of an engine was cut.
        case engineConnection
        case controller
        /// A client has aborted a task.
        case abort
    }

    /// A request of a client, from its call to its end.
    struct Request: Sendable {
        let number: Int
        let text: String
        /// How often the functions of the request may run.
        let runs: Int
        /// Whether the request's function submits tasks.
        let isNested: Bool
        var isOver = false
        var completions = 0
        /// The tasks that the client sent for the request.
        var tasks: Set<TaskID> = []
    }

    private struct State {
        var story: [String] = []
        var violations: [String] = []
        var requests: [Int: Request] = [:]
        var happened: Set<Misfortune> = []
        var lostAtEngines: Set<TaskID> = []
        var losses = ControllerLosses()
        /// The names of the engines that own the scarce resource.
        var owners: Set<String> = []
        /// The names of engines that a controller has given up and has not registered again, by the controller's process.
        var givenUp: [Int: Set<String>] = [:]
        /// The ids and signatures of answers that came to a controller in time, by the controller's process. The controller may
        /// send such an answer to a client that comes back, even after the engine is gone.
        var timelyAnswers: [Int: Set<String>] = [:]
        /// The ids and signatures of answers that came from engines after these had been given up.
        var lateAnswers: Set<String> = []
        /// Requests that engines have given back, and whether the network has replayed such a request: two engines may run it.
        var givenBack: Set<String> = []
        var mayRunAgain = false
        /// The engines' processes that lied of each task, and those to which its request came.
        var liars: [String: Set<Int>] = [:]
        var receivers: [String: Set<Int>] = [:]
        /// Requests that ended with a lie.
        var deceived: Set<Int> = []
    }

    private let time: VirtualTime
    private let state = Mutex(State())

    init(_ time: VirtualTime) { self.time = time }

    var story: [String] { self.state.withLock { $0.story } }
    var violations: [String] { self.state.withLock { $0.violations } }
    var unfinished: [Request] {
        self.state.withLock { $0.requests.values.filter { !$0.isOver }.sorted { $0.number < $1.number } }
    }
    func has(_ misfortune: Misfortune) -> Bool { self.state.withLock { $0.happened.contains(misfortune) } }

    /// Adds a line to the story.
    func note(_ line: String) {
        let microseconds = (self.time.nanoseconds - 1_000_000_000_000) / 1000
        let fraction = String(1_000_000 + microseconds % 1_000_000).dropFirst()
        self.state.withLock { $0.story.append("\(microseconds / 1_000_000).\(fraction) \(line)") }
    }

    func note(_ misfortune: Misfortune, _ line: String) {
        self.state.withLock { _ = $0.happened.insert(misfortune) }
        self.note(line)
    }

    /// Records a broken promise, and adds it to the story.
    func violate(_ line: String) {
        self.note("BROKEN: \(line)")
        self.state.withLock { $0.violations.append(line) }
    }

    /// Runs a check of a process's invariants, and records a broken promise if the check throws.
    func demand(_ process: String, _ check: () throws -> Void) {
        do { try check() } catch { self.violate("\(process) contradicts itself: \(error)") }
    }

    // MARK: What is lost

    /// Notes that a task's request or answer was lost between the controller and an engine.
    func noteLoss(of task: TaskID) { self.state.withLock { _ = $0.lostAtEngines.insert(task) } }

    /// Whether a message about one of the request's tasks was lost between the controller and an engine.
    ///
    /// Such a task may never end, because neither the controller nor the engine notices the loss.
    func wasLostAtEngine(_ number: Int) -> Bool {
        self.state.withLock { !$0.lostAtEngines.isDisjoint(with: $0.requests[number]?.tasks ?? []) }
    }

    func wasLostAtEngine(_ task: TaskID) -> Bool { self.state.withLock { $0.lostAtEngines.contains(task) } }

    /// Whether any task was lost between the controller and an engine, or with a controller. Any function may wait for it.
    var mayHaveLostInnerTasks: Bool { self.state.withLock { !$0.lostAtEngines.isEmpty || $0.losses.mayHaveLostInnerTasks } }

    /// The tasks that may have been lost with controllers, and the errors that their loss excuses.
    var losses: ControllerLosses { self.state.withLock { $0.losses } }
    /// Whether the task's function submits tasks.
    func isNested(_ task: TaskID) -> Bool {
        self.state.withLock { $0.requests.values.contains { $0.isNested && $0.tasks.contains(task) } }
    }
    func tasks(of number: Int) -> Set<TaskID> { self.state.withLock { $0.requests[number]?.tasks ?? [] } }

    /// Notes that a message has come to a controller.
    func came(_ message: SimulatedNetwork.Letter, toController process: Int) {
        self.state.withLock { state in
            switch message.type {
            case "apply_request": state.losses.came(message.id, toController: process)
            case "apply_reply": if let request = message.parent { state.losses.came(request, toController: process) }
            default:
                for request in message.given {
                    state.losses.came(request, toController: process)
                    state.givenBack.insert(request)
                }
            }
            guard message.type.hasSuffix("_reply") else { return }
            if state.givenUp[process]?.contains(message.session) == true {
                state.lateAnswers.formUnion(message.names.subtracting(state.timelyAnswers[process] ?? []))
            } else {
                state.timelyAnswers[process, default: []].formUnion(message.names)
            }
        }
    }

    /// Notes that a message has come to an engine or a client.
    func came(_ message: SimulatedNetwork.Letter, to process: Int) {
        switch message.type {
        case "apply_request":
            self.state.withLock { state in
                state.losses.came(message.id, toEngine: process)
                state.receivers[message.id, default: []].insert(process)
            }
        case "apply_reply": if let request = message.parent { self.state.withLock { $0.losses.ended(request) } }
        default: break
        }
    }

    /// Notes that the network has replayed a message.
    func cameAgain(_ message: SimulatedNetwork.Letter) {
        self.state.withLock { if $0.givenBack.contains(message.id) { $0.mayRunAgain = true } }
    }

    func controllerDied(_ process: Int) {
        self.state.withLock { $0.losses.died(process) }
        self.note(.controller, "the controller is killed")
    }

    // MARK: Engines

    func noteOwner(_ engine: String) { self.state.withLock { _ = $0.owners.insert(engine) } }
    func isOwner(_ engine: String) -> Bool { self.state.withLock { $0.owners.contains(engine) } }

    /// Notes that a controller has registered an engine, or has given it up.
    func note(_ engine: String, isRegistered: Bool, by controller: Int) {
        self.state.withLock { state in
            if isRegistered {
                state.givenUp[controller]?.remove(engine)
            } else {
                state.givenUp[controller, default: []].insert(engine)
                if let process = SimulatedEngine.process(of: engine) { state.losses.gaveUp(engine: process, by: controller) }
            }
        }
    }

    var knowsLateAnswers: Bool { self.state.withLock { !$0.lateAnswers.isEmpty } }

    /// Checks a message that a controller sends. An answer that came after its engine was given up must be dropped, because the
    /// client was already told that the engine is gone.
    func passes(_ message: SimulatedNetwork.Letter) {
        guard self.state.withLock({ !$0.lateAnswers.isDisjoint(with: message.names) }) else { return }
        self.violate("the answer \(message.id) of an engine that was given up is passed on")
    }

    // MARK: Lies

    /// An engine answers a task that it was not given, or not yet.
    func noteLie(of task: String, by engine: String) {
        guard let process = SimulatedEngine.process(of: engine) else { return }
        self.state.withLock { _ = $0.liars[task, default: []].insert(process) }
    }

    /// A request ended with a lie, which is judged at the end: what an engine says of a task of its own is right, and it may have lied of a
    /// task that was about to become its own.
    func noteDeceived(_ number: Int) { self.state.withLock { _ = $0.deceived.insert(number) } }

    /// Requests that ended with the lie of an engine which never had their task.
    var deceived: [Int] {
        self.state.withLock { state in
            func isOwn(_ task: String) -> Bool {
                !(state.liars[task] ?? []).isDisjoint(with: state.receivers[task] ?? [])
                    || state.lostAtEngines.contains(TaskID(task))
            }
            return state.deceived.filter { number in
                guard let request = state.requests[number] else { return true }
                // The ids of tasks that functions submit are not known by their request.
                let tasks = request.isNested ? Array(state.liars.keys) : request.tasks.map(\.text)
                return !tasks.contains(where: isOwn)
            }.sorted()
        }
    }

    // MARK: Requests

    func note(_ number: Int, became tasks: [TaskID]) { self.state.withLock { $0.requests[number]?.tasks.formUnion(tasks) } }

    func began(_ number: Int, _ text: String, runs: Int, isNested: Bool = false) {
        self.note("request \(number): \(text)")
        self.state.withLock { $0.requests[number] = Request(number: number, text: text, runs: runs, isNested: isNested) }
    }

    func ended(_ number: Int, _ outcome: String) {
        self.note("request \(number) ended: \(outcome)")
        let wasOver = self.state.withLock { state in
            defer { state.requests[number]?.isOver = true }
            return state.requests[number]?.isOver ?? true
        }
        if wasOver { self.violate("request \(number) ended twice") }
    }

    /// Notes that an engine ran a function of the request. A promise is broken if the function ran more often than it may.
    func ran(_ number: Int, at engine: String) {
        self.note("request \(number) is worked on by \(engine)")
        let isTooOften = self.state.withLock { state in
            state.requests[number]?.completions += 1
            return state.requests[number].map { $0.completions > $0.runs } ?? true
        }
        if isTooOften, !self.losses.mayRunAgain, !self.state.withLock({ $0.mayRunAgain }) {
            self.violate("request \(number) ran more often than it may")
        }
    }
}

/// Writes the log lines of services into the story.
struct StoryLogHandler: LogHandler {
    let chronicle: Chronicle
    let process: String
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var metadata = self.metadata
        if let own = event.metadata { metadata.merge(own) { $1 } }
        let details = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        self.chronicle.note("  \(self.process): \(event.message)\(details)")
    }

    static func logger(_ process: String, _ chronicle: Chronicle) -> Logger {
        var logger = Logger(label: process) { _ in StoryLogHandler(chronicle: chronicle, process: process) }
        logger.logLevel = .debug
        return logger
    }
}
