private import ApusWire
private import Foundation
package import Logging

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Starts engines as processes of this machine.
package struct LocalLauncher: EngineLauncher {
    /// The program that runs as an engine.
    package struct Engine: Sendable, Hashable {
        /// A path, or a name to be found in `PATH`; nil: the path of this program, looked up at each start.
        package var executable: String?
        package var arguments: [String]
        package var environment: [String: String]
        package var parentWatch: ParentWatch

        /// Any program that reads an engine's environment, watched over by a ``ParentWatch/watchdog`` unless it can do so
        /// itself.
        package init(
            _ executable: String?, arguments: [String] = [], environment: [String: String] = [:],
            parentWatch: ParentWatch = .watchdog
        ) {
            self.executable = executable
            self.arguments = arguments
            self.environment = environment
            self.parentWatch = parentWatch
        }

        /// This program, started as an engine, which has the remote functions.
        package static func thisProgram(arguments: [String] = []) -> Engine {
            Engine(nil, arguments: arguments, environment: [EnvironmentVariable.engineMode: "1"], parentWatch: .process)
        }

        /// The engine of a user's command: a program that imports Apus runs in engine mode, any other as it is; nil for no words.
        package init?(command: [String]) {
            guard let program = command.first else { return nil }
            self.init(program, arguments: Array(command.dropFirst()))
            // 'apus engine' is an engine without engine mode, and takes options from the command.
            guard self.arguments.first != "engine", Self.hasEngineMode(program) else { return }
            self.environment[EnvironmentVariable.engineMode] = "1"
            self.parentWatch = .process
        }

        /// Whether a program has engine mode: its file then contains the name of the mode's environment variable.
        private static func hasEngineMode(_ program: String) -> Bool {
            guard let path = try? LocalCommand(program).resolvedExecutable(),
                let image = try? Data(contentsOf: URL(filePath: path), options: .alwaysMapped)
            else { return false }
            let name = Array(EnvironmentVariable.engineMode.utf8)
            return image.withUnsafeBytes { image in
                // A file can have a hundred megabytes, so the C library searches for the first letter.
                var rest = image[...]
                while let start = UnsafeRawBufferPointer(rebasing: rest).firstIndex(ofByte: name[0]) {
                    rest = rest.dropFirst(start)
                    if rest.starts(with: name) { return true }
                    rest = rest.dropFirst()
                }
                return false
            }
        }

        /// ipyparallel's engine, run by that interpreter.
        package static func python(_ interpreter: String, arguments: [String] = []) -> Engine {
            Engine(interpreter, arguments: ["-m", "ipyparallel.engine"] + arguments)
        }
    }

    package enum Output: Sendable, Hashable {
        /// A file for each engine in the profile's `log` folder, named as Python's launcher names them.
        case logFiles
        case discarded
        case inherited
    }

    package var engine: Engine
    package var output: Output
    package var stopGrace: Duration
    package var logger: Logger

    package init(
        _ engine: Engine = .thisProgram(), output: Output = .logFiles, stopGrace: Duration = .seconds(5),
        logger: Logger = Logger(label: "apus.launcher")
    ) {
        self.engine = engine
        self.output = output
        self.stopGrace = stopGrace
        self.logger = logger
    }

    package var kind: String { "local" }

    package func launch(_ order: EngineOrder) async throws -> any EngineSet {
        let set = LocalEngineSet(order, launcher: self)
        do {
            for number in 0..<order.count {
                try Task.checkCancellation()
                try await set.start(number)
            }
        } catch {
            await set.stop(nil)
            throw error
        }
        return set
    }

    /// The command of one engine of an order.
    package func command(engine number: Int, of order: EngineOrder) -> LocalCommand {
        let output: LocalCommand.Output =
            switch self.output {
            case .logFiles: .log("\(order.profile.log)/ipengine-\(order.clusterID)-\(order.setID)-\(number).log")
            case .discarded: .discarded
            case .inherited: .inherited
            }
        return LocalCommand(
            self.engine.executable ?? LocalCommand.thisExecutable, arguments: self.engine.arguments,
            environment: self.engine.environment.merging(order.variables(ofEngine: number)) { $1 }, output: output,
            parentWatch: self.engine.parentWatch, stopGrace: self.stopGrace)
    }
}

