import Apus
import Foundation

/// Starts a program that outlives this one.
enum Background {
    /// The process id of the program, which has a session of its own, no input, and its output in the log.
    static func start(_ executable: String, _ arguments: [String], log: String) throws -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSID))
        let words: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, executable, &actions, &attributes, words, environ)
        guard code == 0 else {
            throw ApusError(.launchFailed, "\(executable) cannot be started: \(String(cString: strerror(code)))")
        }
        return pid
    }

    static func isRunning(_ pid: Int32) -> Bool {
        // A child that has ended stays until it is waited for.
        var status: Int32 = 0
        return waitpid(pid, &status, WNOHANG) == 0
    }
}
