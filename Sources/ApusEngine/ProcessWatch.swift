import CEngineMode
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Tells of what happens to the process from outside: signals, and the end of the process that started it.
enum ProcessWatch {
    enum Event: Sendable {
        /// SIGINT.
        case interrupted
        /// SIGTERM.
        case terminated
        /// One of the signals that are for user code: SIGUSR1, SIGUSR2.
        case signalled(Int32)
        case parentLost
    }

    /// Starts a thread that reports events for as long as the process lives.
    ///
    /// - Parameter parentPipe: The read end of a pipe that the parent keeps open and never writes to.
    static func start(parentPipe: Int32?, _ report: @escaping @Sendable (Event) -> Void) {
        var ends: [Int32] = [-1, -1]
        var watched: [pollfd] = []
        if pipe(&ends) == 0 {
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            // A handler must not block, and a lost signal among thousands is no loss.
            _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
            apus_forward_signals(ends[1])
            watched.append(pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0))
        }
        if let parentPipe {
            _ = fcntl(parentPipe, F_SETFD, FD_CLOEXEC)
            watched.append(pollfd(fd: parentPipe, events: Int16(POLLIN), revents: 0))
        }
        let signals = ends[0]
        let thread = Thread { [watched] in self.watch(watched, signals: signals, report) }
        thread.name = "apus-watch"
        thread.start()
    }

    private static func event(for signal: Int32) -> Event {
        switch signal {
        case SIGINT: .interrupted
        case SIGTERM: .terminated
        default: .signalled(signal)
        }
    }

    private static func watch(_ watched: [pollfd], signals: Int32, _ report: (Event) -> Void) {
        var watched = watched
        while watched.contains(where: { $0.fd >= 0 }) {
            guard poll(&watched, nfds_t(watched.count), -1) > 0 else { continue }
            for index in watched.indices where watched[index].fd >= 0 && watched[index].revents != 0 {
                var byte: UInt8 = 0
                let count = read(watched[index].fd, &byte, 1)
                if watched[index].fd == signals {
                    if count == 1 { report(self.event(for: Int32(byte))) }
                } else if count <= 0 {
                    report(.parentLost)
                    watched[index].fd = -1
                }
            }
        }
    }
}
