#if canImport(System)
    internal import System
#else
    internal import SystemPackage
#endif

#if canImport(Darwin)
    private import Darwin
#endif

/// How a process notices that the one that started it is gone.
///
/// The parent holds the write end of a pipe and never writes; when it ends, however it ends, the system closes that end and
/// whoever reads sees the end of file. (Linux' parent-death signal will not do: it fires when the *thread* that started the
/// child ends, and threads of a pool come and go.)
package enum ParentWatch: Sendable, Hashable {
    /// The process reads the pipe itself, at the descriptor that `APUS_PARENT_FD` names, and ends at its end.
    case process
    /// The process knows nothing of pipes: a small shell beside it, in its process group, reads and then kills the group.
    case watchdog
    /// The process outlives its parent, as a daemon should.
    case none

    /// A shell command that arranges for the watch and then becomes the program; its standard input is the pipe's read end.
    ///
    /// It replaces itself (`exec`), so the process id it was started with is the program's own. The program's standard input
    /// is empty.
    var script: String? {
        switch self {
        case .process:
            "exec \"$@\" 3<&0 </dev/null"
        case .watchdog:
            // The shell within the shell leaves the program without a child that it never started. The group's id is this
            // shell's ($$), since it leads its session. Signals meant for the program may go to the group: only SIGKILL ends
            // the watchdog. When the program ends first its launcher closes the pipe, so the group's remains are swept.
            """
            exec 3<&0 </dev/null
            ( (trap '' HUP INT QUIT TERM USR1 USR2; read -r _ <&3; kill -s KILL -- "-$$") >/dev/null 2>&1 & )
            exec 3<&-
            exec "$@"
            """
        case .none:
            nil
        }
    }
}

/// The pipe whose end tells children of their parent's.
struct ParentPipe {
    let readEnd: FileDescriptor
    let writeEnd: FileDescriptor

    init() throws {
        // Close-on-exec from the first moment: a child that another thread starts just now must not hold the write end.
        #if os(Linux)
            (self.readEnd, self.writeEnd) = try FileDescriptor.pipe(options: .closeOnExec)
        #else
            (self.readEnd, self.writeEnd) = try FileDescriptor.pipe()
            for end in [self.readEnd, self.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        #endif
    }
}
