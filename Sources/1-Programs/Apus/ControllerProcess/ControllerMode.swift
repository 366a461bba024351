internal import ApusCore
internal import ApusLaunchers
internal import ApusWire
internal import CEngineMode
internal import Dispatch
internal import Foundation
internal import Logging

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A process that is the controller of a cluster and nothing else, started by the process that has the ``Cluster``.
///
/// The controller ends with code 0 when somebody wants it to: a client's shutdown, SIGTERM or SIGINT, the end of its cluster's
/// process. Any other end is a death, after which the cluster starts the next one.
enum ControllerMode {
    /// Why the process ends.
    private enum Wish: Sendable { case signalled(Int32), clusterIsGone, shutDown }

    /// Runs a controller in place of the program's `main`, and ends the process.
    static func main() -> Never {
        Task.detached {
            let code = await self.run()
            fflush(nil)
            _exit(code)
        }
        dispatchMain()
    }

    private static func run() async -> Int32 {
        guard let descriptor = getenv(EnvironmentVariable.parentDescriptor).flatMap({ Int32(String(cString: $0)) }) else {
            standardError("apus: controller mode is for a process that a cluster starts")
            return 1
        }
        unsetenv(EnvironmentVariable.parentDescriptor)
        signal(SIGPIPE, SIG_IGN)
        let signals = StopSignals([SIGINT, SIGTERM])
        defer { signals.cancel() }
        let numbers = signals.numbers

        let channel = LineChannel(descriptor)
        var lines = channel.lines.makeAsyncIterator()
        guard let first = await lines.next(isolation: nil) else { return 0 }
        guard let order = ControllerOrder(line: first) else {
            standardError("apus: the cluster is of another version than this controller")
            return 1
        }
        var logger = Logger(label: "apus.controller") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = Logger.Level(rawValue: order.logLevel) ?? .warning
        let host: ControllerHost
        do {
            host = try await ControllerHost(
                options: order.options, files: order.files, mark: order.mark, logger: logger,
                onPresence: { channel.send(ControllerNews($0).line) })
        } catch {
            channel.send(ControllerNews.failed("\(error)").line)
            channel.flush()
            standardError("apus: \(error)")
            return 1
        }
        channel.send(host.listening.line)
        await withTaskGroup(of: Wish.self) { group in
            group.addTask {
                await host.waitForEnd()
                return .shutDown
            }
            group.addTask {
                for await line in channel.lines { host.follow(line) }
                return .clusterIsGone
            }
            group.addTask {
                for await number in numbers { return .signalled(number) }
                return .shutDown
            }
            switch await group.next() {
            // Nobody wanted this end: a later cluster with `restores` can have the same addresses.
            case .clusterIsGone: await host.stopServing()
            case .signalled(let number):
                logger.info("stopping on signal \(number)")
                await host.stop()
            case .shutDown, nil: await host.stop()
            }
            channel.end()
            group.cancelAll()
        }
        return 0
    }

    private static func standardError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }
}

extension ControllerHost {
    /// The news that this controller can be reached.
    fileprivate var listening: ControllerNews {
        .listening(
            client: self.clientInfo.json.description, engine: self.engineInfo.json.description, taken: self.takenTasks,
            mark: self.mark)
    }

    /// Does what a line of the cluster says.
    fileprivate func follow(_ line: String) {
        switch ControllerInstruction(line: line) {
        case .expectNoEngine(let reason): self.expectNoEngine(reason)
        case .engineProcessEnded(let uuid, let end):
            guard let content = try? JSONValue(parsing: end) else { return }
            self.engineProcessEnded(EngineUUID(uuid), EngineEnd(content))
        case nil: return
        }
    }
}

/// Called by the C code that runs before `main`, when the environment asks for controller mode.
@c(apus_controller_main) @implementation
func apus_controller_main() { ControllerMode.main() }
