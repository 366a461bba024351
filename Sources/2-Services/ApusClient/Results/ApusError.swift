public import Foundation

/// Why a parallel operation could not give a result.
///
/// Errors that user code raised on an engine are ``RemoteError``; several at once are ``CompositeError``. This is everything else.
public struct ApusError: Error, Sendable, CustomStringConvertible {
    /// What kind of thing went wrong. More codes may come, so a `switch` needs a `default`.
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
        /// The task asked to run elsewhere, and there is no elsewhere.
        public static let unmetDependency = Code(.unmetDependency)
        /// Nobody has that result: it was never there, or was purged.
        public static let resultNotFound = Code(.resultNotFound)
        /// The wait was longer than it was allowed to be; the task itself goes on.
        public static let timeout = Code(.timeout)
        /// No connection file is where it should be.
        public static let connectionFileNotFound = Code(.connectionFileNotFound)
        /// The connection file is torn, or not one that can be used here.
        public static let badConnectionFile = Code(.badConnectionFile)
        /// Nobody answers at the connection file's address.
        public static let controllerUnreachable = Code(.controllerUnreachable)
        /// The controller said that it stops, or has been out of reach for long.
        public static let controllerGone = Code(.controllerGone)
        /// The connection to the controller broke before it answered; it may have done what it was asked to.
        public static let connectionLost = Code(.connectionLost)
        /// The task was with a controller that has ended, and nobody there now will bring a result of it.
        public static let taskLost = Code(.taskLost)
        /// The client was closed.
        public static let closed = Code(.closed)
        /// An argument that cannot be sent, or makes no sense.
        public static let badArgument = Code(.badArgument)
        /// A reply that is not what it should be: the result has another type than was asked for, say.
        public static let badResult = Code(.badResult)
        /// The hub answered a request with an error.
        public static let hubError = Code(.hubError)
        /// The controller or engine at the other end cannot do this.
        public static let notSupported = Code(.notSupported)
        /// A process could not be started, or ended before it was ready.
        public static let launchFailed = Code(.launchFailed)
    }

    /// What kind of thing went wrong; what a program decides by.
    public let code: Code
    /// What happened, to whom, and what to try.
    public let message: String
    /// The error behind this one, such as the system's; nil where there is none.
    public let cause: (any Error)?

    /// An error of a kind, in words; for programs that report their own failures in the same way.
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
    /// What the error behind this one says; nil where there is none.
    public var failureReason: String? { self.cause.map { $0.localizedDescription } }
}
