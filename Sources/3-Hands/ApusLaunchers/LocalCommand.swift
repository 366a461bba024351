private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// A program to run on this machine, and how.
package struct LocalCommand: Sendable, Hashable {
    /// Where the program's standard output and error go.
    package enum Output: Sendable, Hashable {
        /// To the end of this file, made with its folder when missing.
        case log(String)
        case discarded
        /// To the output and error of this process.
        case inherited
    }

    /// A path, or a name to be found in `PATH`.
    package var executable: String
    package var arguments: [String]
    /// Variables for the program besides those of this process, which the program inherits.
    package var environment: [String: String]
    /// The program's working directory; nil: that of this process.
    package var workingDirectory: String?
    package var output: Output
    package var parentWatch: ParentWatch
    /// How long after SIGTERM the program gets SIGKILL.
    package var stopGrace: Duration

    package init(
        _ executable: String, arguments: [String] = [], environment: [String: String] = [:], workingDirectory: String? = nil,
        output: Output = .discarded, parentWatch: ParentWatch = .watchdog, stopGrace: Duration = .seconds(5)
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.output = output
        self.parentWatch = parentWatch
        self.stopGrace = stopGrace
    }

    /// The path of the program that runs now.
    ///
    /// If the file was replaced since the program started (a build, an upgrade), this is the system's link to the running image:
    /// another build would not have the same functions.
    package static var thisExecutable: String {
        #if os(Linux)
            let link = "/proc/self/exe"
            guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: link),
                FileManager.default.isExecutableFile(atPath: path)
            else { return "/proc/\(getpid())/exe" }
            return path
        #else
            return Bundle.main.executablePath ?? ProcessInfo.processInfo.arguments[0]
        #endif
    }

    /// The program's path; a wrong name throws here and does not end up in a log.
    func resolvedExecutable() throws(LauncherError) -> String {
        if self.executable.contains("/") {
            guard access(self.executable, X_OK) == 0 else {
                throw LauncherError(
                    .notStarted, "\(self.executable) cannot be started: \(String(cString: strerror(errno)))")
            }
            return self.executable
        }
        let path = self.environment["PATH"] ?? ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        for folder in path.split(separator: ":") {
            let candidate = "\(folder)/\(self.executable)"
            if access(candidate, X_OK) == 0 { return candidate }
        }
        throw LauncherError(.notStarted, "\(self.executable) cannot be started: it is in no folder of PATH (\(path))")
    }
}
