private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// Lines of text to and from another process, over a socket.
package final class LineChannel: Sendable {
    /// The lines that come, without their ends. For one reader; ends when the other process has closed its side, or has ended.
    package let lines: AsyncStream<String>

    /// For writing; the thread that reads has a copy of its own, so that neither uses a number that is closed already.
    private let descriptor: Int32
    /// Writes in order, off the caller's thread, because a process that does not read must not hold up the caller.
    private let writing = DispatchQueue(label: "apus.lines")

    /// Takes over the descriptor of a connected socket.
    package init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        #if canImport(Darwin)
            var on: Int32 = 1
            setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, socklen_t(MemoryLayout<Int32>.size))
        #endif
        let (lines, continuation) = AsyncStream.makeStream(of: String.self)
        self.lines = lines
        let reading = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        let thread = Thread {
            SocketCalls.readLines(of: reading) { continuation.yield($0) }
            SocketCalls.release(reading)
            continuation.finish()
        }
        thread.name = "apus-lines"
        thread.start()
    }

    deinit {
        self.end()
        SocketCalls.release(self.descriptor)
    }

    /// Sends a line, which has no end of line in it. Nothing happens when the other process is gone.
    package func send(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        self.writing.async { SocketCalls.write(bytes, to: self.descriptor) }
    }

    /// Waits until the lines sent so far have left this process.
    package func flush() { self.writing.sync {} }

    /// Ends the channel in both directions. Lines that have come are still read.
    package func end() { _ = shutdown(self.descriptor, Int32(SHUT_RDWR)) }
}

/// The system calls, where no method of the channel bears the name of one.
private enum SocketCalls {
    /// Reads lines until the end of the file.
    static func readLines(of descriptor: Int32, _ take: (String) -> Void) {
        var rest: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest += bytes[..<count]
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                take(String(decoding: rest[..<end], as: UTF8.self))
                rest.removeSubrange(...end)
            }
        }
    }

    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        #if canImport(Darwin)
            let flags: Int32 = 0
        #else
            // A process that is gone is no reason to end this one by SIGPIPE.
            let flags = Int32(MSG_NOSIGNAL)
        #endif
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, flags) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    static func release(_ descriptor: Int32) { _ = close(descriptor) }
}
