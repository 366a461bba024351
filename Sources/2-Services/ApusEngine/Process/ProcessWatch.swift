import ApusCore
import CEngineMode
import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Reports signals to this process, its end, and the end of the process that started it.
enum ProcessWatch {
    enum Event: Sendable {
        /// SIGINT.
        case interrupted
        /// SIGTERM.
        case terminated
        /// One of the signals that are for user code: SIGUSR1, SIGUSR2.
        case signalled(Int32)
        case parentLost
        /// The process crashes, or a function called `exit`. The process is held for a moment, until `goOn` is called.
        case ending(EngineEnd.Cause, goOn: @Sendable () -> Void)
    }

    /// Starts a thread that reports events for as long as the process lives.
    ///
    /// - Parameter parentPipe: The read end of a pipe that the parent keeps open and never writes to.
    static func start(parentPipe: Int32?, _ report: @escaping @Sendable (Event) -> Void) {
        var ends: [Int32] = [-1, -1]
        var watched: [pollfd] = []
        if pipe(&ends) == 0 {
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            // The signal handler must not block; when the pipe is full, with thousands of signals, one is lost.
            _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
            apus_forward_signals(ends[1])
            watched.append(pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0))
        }
        if let parentPipe {
            _ = fcntl(parentPipe, F_SETFD, FD_CLOEXEC)
            watched.append(pollfd(fd: parentPipe, events: Int16(POLLIN), revents: 0))
        }
        let signals = ends[0]
        let endings = self.watchEnd()
        if let endings { watched.append(pollfd(fd: endings.report, events: Int16(POLLIN), revents: 0)) }
        let thread = Thread { [watched] in self.watch(watched, signals: signals, endings: endings, report) }
        thread.name = "apus-watch"
        thread.start()
    }

    /// Has the process's end reported by one pipe, and delayed until a byte is written to another.
    private static func watchEnd() -> (report: Int32, answer: Int32)? {
        var report: [Int32] = [-1, -1]
        var answer: [Int32] = [-1, -1]
        guard pipe(&report) == 0, pipe(&answer) == 0 else { return nil }
        for end in report + answer { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        apus_tell_of_end(report[1], answer[0])
        return (report[0], answer[1])
    }

    private static func readEnd(_ endings: (report: Int32, answer: Int32)) -> Event? {
        var end = apus_process_end()
        guard read(endings.report, &end, MemoryLayout.size(ofValue: end)) == MemoryLayout.size(ofValue: end) else { return nil }
        return .ending(end.signal != 0 ? .signal(end.signal) : .code(end.code)) {
            var byte: UInt8 = 1
            _ = write(endings.answer, &byte, 1)
        }
    }

    private static func event(for signal: Int32) -> Event {
        switch signal {
        case SIGINT: .interrupted
        case SIGTERM: .terminated
        default: .signalled(signal)
        }
    }

    private static func watch(
        _ watched: [pollfd], signals: Int32, endings: (report: Int32, answer: Int32)?, _ report: (Event) -> Void
    ) {
        var watched = watched
        while watched.contains(where: { $0.fd >= 0 }) {
            guard poll(&watched, nfds_t(watched.count), -1) > 0 else { continue }
            for index in watched.indices where watched[index].fd >= 0 && watched[index].revents != 0 {
                if let endings, watched[index].fd == endings.report {
                    if let event = self.readEnd(endings) { report(event) }
                    continue
                }
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
