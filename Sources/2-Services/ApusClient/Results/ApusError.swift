public import Foundation

/// Why a parallel operation could not give a result.
///
/// Errors that user code raised on an engine are ``RemoteError``; several at once are ``CompositeError``. All other failures are
/// of this type.
public struct ApusError: Error, Sendable, CustomStringConvertible {
    /// The kind of an error. More codes may come, so a `switch` needs a `default`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case noEnginesRegistered, noSuchEngine, engineDied, taskAborted, taskTimeout, impossibleDependency, invalidDependency
            case unmetDependency, resultNotFound, timeout, connectionFileNotFound, badConnectionFile, controllerUnreachable
            case controllerGone, connectionLost, taskLost, closed, badArgument, badResult, hubError, notSupported, launchFailed
        }

        private let value: Value

        private init(_ value: Value) { self.value = value }

        public var description: String { self.value.rawValue }

        /// The operation needs engines and there are none; for a task: none is left, and none is coming.
        public static let noEnginesRegistered = Code(.noEnginesRegistered)
        /// A target names an engine that is not registered.
        public static let noSuchEngine = Code(.noSuchEngine)
        /// The engine died before it answered (Python's `EngineError`).
        public static let engineDied = Code(.engineDied)
        /// The task was aborted before it started.
        public static let taskAborted = Code(.taskAborted)
        /// The task's dependencies were not met within its `timeout`.
        public static let taskTimeout = Code(.taskTimeout)
        /// The task's dependencies can never be met.
        public static let impossibleDependency = Code(.impossibleDependency)
        /// The task depends on itself, or on a task that the scheduler was never given.
        public static let invalidDependency = Code(.invalidDependency)
        /// The task refused the engines that it was offered, and there is no other engine.
        public static let unmetDependency = Code(.unmetDependency)
        /// There is no result: the task has not ended, or the hub does not know the task, or its result was purged.
        public static let resultNotFound = Code(.resultNotFound)
        /// The wait took longer than its timeout; the task itself runs on.
        public static let timeout = Code(.timeout)
        /// There is no connection file at the place where it is looked for.
        public static let connectionFileNotFound = Code(.connectionFileNotFound)
        /// The connection file is incomplete, or cannot be used here.
        public static let badConnectionFile = Code(.badConnectionFile)
        /// No controller answers at the connection file's address.
        public static let controllerUnreachable = Code(.controllerUnreachable)
        /// The controller said that it stops, or has been out of reach for longer than the client waits.
        public static let controllerGone = Code(.controllerGone)
        /// The connection to the controller broke before the answer came; the controller may have carried out the request.
        public static let connectionLost = Code(.connectionLost)
        /// The task was lost with its controller or connection: no controller will give a result of it.
        public static let taskLost = Code(.taskLost)
        /// The client was closed.
        public static let closed = Code(.closed)
        /// An argument cannot be sent, or is invalid.
        public static let badArgument = Code(.badArgument)
        /// A reply cannot be used: its result may have another type than was asked for.
        public static let badResult = Code(.badResult)
        /// The hub answered a request with an error.
        public static let hubError = Code(.hubError)
        /// The controller or engine at the other end cannot do this.
        public static let notSupported = Code(.notSupported)
        /// A process could not be started, or ended before it was ready.
        public static let launchFailed = Code(.launchFailed)
    }

    /// The kind of the error, for programs to decide by.
    public let code: Code
    /// What happened, to whom, and what to try.
    public let message: String
    /// The error behind this one, such as the system's; nil where there is none.
    public let cause: (any Error)?

    /// Makes an error of a kind; for programs that report their own failures in the same way.
    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    public var description: String {
        guard let cause else { return self.message }
        return "\(self.message) (\(cause))"
    }
}

extension ApusError: LocalizedError {
    /// The message.
    public var errorDescription: String? { self.message }
    /// The description of the error behind this one; nil where there is none.
    public var failureReason: String? { self.cause.map { $0.localizedDescription } }
}
