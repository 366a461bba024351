import ApusCore
package import ApusTransport
package import ApusWire
import CEngineMode
import Foundation
package import Logging
import NIOCore
import NIOPosix
import ZMTPTransport

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A process that is an engine and nothing else.
///
/// The engine finds its controller by the environment, as Python's engines do (`IPP_CONNECTION_INFO`, `IPP_PROFILE_DIR`,
/// `IPP_CLUSTER_ID`, `IPP_SESSION_KEY`), or by a ``Place``. The engine ends when a client shuts it down, when the controller or
/// the process that started it (`APUS_PARENT_FD`) is gone, and at SIGTERM; SIGINT interrupts running requests.
package enum EngineProcess {
    /// Where the engine looks for its connection file, and the engine's other settings.
    ///
    /// Connection information in the environment takes the place of the file, unless `file` is set.
    package struct Place: Sendable {
        /// The connection file; nil: the file of the profile and cluster id.
        package var file: String?
        package var profile: ProfileDirectory
        package var clusterID: String
        /// The controller's host, in place of the one in the file.
        package var location: String?
        /// The key to sign with where the connection information has none, in place of the environment's.
        package var key: String?
        /// The engine's name on the wire; nil: the one that its launcher gave (`APUS_ENGINE_UUID`), else a new one.
        package var uuid: String?
        /// Lines less important than this are not logged.
        package var logLevel = Logger.Level.info
        /// How many checks in a row may find no ping before the controller counts as gone; 0: it never does.
        package var missedHeartbeatLimit = 50
        /// How long the file may take to appear.
        package var patience = Duration.seconds(10)
        /// How to run Python; nil: as the environment says, else Swift functions only.
        package var python: PythonOptions?
        /// The id to ask the hub for, as an MPI rank does.
        package var wantedID: EngineID?
        /// What the engine owns that tasks may ask for; nil: as the environment says.
        package var resources: [String: Double]?
        /// The largest message that is taken, in bytes; nil: as the environment says, or half of the machine's memory.
        package var maximumMessageSize: Int?
        /// How long the hub may take to answer, and then the controller's other ports.
        package var registrationTimeout = Duration.seconds(10)

        /// Creates the settings that the environment gives.
        package init() {
            self.profile = ProfileDirectory(explicitPath: nil, profile: nil)
            self.clusterID = ProcessInfo.processInfo.environment[EnvironmentVariable.clusterID] ?? ""
        }

        /// Reads a list of resources such as `gpu=1,memory=64`; nil when the text is no such list.
        package static func resources(in text: String) -> [String: Double]? {
            var resources: [String: Double] = [:]
            for part in text.split(separator: ",") {
                let sides = part.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
                guard sides.count == 2, !sides[0].isEmpty, let amount = Double(sides[1]), amount >= 0, amount.isFinite else {
                    return nil
                }
                resources[sides[0]] = amount
            }
            return resources
        }

        fileprivate func ownedResources() throws(WireError) -> [String: Double] {
            if let resources { return resources }
            guard let text = ProcessInfo.processInfo.environment[EnvironmentVariable.engineResources] else { return [:] }
            guard let resources = Self.resources(in: text) else {
                throw WireError("\(EnvironmentVariable.engineResources) is a list such as 'gpu=1,memory=64', not '\(text)'")
            }
            return resources
        }
    }

    /// Runs an engine until it ends, and gives the process's exit code: 0; 1 when there is no connection information, a setting
    /// makes no sense or Python cannot go on; 255 when the hub refused the registration or the controller did not answer.
    ///
    /// - Parameter takesOver: Whether the standard streams and the signals become the engine's.
    package static func run(
        _ place: Place = Place(), transport: any Transport = ZMTPTransport(), takesOver: Bool = true
    ) async -> Int32 {
        let environment = Environment.take()
        var options = EngineOptions()
        options.ownsProcess = takesOver
        if takesOver { options.capture = try? OutputCapture() }
        options.wantedID = place.wantedID
        options.maximumMessageSize = place.maximumMessageSize
        options.session.missedHeartbeatLimit = place.missedHeartbeatLimit
        if let uuid = place.uuid {
            options.uuid = EngineUUID(uuid)
        } else if let uuid = environment.uuid {
            options.uuid = EngineUUID(uuid)
            options.replaces = true
        }
        options.session.registrationTimeout = Int(place.registrationTimeout / .milliseconds(1))
        options.session.connectionTimeout = options.session.registrationTimeout
        let log = options.capture?.originalStandardError ?? STDERR_FILENO
        var logger = Logger(label: "apus.engine") { EngineLogHandler(label: $0, descriptor: log) }
        logger.logLevel = place.logLevel
        let engine: EngineService
        do {
            guard Self.isName(options.uuid.text) else {
                throw WireError(
                    "'\(options.uuid)' cannot be an engine's uuid: at most 255 letters, digits, underscores and dashes can")
            }
            options.resources = try place.ownedResources()
            options.python = try place.python ?? environment.python.map { try self.python(in: $0, place) }
            let connection = try await self.connection(place, environment)
            try HostAddress.requireNoTunnel(connection.common)
            let host = try HostAddress.reachable(interface: connection.common.interface, location: connection.common.location)
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            engine = try EngineService(
                connection: connection, host: host, transport: transport, eventLoop: group.next(), options: options,
                logger: logger)
        } catch {
            logger.error("\(error)")
            return 1
        }
        if takesOver {
            ProcessWatch.start(parentPipe: environment.parentPipe) { event in
                switch event {
                case .interrupted: engine.interrupt()
                case .signalled(let number): engine.pass(signal: number)
                case .terminated: engine.stop()
                case .parentLost: engine.parentIsLost()
                case .ending(let cause, let goOn): engine.processEnds(cause, goOn: goOn)
                }
            }
        }
        let ending = await engine.run()
        // The hub knows that the engine has ended, so the end of the process need not be reported.
        apus_end_in_order()
        options.capture?.release()
        switch ending {
        case .refused, .registrationTimedOut, .portsSilent:
            logger.error("\(ending)", metadata: ["controller": "\(engine.address)"])
            return 255
        case .kernelLost:
            logger.error("\(ending)")
            return 1
        case .killed:
            // The client asked for SIGKILL, and a launcher that watches this process must see it end so.
            ProcessIdentity.raise(SIGKILL)
            return 137
        case .shutDown, .quit, .controllerLost, .parentLost, .cancelled, .signalled: return 0
        }
    }

    private static func isName(_ text: String) -> Bool {
        1...255 ~= text.utf8.count
            && text.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    /// Runs an engine in place of the program's `main`, and ends the process.
    ///
    /// The calling thread, the process's first, serves the main queue, so that functions on the main actor run.
    package static func main(transport: any Transport = ZMTPTransport()) -> Never {
        Task.detached {
            let code = await self.run(transport: transport)
            fflush(nil)
            // A function may still run on the worker's thread; the clean-up at `exit` would destroy objects that it uses.
            _exit(code)
        }
        dispatchMain()
    }

    /// The options for the interpreter that ``EnvironmentVariable/enginePython`` names.
    private static func python(in text: String, _ place: Place) throws(WireError) -> PythonOptions {
        var python = PythonOptions(interpreter: try PythonOptions.findInterpreter(text.isEmpty ? nil : text))
        python.profileDirectory = place.profile.path
        return python
    }

    // MARK: Connection

    private static func connection(_ place: Place, _ environment: Environment) async throws(WireError) -> EngineConnectionInfo {
        let json: JSONValue
        let source: String
        if place.file == nil, let text = environment.connection {
            source = EnvironmentVariable.connectionInfo
            do { json = try JSONValue(parsing: text) } catch {
                throw WireError("\(EnvironmentVariable.connectionInfo) is no JSON: \(error)")
            }
        } else {
            source = place.file ?? place.profile.engineFile(clusterID: place.clusterID)
            json = try await self.wait(for: source, place.patience)
        }
        var connection: EngineConnectionInfo
        do { connection = try EngineConnectionInfo(json) } catch { throw WireError("\(source): \(error)") }
        if let location = place.location { connection.common.location = location }
        if connection.common.key.isEmpty, let key = place.key ?? environment.key { connection.common.key = key }
        if connection.common.curveServerKey != nil {
            throw WireError("\(source): the controller encrypts with CURVE, which this engine cannot; start it without --secure")
        }
        return connection
    }

    private static func wait(for file: String, _ patience: Duration) async throws(WireError) -> JSONValue {
        let clock = ContinuousClock()
        let deadline = clock.now + patience
        while true {
            do { return try PrivateFile.readJSON(file) } catch {
                // ipyparallel writes the file in place, so only half of it may be there.
                guard clock.now < deadline else {
                    throw PrivateFile.exists(file)
                        ? error
                        : WireError(
                            "there is no connection file \(file) after \(patience). Is the controller running, with this profile?"
                        )
                }
            }
            do { try await clock.sleep(for: .milliseconds(100)) } catch { throw WireError("stopped while waiting for \(file)") }
        }
    }

    /// Variables of the environment that are for this process alone. They are removed from it, so that programs that functions
    /// start do not get them.
    private struct Environment {
        let connection: String?
        let key: String?
        let parentPipe: Int32?
        /// May be empty.
        let python: String?
        let uuid: String?

        static func take() -> Environment {
            func takeAny(_ name: String) -> String? {
                guard let value = getenv(name).map({ String(cString: $0) }) else { return nil }
                unsetenv(name)
                return value
            }
            func take(_ name: String) -> String? { takeAny(name).flatMap { $0.isEmpty ? nil : $0 } }
            return Environment(
                connection: take(EnvironmentVariable.connectionInfo), key: take(EnvironmentVariable.sessionKey),
                parentPipe: take(EnvironmentVariable.parentDescriptor).flatMap { Int32($0) },
                python: takeAny(EnvironmentVariable.enginePython), uuid: take(EnvironmentVariable.engineUUID))
        }
    }
}

/// Called by the C code that runs before `main`, when the environment asks for engine mode.
@c(apus_engine_main) @implementation
func apus_engine_main() { EngineProcess.main() }
