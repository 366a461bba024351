public import ApusController
internal import ApusStore
public import ApusWire
public import Logging
internal import NIOCore
internal import NIOPosix
internal import ZMTPTransport

/// A controller that runs in this process, with its connection files.
public final class ControllerHost: Sendable {
    /// Where the connection files are; nil when none are written.
    public struct Files: Sendable {
        public var profile: ProfileDirectory
        public var clusterID: String
        /// Whether the files stay when the controller stops, and their ports and key are used again.
        public var reuse: Bool

        public init(profile: ProfileDirectory, clusterID: String, reuse: Bool = false) {
            self.profile = profile
            self.clusterID = clusterID
            self.reuse = reuse
        }

        var clientFile: String { self.profile.clientFile(clusterID: self.clusterID) }
        var engineFile: String { self.profile.engineFile(clusterID: self.clusterID) }
    }

    public let clientInfo: ClientConnectionInfo
    public let engineInfo: EngineConnectionInfo
    private let files: Files?
    private let service: ControllerService
    private let running: Task<Void, any Error>

    /// Binds the sockets, writes the files and serves from then on.
    ///
    /// - Throws: ``ApusError`` when a port is in use or a file cannot be written.
    public init(
        options: ControllerOptions = ControllerOptions(), files: Files? = nil, logger: Logger = Logger(label: "apus.controller")
    )
        async throws
    {
        let service: ControllerService
        do {
            service = try ControllerService(
                options: options, transport: ZMTPTransport(), store: MemoryTaskStore(),
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
                logger: logger)
            (self.clientInfo, self.engineInfo) = try await service.start()
        } catch {
            throw ApusError(.launchFailed, "the controller could not start: \(error)", cause: nil)
        }
        self.service = service
        self.files = files
        self.running = Task { try await service.run() }
        do {
            if let files {
                try files.profile.create()
                try PrivateFile.write(self.engineInfo.json.indentedText + "\n", to: files.engineFile)
                try PrivateFile.write(self.clientInfo.json.indentedText + "\n", to: files.clientFile)
            }
        } catch {
            await self.stop()
            throw ApusError(.launchFailed, "the connection files could not be written: \(error)", cause: nil)
        }
    }

    /// Waits until the controller has been shut down, by a client or by ``stop()``; its files are gone then.
    public func wait() async throws {
        try await self.running.value
        self.removeFiles()
    }

    /// Stops serving and removes the files.
    public func stop() async {
        self.service.stop()
        _ = await self.running.result
        self.removeFiles()
    }

    private func removeFiles() {
        guard let files, !files.reuse else { return }
        PrivateFile.remove(files.clientFile)
        PrivateFile.remove(files.engineFile)
    }
}
