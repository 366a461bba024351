internal import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Looks up processes that other programs started.
enum ProcessTable {
    /// Whether the process that a cluster file names still runs.
    ///
    /// Process ids are reused, so the id alone proves little: after a crash it may belong to another program, which must not be
    /// signalled. A process whose initial environment has the cluster's id is the one; a process without it (a controller inside
    /// a user's program) must at least have started before the file was written.
    static func runs(_ processID: Int32, clusterID: String, fileWritten: Date?) -> Bool {
        // EPERM: the process exists and belongs to another user.
        guard processID > 0, kill(processID, 0) == 0 || errno == EPERM else { return false }
        #if os(Linux)
            guard let stat = Self.stat(processID) else { return false }
            // A zombie has ended; its parent has not waited for it yet.
            if stat.state == "Z" || stat.state == "X" { return false }
            if Self.environment(processID)?.contains("IPP_CLUSTER_ID=\(clusterID)") == true { return true }
            if let fileWritten, let started = stat.started {
                // Two seconds, because the system gives its own start in whole seconds.
                return started <= fileWritten.addingTimeInterval(2)
            }
        #endif
        return true
    }

    /// Whether the process exists and has not ended; for a negative number, whether the process group exists.
    static func exists(_ processID: Int32) -> Bool {
        guard kill(processID, 0) == 0 || errno == EPERM else { return false }
        #if os(Linux)
            if processID < 0 { return true }
            if let state = Self.stat(processID)?.state { return state != "Z" && state != "X" }
            return false
        #else
            return true
        #endif
    }

    #if os(Linux)
        fileprivate static func stat(_ processID: Int32) -> (state: Substring, started: Date?)? {
            guard let text = Self.read("/proc/\(processID)/stat"),
                // The second field is the program's name in brackets, and the name may hold anything.
                let bracket = text.lastIndex(of: ")")
            else { return nil }
            let fields = text[text.index(after: bracket)...].split(separator: " ")
            // Fields 3 (state) and 22 (start, in clock ticks since the system's).
            guard fields.count > 19, let ticks = Double(fields[19]) else { return nil }
            guard let boot = Self.bootTime else { return (fields[0], nil) }
            return (fields[0], boot.addingTimeInterval(ticks / Double(sysconf(Int32(_SC_CLK_TCK)))))
        }

        private static var bootTime: Date? {
            guard let line = Self.read("/proc/stat")?.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }),
                let seconds = Double(line.dropFirst(6))
            else { return nil }
            return Date(timeIntervalSince1970: seconds)
        }

        /// The variables that the process was started with; nil when this user may not read them.
        private static func environment(_ processID: Int32) -> [Substring]? {
            Self.read("/proc/\(processID)/environ")?.split(separator: "\0")
        }

        private static func read(_ path: String) -> String? {
            guard let file = FileHandle(forReadingAtPath: path) else { return nil }
            defer { try? file.close() }
            return (try? file.readToEnd()).map { String(decoding: $0, as: UTF8.self) }
        }
    #endif
}