/// Engines on this machine, one process each.
actor LocalEngineSet: EngineSet {
    private let order: EngineOrder
    private let launcher: LocalLauncher
    /// The engines that run, by number.
    private var running: [Int: LocalProcess] = [:]
    /// The running engines that were told to end.
    private var stopping: Set<Int> = []
    /// Terminal: the whole set was told to end, and starts no more.
    private var isStopped = false

    nonisolated let id: String
    nonisolated let exits: AsyncStream<EngineExit>
    private let exitContinuation: AsyncStream<EngineExit>.Continuation

    init(_ order: EngineOrder, launcher: LocalLauncher) {
        self.id = order.setID
        self.order = order
        self.launcher = launcher
        (self.exits, self.exitContinuation) = AsyncStream.makeStream()
    }

    deinit { self.exitContinuation.finish() }

    func start(_ number: Int) async throws(LauncherError) {
        let process = try await LocalProcess.start(self.launcher.command(engine: number, of: self.order))
        guard !self.isStopped, self.running[number] == nil else {
            // While the process started, the set was stopped, or another call started this engine.
            await process.stop()
            throw LauncherError(.notStarted, "engine \(number) of set \(self.id) was stopped while it started")
        }
        self.running[number] = process
        self.launcher.logger.debug("engine started", metadata: ["engine": "\(number)", "pid": "\(process.processID)"])
        // Ends with the process, which stop() bounds.
        Task { [weak self] in
            guard let exit = await process.wait() else { return }
            await self?.ended(number, process, exit)
        }
    }

    private func ended(_ number: Int, _ process: LocalProcess, _ exit: ProcessExit) {
        guard self.running[number] === process else { return }
        self.running[number] = nil
        // The reader of the exits logs them, by the hub's ids.
        self.exitContinuation.yield(
            EngineExit(
                engine: number, uuid: self.order.uuids[number], exit: exit, wasStopped: self.stopping.remove(number) != nil))
    }

    func signal(_ number: Int32, to engine: Int?) throws {
        for (_, process) in try self.processes(engine) { process.signal(number) }
    }

    func stop(_ engine: Int?) async {
        if engine == nil { self.isStopped = true }
        let ending = self.running.filter { engine == nil || $0.key == engine }
        self.stopping.formUnion(ending.keys)
        await withTaskGroup(of: Void.self) { group in
            for (number, process) in ending {
                group.addTask {
                    let exit = await process.stop()
                    await self.ended(number, process, exit)
                }
            }
        }
        if engine == nil { self.exitContinuation.finish() }
    }

    func restart(_ engine: Int) async throws {
        guard 0..<self.order.count ~= engine else { throw self.noSuchEngine(engine) }
        await self.stop(engine)
        try await self.start(engine)
    }

    func wait() async {
        while let process = self.running.values.first {
            guard await process.wait() != nil else { return }
            if let number = self.running.first(where: { $0.value === process })?.key, let exit = process.exit {
                self.ended(number, process, exit)
            }
        }
    }

    var record: ClusterFile.EngineSet? {
        guard !self.running.isEmpty else { return nil }
        let engines = self.running.map { number, process in
            var output = ""
            if case .log(let path) = process.command.output { output = path }
            return (
                String(number),
                ClusterFile.Process(
                    processID: process.processID, outputFile: output, clusterID: self.order.clusterID,
                    profile: self.order.profile)
            )
        }
        return ClusterFile.EngineSet(
            engines: Dictionary(uniqueKeysWithValues: engines), clusterID: self.order.clusterID, profile: self.order.profile)
    }

    private func processes(_ engine: Int?) throws(LauncherError) -> [Int: LocalProcess] {
        guard let engine else { return self.running }
        guard let process = self.running[engine] else { throw self.noSuchEngine(engine) }
        return [engine: process]
    }

    private func noSuchEngine(_ number: Int) -> LauncherError {
        LauncherError(
            .noSuchEngine, "set \(self.id) has no engine \(number) that runs; it has \(self.running.keys.sorted())")
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func firstIndex(ofByte byte: UInt8) -> Int? {
        guard let start = self.baseAddress, let found = memchr(start, Int32(byte), self.count) else { return nil }
        return start.distance(to: UnsafeRawPointer(found))
    }
}
