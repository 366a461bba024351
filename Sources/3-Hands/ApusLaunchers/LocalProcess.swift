private import ApusWire
private import Foundation
private import Subprocess

#if canImport(System)
    private import System
#else
    private import SystemPackage
#endif

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// A child process on this machine, in a session of its own.
///
/// The process ends when this process does, unless the command's ``ParentWatch`` is `none`.
package final class LocalProcess: Sendable {
    package let command: LocalCommand
    /// The program's own process id, which is also its process group's and its session's.
    package let processID: Int32
    /// Lines to and from the process; nil unless the command's ``ParentWatch`` is `channel`.
    package let channel: LineChannel?

    private let ending: Arrival<ProcessExit>
    /// Waits for the process; cancelled, it sends SIGTERM and after the grace SIGKILL.
    private let runner: Task<Void, Never>

    private init(
        _ command: LocalCommand, processID: Int32, channel: LineChannel?, ending: Arrival<ProcessExit>, runner: Task<Void, Never>
    ) {
        self.command = command
        self.processID = processID
        self.channel = channel
        self.ending = ending
        self.runner = runner
    }

    /// Starts the program, and returns when the process exists; the program may not have executed its first instruction.
    ///
    /// - Throws: ``LauncherError`` with code `notStarted`.
    package static func start(_ command: LocalCommand) async throws(LauncherError) -> LocalProcess {
        let spawning = try Spawning(command)
        // A copy, because the pipe's own end is closed when the process has ended, and lines of the process may then be unread.
        let ours = command.parentWatch == .channel ? spawning.pipe.map { fcntl($0.writeEnd.rawValue, F_DUPFD_CLOEXEC, 0) } : nil
        let channel = ours.map { LineChannel($0) }

        let started = Arrival<Result<Int32, LauncherError>>()
        let ending = Arrival<ProcessExit>()
        let runner = Task {
            let cause: ProcessExit.Cause
            do {
                let result = try await Subprocess.run(
                    spawning.configuration,
                    input: .fileDescriptor(spawning.input, closeAfterSpawningProcess: true),
                    output: .fileDescriptor(spawning.output, closeAfterSpawningProcess: true),
                    error: .fileDescriptor(spawning.error, closeAfterSpawningProcess: true)
                ) { started.arrive(.success($0.processIdentifier.value)) }
                cause =
                    switch result.terminationStatus {
                    case .exited(let code): .code(code)
                    case .signaled(let number): .signal(number)
                    }
            } catch {
                // Before the start, this error says why it failed; after it, the system no longer knows how the process ended.
                started.arrive(
                    .failure(LauncherError(.notStarted, "\(command.executable) cannot be started", cause: error)))
                cause = .unknown
            }
            try? spawning.pipe?.writeEnd.close()
            var lines: [String] = []
            if case .log(let path) = command.output { lines = LogTail.lines(of: path, from: spawning.logStart) }
            ending.arrive(ProcessExit(cause, lastLines: lines))
        }
        // Not cancelled between the start and this moment, because no one would then hold the process.
        let outcome = await Task { await started.value }.value
        switch outcome {
        case .success(let processID):
            return LocalProcess(command, processID: processID, channel: channel, ending: ending, runner: runner)
        case .failure(let error): throw error
        case nil: preconditionFailure("a task that nobody cancels was cancelled: starting \(command)")
        }
    }

    /// How the process ended; nil while it runs.
    package var exit: ProcessExit? { self.ending.current }

    /// Waits until the process has ended; nil when the waiting task is cancelled first.
    package func wait() async -> ProcessExit? { await self.ending.value }

    /// Sends a signal to the program, not to its children. Does nothing if the program has ended.
    package func signal(_ number: Int32) {
        // Between the end of the process and the notice of it, its id is free; the system reuses an id only after all others.
        guard self.ending.current == nil else { return }
        kill(self.processID, number)
    }

    /// Ends the process: SIGTERM, and SIGKILL when it has not gone after the grace.
    ///
    /// May be called again, by any task; returns within the grace and five seconds, even when the caller is cancelled.
    @discardableResult
    package func stop() async -> ProcessExit {
        self.runner.cancel()
        let limit = self.command.stopGrace + .seconds(5)
        return await Task {
            await withTaskGroup(of: ProcessExit?.self) { group in
                group.addTask { await self.ending.value }
                group.addTask {
                    try? await Task.sleep(for: limit)
                    return nil
                }
                let first = await group.next() ?? nil
                group.cancelAll()
                return first ?? ProcessExit(.unknown)
            }
        }.value
    }

    // MARK: - Starting

    /// The configuration of a start, and the descriptors that the start takes over and closes.
    private struct Spawning {
        let configuration: Configuration
        let input: FileDescriptor
        let output: FileDescriptor
        let error: FileDescriptor
        /// The offset in the log at which the program's lines will begin.
        let logStart: UInt64
        /// The pipe of the parent watch; its write end stays open here until the process has ended.
        let pipe: ParentPipe?

        init(_ command: LocalCommand) throws(LauncherError) {
            let program = try command.resolvedExecutable()
            var variables: [String: String?] = command.environment
            // If this process is an engine, its own descriptor means nothing to the program.
            let readsPipe = command.parentWatch == .process || command.parentWatch == .channel
            variables.updateValue(readsPipe ? "3" : nil, forKey: EnvironmentVariable.parentDescriptor)
            var overrides: [Environment.Key: String?] = [:]
            for (name, value) in variables {
                if let key = Environment.Key(rawValue: name) { overrides.updateValue(value, forKey: key) }
            }
            var options = PlatformOptions()
            options.createSession = true
            options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: command.stopGrace)]
            let script = command.parentWatch.script
            self.configuration = Configuration(
                executable: .path(FilePath(script == nil ? program : "/bin/sh")),
                arguments: Arguments(script.map { ["-c", $0, "sh", program] + command.arguments } ?? command.arguments),
                environment: .inherit.updating(overrides), workingDirectory: command.workingDirectory.map { FilePath($0) },
                platformOptions: options)

            do {
                switch command.output {
                case .log(let path):
                    try FileManager.default.createDirectory(
                        atPath: FilePath(path).removingLastComponent().string, withIntermediateDirectories: true)
                    self.logStart = LogTail.end(of: path)
                    self.output = try FileDescriptor.open(
                        path, .writeOnly, options: [.append, .create, .closeOnExec],
                        permissions: [.ownerReadWrite, .groupRead, .otherRead])
                    self.error = try Self.duplicate(self.output)
                case .discarded:
                    self.logStart = 0
                    self.output = try FileDescriptor.open("/dev/null", .writeOnly, options: .closeOnExec)
                    self.error = try Self.duplicate(self.output)
                case .inherited:
                    self.logStart = 0
                    self.output = try Self.duplicate(.standardOutput)
                    self.error = try Self.duplicate(.standardError)
                }
                if script == nil {
                    self.pipe = nil
                    self.input = try FileDescriptor.open("/dev/null", .readOnly, options: .closeOnExec)
                } else {
                    let pipe = try ParentPipe(isSocket: command.parentWatch == .channel)
                    self.pipe = pipe
                    self.input = pipe.readEnd
                }
            } catch {
                throw LauncherError(.notStarted, "\(program) cannot be started: its output has no place", cause: error)
            }
        }

        /// As `dup`, but children that other threads start do not inherit the copy.
        private static func duplicate(_ descriptor: FileDescriptor) throws -> FileDescriptor {
            let copy = fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else { throw Errno(rawValue: errno) }
            return FileDescriptor(rawValue: copy)
        }
    }
}
