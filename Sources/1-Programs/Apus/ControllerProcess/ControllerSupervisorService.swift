internal import ApusClient
internal import ApusController
internal import ApusCore
internal import ApusLaunchers
internal import ApusWire
internal import Logging
internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// Runs a controller as a process of its own, and starts it again as its core decides.
///
/// The process is this program in controller mode. It is told what to be, and tells which engines come and go, over a socket that it
/// inherits; when this process is gone, that socket's end makes it end. A controller that is started again has the ports, key and
/// files of the one before it, and takes up its engines and tasks, so that peers go on at the old addresses.
actor ControllerSupervisorService {
    /// The addresses of the controller, which stay the same.
    struct Addresses: Sendable {
        let client: ClientConnectionInfo
        let engine: EngineConnectionInfo
    }

    private var core: ControllerSupervisor
    private var options: ControllerOptions
    private var files: ControllerHost.Files
    private let logger: Logger
    private let onPresence: @Sendable (EnginePresence) -> Void
    /// Called when another process has become the controller.
    private let onRestart: @Sendable () -> Void

    /// The process that is the controller, or was it last.
    private var process: LocalProcess?
    /// Whether that process has said that it can be reached.
    private var isListening = false
    /// Why that process could not start, in its own words.
    private var complaint: String?
    /// Whether the process is to end as soon as it was started.
    private var isUnwanted = false
    /// Records up to this one are of an earlier cluster, whose tasks are left alone.
    private var mark: Int64 = 0
    /// Why no engine is coming, for the next controller.
    private var noEngine: String?
    private var timer: Task<Void, Never>?
    /// The caller of ``start()``.
    private var starting: CheckedContinuation<Addresses, any Error>?

    private let instructions: AsyncStream<ControllerInstruction>.Continuation
    private let over: AsyncStream<ControllerSupervisor.Ending>.Continuation
    /// The end for good.
    private let ending: Task<ControllerSupervisor.Ending, Never>

    init(
        _ policy: ControllerSupervisor.Policy, options: ControllerOptions, files: ControllerHost.Files, logger: Logger,
        onPresence: @escaping @Sendable (EnginePresence) -> Void, onRestart: @escaping @Sendable () -> Void
    ) {
        self.core = ControllerSupervisor(policy)
        self.options = options
        self.files = files
        self.logger = logger
        self.onPresence = onPresence
        self.onRestart = onRestart
        let (endings, over) = AsyncStream.makeStream(of: ControllerSupervisor.Ending.self)
        self.over = over
        self.ending = Task {
            for await ending in endings { return ending }
            return .wanted
        }
        let (instructions, instruct) = AsyncStream.makeStream(of: ControllerInstruction.self)
        self.instructions = instruct
        Task { [weak self] in for await instruction in instructions { await self?.pass(instruction) } }
    }

    deinit {
        self.instructions.finish()
        self.over.finish()
    }

    // MARK: Life

    /// Starts the first controller, and returns when it can be reached.
    ///
    /// - Throws: ``ApusError`` with code `launchFailed` and the controller's reason.
    func start() async throws -> Addresses {
        try await withCheckedThrowingContinuation { continuation in
            self.starting = continuation
            self.handle(.wanted)
        }
    }

    /// Waits until the controller has ended for good.
    nonisolated func waitForEnd() async -> ControllerSupervisor.Ending { await self.ending.value }

    /// From now on a controller that dies is not started again.
    func prepareToStop() { self.handle(.stopIsComing) }

    /// Ends the controller, and waits for its end. Returns within a limited time; may be called again.
    func stop() async {
        self.handle(.stopWanted)
        _ = await self.ending.value
    }

    // MARK: News for the controller

    /// Tells the controller, and each later one, that no engine is coming, and why; nil: one may come.
    nonisolated func expectNoEngine(_ reason: String?) { self.instructions.yield(.expectNoEngine(reason)) }

    /// Tells the controller of the end of an engine's process. While there is no controller the news is dropped: the next one notices
    /// that the engine does not come back, or that another process comes in its place.
    nonisolated func engineProcessEnded(_ uuid: EngineUUID, _ end: EngineEnd) {
        self.instructions.yield(.engineProcessEnded(uuid, end))
    }

    private func pass(_ instruction: ControllerInstruction) {
        if case .expectNoEngine(let reason) = instruction { self.noEngine = reason }
        if self.isListening { self.process?.channel?.send(instruction.line) }
    }

    // MARK: Events

    private func handle(_ event: ControllerSupervisor.Event) {
        for effect in self.core.handle(event, at: Self.now) { self.perform(effect) }
    }

    private func perform(_ effect: ControllerSupervisor.Effect) {
        switch effect {
        case .start(let again): Task { await self.launch(again: again) }
        case .stop:
            self.isUnwanted = true
            if let process { self.end(process) }
        case .report(let end, let outcome):
            let level: Logger.Level = if case .restarts = outcome { .warning } else { .error }
            self.logger.log(level: level, "\(self.account(of: end, outcome))")
        case .over(let ending):
            self.timer?.cancel()
            self.starting?.resume(throwing: self.startFailure(ending))
            self.starting = nil
            self.over.yield(ending)
            self.over.finish()
        case .setTimer(let time):
            self.timer?.cancel()
            self.timer = Task { [weak self] in
                do { try await Task.sleep(for: max(.zero, time - Self.now)) } catch { return }
                await self?.handle(.timerFired)
            }
        }
    }

    private static var now: MonotonicTime { MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds) }

    // MARK: The process

    private func launch(again: Bool) async {
        (self.process, self.isListening, self.complaint) = (nil, false, nil)
        if again { self.files.restore = true }
        let process: LocalProcess
        do { process = try await LocalProcess.start(self.command) } catch { return self.handle(.notStarted("\(error)")) }
        self.process = process
        guard let channel = process.channel else { preconditionFailure("\(self.command) has no channel") }
        let order = ControllerOrder(self.options, self.files, mark: self.mark, logLevel: self.logger.logLevel)
        channel.send(order.line)
        // Both end with the process.
        let reading = Task { for await line in channel.lines { self.take(line, from: process) } }
        Task {
            guard let exit = await process.wait() else { return }
            // The news that the process has sent come before its end.
            channel.end()
            await reading.value
            self.ended(process, exit)
        }
        if again { self.onRestart() }
        if self.isUnwanted { self.end(process) }
    }

    private var command: LocalCommand {
        LocalCommand(
            LocalCommand.thisExecutable,
            // These are for people who look at the list of processes: controller mode reads no arguments.
            arguments: ["controller", "--profile-dir=\(self.files.profile.path)", "--cluster-id=\(self.files.clusterID)"],
            environment: [
                EnvironmentVariable.controllerMode: "1", EnvironmentVariable.clusterID: self.files.clusterID,
                EnvironmentVariable.profileDirectory: self.files.profile.path,
            ],
            output: .log(self.log), parentWatch: .channel,
            // What is recorded must reach the disk.
            stopGrace: .seconds(10))
    }

    private var log: String { "\(self.files.profile.log)/ipcontroller-\(self.files.clusterID).log" }

    private func take(_ line: String, from process: LocalProcess) {
        guard process === self.process, let news = ControllerNews(line: line) else { return }
        switch news {
        case .failed(let reason): self.complaint = reason
        case .listening(let client, let engine, let taken, let mark): self.listening(client, engine, taken, mark)
        case .joined, .left: if let presence = news.presence { self.onPresence(presence) }
        }
    }

    private func listening(_ client: String, _ engine: String, _ taken: Int, _ mark: Int64) {
        self.isListening = true
        self.mark = mark
        if let reason = self.noEngine { self.pass(.expectNoEngine(reason)) }
        self.handle(.listening)
        guard let starting else {
            return self.logger.info("the controller can be reached again; \(taken) unfinished tasks are taken up")
        }
        self.starting = nil
        do {
            let addresses = Addresses(
                client: try ClientConnectionInfo(JSONValue(parsing: client)),
                engine: try EngineConnectionInfo(JSONValue(parsing: engine)))
            self.options.reuse(addresses.client, addresses.engine)
            starting.resume(returning: addresses)
        } catch {
            starting.resume(throwing: ApusError(.launchFailed, "the controller's addresses cannot be read", cause: error))
        }
    }

    /// Has the process end, by SIGTERM and then by force.
    private func end(_ process: LocalProcess) { Task { self.ended(process, await process.stop()) } }

    private func ended(_ process: LocalProcess, _ exit: ProcessExit) {
        guard process === self.process else { return }
        self.isListening = false
        self.handle(.ended(ControllerSupervisor.End(ofController: exit)))
    }

    /// The controller's process, or the last one, for the cluster file.
    var record: ClusterFile.Process? {
        self.process.map {
            ClusterFile.Process(
                processID: $0.processID, outputFile: self.log, clusterID: self.files.clusterID, profile: self.files.profile)
        }
    }

    // MARK: Words

    private func account(of end: ControllerSupervisor.End, _ outcome: ControllerSupervisor.Outcome) -> String {
        var tasks = ""
        if case .restarts = outcome {
            tasks =
                if case .sqlite = self.options.database { " and takes up the tasks that have no outcome" } else {
                    "; tasks that had no outcome are lost, because their records were in memory"
                }
        }
        return "the controller \(end.text); \(outcome)\(tasks); its log is \(self.log)" + Self.quote(end.lastLines)
    }

    private func startFailure(_ ending: ControllerSupervisor.Ending) -> ApusError {
        switch ending {
        case .failedToStart where self.complaint != nil: ApusError(.launchFailed, self.complaint ?? "")
        case .failedToStart(let end), .died(let end, _):
            ApusError(.launchFailed, "the controller \(end.text) before it could be reached" + Self.quote(end.lastLines))
        case .wanted: ApusError(.launchFailed, "the controller was stopped while it started")
        }
    }

    private static func quote(_ lines: [String]) -> String {
        lines.isEmpty ? "" : "; last lines:" + lines.map { "\n    " + $0 }.joined()
    }
}

extension ControllerSupervisor.End {
    fileprivate init(ofController exit: ProcessExit) {
        let kind: Kind =
            switch exit.cause {
            case .code(0): .clean
            case .signal(SIGTERM): .terminated
            case .code, .signal, .unknown: .died
            }
        // Log entries of the levels info and debug do not explain an end.
        let lines = exit.lastLines.filter { !$0.contains(" info apus.controller") && !$0.contains(" debug apus.controller") }
        self.init(kind, "\(exit.cause)", lastLines: EngineEnd(.unknown, lastLines: lines).lastLines)
    }
}

extension ControllerSupervisor.Ending {
    /// The error of a wait for the controller; nil where somebody wanted the end.
    var error: ApusError? {
        switch self {
        case .wanted: nil
        case .failedToStart(let end): ApusError(.controllerGone, "the controller \(end.text)")
        case .died(let end, let outcome): ApusError(.controllerGone, "the controller \(end.text); \(outcome)")
        }
    }
}
