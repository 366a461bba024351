import ApusWire
import Dispatch
import Foundation
import Locks

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An interpreter that runs as a child process, and a socket to it.
///
/// The child has its end of the socket at descriptor 3, at 4 the read end of a pipe that ends when this process does, and at
/// ``lenderNumber`` its end of the socket that large parts of frames are lent over.
final class KernelChild: Sendable {
    let pid: pid_t
    /// Our end of the socket. It blocks until ``KernelReading`` starts.
    let socket: Int32
    /// Our end of the socket for ``KernelMemory``.
    let lender: Int32
    static let lenderNumber: Int32 = 5
    private let life: Int32
    private let status = Mutex(Status.running)
    private let ended = DispatchSemaphore(value: 0)

    private enum Status {
        case running
        case ended(Ending)
    }

    /// How a process ended.
    enum Ending: Sendable, Equatable {
        case exited(Int32)
        case signalled(Int32)
    }

    /// - Throws: ``EngineTaskError`` with the system's reason, which tasks that wait for the kernel are told.
    init(interpreter: String, arguments: [String]) throws(EngineTaskError) {
        var ends: [Int32] = [-1, -1]
        var lenderEnds: [Int32] = [-1, -1]
        var pipeEnds: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, streamSocket, 0, &ends) == 0, socketpair(AF_UNIX, streamSocket, 0, &lenderEnds) == 0,
            pipe(&pipeEnds) == 0
        else {
            throw EngineTaskError(.engineError, "no socket for the Python kernel: \(String(cString: strerror(errno)))")
        }
        // Higher numbers than those that the child's copies get.
        let all = (ends + lenderEnds + pipeEnds).map { descriptor in
            let high = fcntl(descriptor, F_DUPFD_CLOEXEC, 10)
            close(descriptor)
            return high
        }
        let (ours, theirs, ourLender, theirLender, lifeRead, lifeWrite) = (all[0], all[1], all[2], all[3], all[4], all[5])
        defer {
            close(theirs)
            close(theirLender)
            close(lifeRead)
        }
        #if canImport(Darwin)
            var on: Int32 = 1
            for end in [ours, ourLender] {
                setsockopt(end, SOL_SOCKET, SO_NOSIGPIPE, &on, socklen_t(MemoryLayout<Int32>.size))
            }
        #endif
        // Large buffers, so that large results need few system calls.
        for end in [ours, theirs] {
            var size: Int32 = 1 << 20
            setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        do {
            self.pid = try Self.spawn(interpreter, arguments, [(theirs, 3), (lifeRead, 4), (theirLender, Self.lenderNumber)])
        } catch {
            close(ours)
            close(ourLender)
            close(lifeWrite)
            throw error
        }
        self.socket = ours
        self.lender = ourLender
        self.life = lifeWrite
        let watch = Thread { [self] in self.wait() }
        watch.name = "apus-kernel-wait"
        watch.start()
    }

    deinit {
        close(self.socket)
        close(self.lender)
        close(self.life)
    }

    private static func spawn(
        _ interpreter: String, _ arguments: [String], _ descriptors: [(ours: Int32, theirs: Int32)]
    ) throws(EngineTaskError) -> pid_t {
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        for (ours, theirs) in descriptors { posix_spawn_file_actions_adddup2(&actions, ours, theirs) }
        // A process group of its own: Ctrl-C in the terminal reaches this process, which passes it on to a task that runs.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK))
        var words: [UnsafeMutablePointer<CChar>?] = ([interpreter] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, interpreter, &actions, &attributes, words, environ)
        guard code == 0 else {
            throw EngineTaskError(.engineError, "\(interpreter) does not start: \(String(cString: strerror(code)))")
        }
        return pid
    }

    /// Waits for the child and notes how it ended. The socket's end of file does not tell: a process that the child forked may
    /// hold it open.
    private func wait() {
        #if canImport(Darwin)
            var information = siginfo_t()
        #else
            var information = siginfo_t()
        #endif
        while waitid(P_PID, id_t(self.pid), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        // After `waitpid` the process id may become another process's, so the lock is held until no signal can be sent any more.
        self.status.withLock { status in
            var code: Int32 = 0
            while waitpid(self.pid, &code, 0) < 0 && errno == EINTR {}
            let signal = code & 0x7f
            status = .ended(signal == 0 ? .exited((code >> 8) & 0xff) : .signalled(signal))
        }
        // Bytes that are still in the socket can be read; after them the socket ends.
        shutdown(self.socket, Int32(SHUT_RDWR))
        shutdown(self.lender, Int32(SHUT_RDWR))
        self.ended.signal()
    }

    /// Sends a signal; false when the process has ended.
    @discardableResult
    func signal(_ number: Int32) -> Bool {
        self.status.withLock { status in
            guard case .running = status else { return false }
            return kill(self.pid, number) == 0
        }
    }

    /// Tells the kernel that nothing more comes: it ends when it has read the end of the socket.
    func closeInput() { shutdown(self.socket, Int32(SHUT_WR)) }

    /// Waits for the process to end, kills it after the given time, and gives how it ended.
    func ending(within seconds: Double) -> Ending {
        if self.ended.wait(timeout: .now() + seconds) == .timedOut {
            self.signal(SIGKILL)
            self.ended.wait()
        }
        self.ended.signal()
        return self.status.withLock { status in
            guard case .ended(let ending) = status else { preconditionFailure("a process ended without a status") }
            return ending
        }
    }
}

extension KernelChild.Ending: CustomStringConvertible {
    var description: String {
        switch self {
        case .exited(let code): "it exited with status \(code)"
        case .signalled(SIGSEGV): "a segmentation fault (SIGSEGV)"
        case .signalled(SIGBUS): "a bus error (SIGBUS)"
        case .signalled(SIGABRT): "it aborted (SIGABRT)"
        case .signalled(SIGFPE): "an arithmetic fault (SIGFPE)"
        case .signalled(SIGILL): "an illegal instruction (SIGILL)"
        case .signalled(SIGKILL): "it was killed (SIGKILL), as the system does when memory runs out"
        case .signalled(let number): "it was ended by signal \(number)"
        }
    }
}

#if canImport(Darwin)
    private let streamSocket = SOCK_STREAM
#else
    private let streamSocket = Int32(SOCK_STREAM.rawValue)
#endif
