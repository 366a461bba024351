/// Why engines could not be started or reached.
package struct LauncherError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String { case notStarted, noSuchEngine, unreadableClusterFile, stillRunning }

        private let value: Value

        private init(_ value: Value) { self.value = value }

        package var description: String { self.value.rawValue }

        /// The command is no program here, or the system would not start it.
        package static let notStarted = Code(.notStarted)
        /// The set has no engine of that number.
        package static let noSuchEngine = Code(.noSuchEngine)
        /// The file is malformed, or describes no cluster.
        package static let unreadableClusterFile = Code(.unreadableClusterFile)
        /// The processes outlived even SIGKILL: they hang in the kernel.
        package static let stillRunning = Code(.stillRunning)
    }

    package let code: Code
    /// What happened, to which engine or file, and what to try.
    package let message: String
    package let cause: (any Error)?

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String { self.cause.map { "\(self.message): \($0)" } ?? self.message }
}
