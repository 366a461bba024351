#if canImport(System)
    internal import System
#else
    internal import SystemPackage
#endif

#if canImport(Darwin)
    private import Darwin
#endif

/// How a process notices that its parent has ended.
///
/// The parent holds the write end of a pipe and never writes; when the parent ends, in whatever way, the system closes that end
/// and the reader sees the end of file. (Linux' parent-death signal does not serve: it fires when the *thread* that started the
/// child ends, and threads of a pool come and go.)
package enum ParentWatch: Sendable, Hashable {
    /// The process reads the pipe itself, at the descriptor that `APUS_PARENT_FD` names, and ends at the pipe's end.
    case process
    /// The process does not read the pipe: a small shell in its process group does, and kills the group at the pipe's end.
    case watchdog
    /// The process outlives its parent, as a daemon should.
    case none

    /// A shell command that sets up the watch and then becomes the program; the shell's standard input is the pipe's read end.
    ///
    /// The shell replaces itself (`exec`), so its process id becomes the program's. The program's standard input is empty.
    var script: String? {
        switch self {
        case .process:
            "exec \"$@\" 3<&0 </dev/null"
        case .watchdog:
            // The watchdog is started by a second shell, so that it is not the program's child. The group's id is this shell's
            // ($$), since it leads its session. Signals meant for the program may go to the group: only SIGKILL ends the
            // watchdog. When the program ends first, its launcher closes the pipe, and the watchdog kills the rest of the group.
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

/// The pipe by whose end of file children notice that their parent has ended.
struct ParentPipe {
    let readEnd: FileDescriptor
    let writeEnd: FileDescriptor

    init() throws {
        // Close-on-exec from the first moment: a child that another thread starts at this time must not hold the write end.
        #if os(Linux)
            (self.readEnd, self.writeEnd) = try FileDescriptor.pipe(options: .closeOnExec)
        #else
            (self.readEnd, self.writeEnd) = try FileDescriptor.pipe()
            for end in [self.readEnd, self.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        #endif
    }
}
