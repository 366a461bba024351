public import ApusClient
public import ApusWire
public import Logging
public import NIOCore
internal import NIOPosix
internal import ZMTPTransport

extension Client {
    /// Connects to a running cluster, found by its profile and cluster id in the usual folders.
    ///
    /// - Parameters:
    ///   - profile: The profile's name; nil: `default`. See ``ProfileDirectory``.
    ///   - profileDirectory: The profile's folder, instead of its name.
    ///   - clusterID: Which of the profile's clusters; empty: the one that `apus start` makes without `--cluster-id`.
    ///   - timeout: How long to wait for the hub's answer.
    ///   - patience: How long the controller may be out of reach later on before waiting calls throw an error with code
    ///     `controllerGone`. Even then the client reconnects to a controller that comes back.
    ///   - maximumMessageSize: The largest message that is taken, in bytes; nil: the value of the environment's
    ///     `APUS_MAX_MESSAGE_SIZE`, or half of the machine's memory. Waiting for a larger result throws an error with code
    ///     `badResult`.
    ///   - eventLoopGroup: The group of NIOPosix that runs the client's sockets; the caller keeps it running until the client is
    ///     closed. Nil: the process-wide group.
    ///   - logger: Where the client logs failures that no call throws.
    /// - Throws: ``ApusError`` that names the folders or files that were searched, or the address that did not answer.
    public static func connect(
        profile: String? = nil, profileDirectory: String? = nil, clusterID: String = "", timeout: Duration = .seconds(10),
        patience: Duration = .seconds(60), maximumMessageSize: Int? = nil, eventLoopGroup: (any EventLoopGroup)? = nil,
        logger: Logger = Logger(label: "apus.client")
    ) async throws -> Client {
        let directory = ProfileDirectory(explicitPath: profileDirectory, profile: profile)
        return try await Self.connect(
            to: ConnectionFinder.client(profile: directory, clusterID: clusterID), timeout: timeout, patience: patience,
            maximumMessageSize: maximumMessageSize, eventLoopGroup: eventLoopGroup, logger: logger)
    }

    /// Connects to the cluster of a client connection file, given by its path or as its JSON text.
    public static func connect(
        file: String, timeout: Duration = .seconds(10), patience: Duration = .seconds(60), maximumMessageSize: Int? = nil,
        eventLoopGroup: (any EventLoopGroup)? = nil, logger: Logger = Logger(label: "apus.client")
    ) async throws -> Client {
        try await Self.connect(
            to: ConnectionFinder.client(file: file), timeout: timeout, patience: patience,
            maximumMessageSize: maximumMessageSize, eventLoopGroup: eventLoopGroup, logger: logger)
    }

    /// Connects to a controller whose addresses are known.
    public static func connect(
        to info: ClientConnectionInfo, timeout: Duration = .seconds(10), patience: Duration = .seconds(60),
        maximumMessageSize: Int? = nil, eventLoopGroup: (any EventLoopGroup)? = nil, logger: Logger = Logger(label: "apus.client")
    ) async throws -> Client {
        // The threads of the process-wide group live as long as the process, so a client owns no thread.
        let eventLoop = (eventLoopGroup ?? MultiThreadedEventLoopGroup.singleton).next()
        return try await Client(
            info, transport: ZMTPTransport(), eventLoop: eventLoop, timeout: timeout, patience: patience,
            maximumMessageSize: maximumMessageSize, logger: logger)
    }
}
