#if canImport(System)
    internal import System
#else
    internal import SystemPackage
#endif

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
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
    /// As `process`, and the pipe is a socket: parent and process send each other lines (``LineChannel``).
    case channel
    /// The process does not read the pipe: a small shell in its process group does, and kills the group at the pipe's end.
    case watchdog
    /// The process outlives its parent, as a daemon should.
    case none

    /// A shell command that sets up the watch and then becomes the program; the shell's standard input is the pipe's read end.
    ///
    /// The shell replaces itself (`exec`), so its process id becomes the program's. The program's standard input is empty.
    var script: String? {
        switch self {
        case .process, .channel:
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
    /// The child's end.
    let readEnd: FileDescriptor
    /// The parent's end.
    let writeEnd: FileDescriptor

    /// - Parameter isSocket: Whether both ends can be read and written.
    init(isSocket: Bool = false) throws {
        // Close-on-exec from the first moment: a child that another thread starts at this time must not hold the write end.
        if isSocket {
            var ends: [Int32] = [-1, -1]
            #if os(Linux)
                let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
            #else
                let type = SOCK_STREAM
            #endif
            guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
            (self.readEnd, self.writeEnd) = (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
        } else {
            #if os(Linux)
                (self.readEnd, self.writeEnd) = try FileDescriptor.pipe(options: .closeOnExec)
            #else
                (self.readEnd, self.writeEnd) = try FileDescriptor.pipe()
            #endif
        }
        #if !os(Linux)
            for end in [self.readEnd, self.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        #endif
    }
}
