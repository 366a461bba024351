internal import ApusFunctions
internal import ApusWire
internal import Locks
internal import Logging

/// What happens in a simulated world: a story for people, what was found broken, and the facts by which outcomes are judged.
final class Chronicle: Sendable {
    /// Misfortunes that have happened, each of which excuses some errors.
    enum Misfortune: Hashable, Sendable {
        /// An engine died, was stopped, stood still, or was not there yet.
        case engine
        /// A connection of a client was cut.
        case clientConnection
        /// A connection of an engine was cut.
        case engineConnection
        case controller
        /// A client has aborted something.
        case abort
    }

    /// A request of a client, from its call to its end.
    struct Request: Sendable {
        let number: Int
        let text: String
        /// How often the function may run to its end.
        let runs: Int
        var isOver = false
        var completions = 0
        /// The tasks that it became.
        var tasks: Set<TaskID> = []
    }

    private struct State {
        var story: [String] = []
        var violations: [String] = []
        var requests: [Int: Request] = [:]
        var happened: Set<Misfortune> = []
        var lostAtEngines: Set<TaskID> = []
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

    /// Tells of a promise that was broken.
    func violate(_ line: String) {
        self.note("BROKEN: \(line)")
        self.state.withLock { $0.violations.append(line) }
    }

    // MARK: What is lost

    /// The request of a task, or its answer, was lost between the controller and an engine.
    func noteLoss(of task: TaskID) { self.state.withLock { _ = $0.lostAtEngines.insert(task) } }

    /// Whether a task of the request was lost on its way to or from an engine.
    ///
    /// Nothing promises that such a task ends yet: neither controller nor engine knows that the other has lost it.
    func wasLostAtEngine(_ number: Int) -> Bool {
        self.state.withLock { !$0.lostAtEngines.isDisjoint(with: $0.requests[number]?.tasks ?? []) }
    }

    func wasLostAtEngine(_ task: TaskID) -> Bool { self.state.withLock { $0.lostAtEngines.contains(task) } }

    // MARK: Requests

    func note(_ number: Int, became tasks: [TaskID]) { self.state.withLock { $0.requests[number]?.tasks.formUnion(tasks) } }

    func began(_ number: Int, _ text: String, runs: Int) {
        self.note("request \(number): \(text)")
        self.state.withLock { $0.requests[number] = Request(number: number, text: text, runs: runs) }
    }

    func ended(_ number: Int, _ outcome: String) {
        self.note("request \(number) ended: \(outcome)")
        let wasOver = self.state.withLock { state in
            defer { state.requests[number]?.isOver = true }
            return state.requests[number]?.isOver ?? true
        }
        if wasOver { self.violate("request \(number) ended twice") }
    }

    /// A function ran to its end for the request, at that engine.
    func ran(_ number: Int, at engine: String) {
        self.note("request \(number) is worked on by \(engine)")
        let isTooOften = self.state.withLock { state in
            state.requests[number]?.completions += 1
            return state.requests[number].map { $0.completions > $0.runs } ?? true
        }
        if isTooOften, !self.has(.controller) { self.violate("request \(number) ran more often than it may") }
    }
}

/// Functions that engines of a simulated world have. The first argument of each is the number of the request.
struct SimulatedFunctions: Sendable {
    /// Gives its second argument times two; fails if that is negative.
    let double: RemoteFunction<Int, Int, Int>
    /// Gives the sum of the other two.
    let add: RemoteFunction<Int, Int, Int, Int>
    private let records: [String: FunctionRecord]

    struct Refusal: Error {}

    init(_ chronicle: Chronicle) {
        func declaration(_ name: String, _ names: [String]) -> RemoteDeclaration {
            RemoteDeclaration(
                fileID: "World/World.swift", line: 1, column: 1, path: name,
                signature: "\(name)(\(names.map { "_ \($0): Int" }.joined(separator: ", "))) -> Int",
                parameters: names.map { RemoteDeclaration.Parameter(label: nil, name: $0, type: "Int") })
        }
        @Sendable func ran(_ number: Int) { chronicle.ran(number, at: EngineContext.current?.uuid ?? "nobody") }
        self.double = RemoteFunction(__declared: declaration("double", ["request", "x"])) {
            (request: Int, x: Int) throws -> Int in
            ran(request)
            if x < 0 { throw Refusal() }
            return x * 2
        }
        self.add = RemoteFunction(__declared: declaration("add", ["request", "x", "y"])) {
            (request: Int, x: Int, y: Int) throws -> Int in
            ran(request)
            return x + y
        }
        let all = [FunctionRecord(self.double), FunctionRecord(self.add)]
        self.records = Dictionary(uniqueKeysWithValues: all.map { ($0.qualifiedName, $0) })
    }

    var names: [String] { self.records.keys.sorted() }

    func lookUp(_ name: String) throws(FunctionCallError) -> FunctionRecord {
        if let record = self.records[name] { return record }
        return try FunctionRegistry.shared.lookup(name)
    }
}

/// Writes what services log into the story.
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
