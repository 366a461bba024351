package import ApusWire
import CEngineMode
import Foundation
import NIOCore
import Locks

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Captures what functions print, by whatever means, and publishes it as output of the request that runs.
///
/// Pipes replace the process's output and error streams. A thread reads the pipes, so that a function may print more than a pipe
/// holds, and output of a long function is seen while it runs. The worker reads the pipes once more when a request ends, so that
/// all of the request's output goes before its reply. Later output still belongs to that request, as with Python's engines;
/// output before the first request goes to the original streams.
package final class OutputCapture: Sendable {
    /// The process's original error stream, to which logs go.
    package let originalStandardError: Int32

    fileprivate struct State {
        var streams: [CapturedStream]
        /// Makes and sends the messages; nil until the engine is registered.
        var publisher: Publisher?
        /// The header of the request that output belongs to; nil before the first request.
        var parent: ByteBuffer?
        /// Messages published since the request began.
        var count = 0
        /// Whether the request was set aside. Output belongs to it until another request begins.
        var isPaused = false
        /// The counts of requests that were set aside before the current one, by their headers.
        var paused: [ByteBuffer: Int] = [:]
    }

    fileprivate struct Publisher {
        var messages: EngineMessages
        let exchange: WorkExchange
    }

    private let state: Mutex<State>
    /// The read ends of the pipes, which the reader polls without the lock.
    private let readEnds: [Int32]

    /// Replaces the streams by pipes, for as long as the process lives or until ``release()``.
    ///
    /// - Throws: ``WireError`` when the system has no descriptors left.
    package init(standardOutput: Int32 = 1, standardError: Int32 = 2) throws(WireError) {
        apus_flush_standard_output()
        let output = try CapturedStream("stdout", descriptor: standardOutput)
        let error = try CapturedStream("stderr", descriptor: standardError)
        self.originalStandardError = error.original
        self.readEnds = [output.readEnd, error.readEnd]
        self.state = Mutex(State(streams: [output, error]))
        if standardOutput == 1 { apus_line_buffer_standard_output() }
        if standardError == 2 { apus_rescue_output_at_end(error.original, output.readEnd, error.readEnd) }
        let reader = Thread { [self] in self.read() }
        reader.name = "apus-output"
        reader.start()
    }

    /// Restores the original streams.
    package func release() {
        apus_flush_standard_output()
        self.state.withLock { state in for stream in state.streams { stream.restore() } }
    }

    func attach(_ messages: EngineMessages, _ exchange: WorkExchange) {
        self.state.withLock { $0.publisher = Publisher(messages: messages, exchange: exchange) }
    }

    // MARK: The worker's side

    /// Begins a request, to which output belongs from now on.
    func begin(parent: ByteBuffer) {
        self.state.withLock { state in
            state.leavePaused()
            state.parent = parent
            state.count = 0
            apus_forget_error_output()
        }
    }

    /// Sets the request aside, and appends what it has printed so far.
    func pause(_ outgoing: inout [OutgoingMessage]) {
        apus_flush_standard_output()
        self.state.withLock { state in
            state.drain(isEnd: true, into: &outgoing)
            state.isPaused = true
        }
    }

    /// Goes on with a request that was set aside, to which output belongs again.
    func resume(parent: ByteBuffer) {
        self.state.withLock { state in
            if state.isPaused, state.parent == parent {
                state.isPaused = false
                return
            }
            state.leavePaused()
            state.parent = parent
            state.count = state.paused.removeValue(forKey: parent) ?? 0
        }
    }

    /// Ends the request: appends its output that is not published yet, and gives the number of all its output messages.
    func end(_ outgoing: inout [OutgoingMessage]) -> Int {
        apus_flush_standard_output()
        return self.state.withLock { state in
            state.drain(isEnd: true, into: &outgoing)
            return state.count
        }
    }

    /// Appends what the request has printed until now, and gives the last lines that it wrote to the error stream. Called when
    /// the engine's process is ending.
    func lastWords(_ outgoing: inout [OutgoingMessage]) -> [String] {
        self.state.withLock { $0.drain(isEnd: true, into: &outgoing) }
        return self.rememberedLines
    }

    /// The last lines that the request has written to the error stream, as far as they were published.
    var rememberedLines: [String] {
        self.state.withLock { _ in
            let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 13) { buffer, count in
                count = apus_remembered_error_output(buffer.baseAddress, buffer.count)
            }
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        }
    }

    /// Remembers text that the request's Python wrote to its own error stream.
    func remember(_ text: String) {
        var text = text
        self.state.withLock { _ in text.withUTF8 { apus_remember_error_output($0.baseAddress, $0.count) } }
    }

    // MARK: The reader's side

    private func read() {
        var outgoing: [OutgoingMessage] = []
        var waiting = self.readEnds.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while waiting.contains(where: { $0.fd >= 0 }) {
            guard poll(&waiting, nfds_t(waiting.count), -1) > 0 else { continue }
            for index in waiting.indices where waiting[index].revents & Int16(POLLIN) == 0 && waiting[index].revents != 0 {
                // Every writer is gone: the stream was restored.
                waiting[index].fd = -1
            }
            // Wait a little, so that lines that follow each other go into one message. A short request ends, and reads the pipe,
            // sooner.
            usleep(2000)
            self.state.withLock { state in
                state.drain(isEnd: false, into: &outgoing)
                // In the lock, so that a request's last output does not overtake what was read here.
                if !outgoing.isEmpty { state.publisher?.exchange.send(&outgoing) }
                outgoing.removeAll(keepingCapacity: true)
            }
        }
    }
}

extension OutputCapture.State {
    /// Publishes the rest of a set-aside request's output and remembers its count, before another request prints.
    fileprivate mutating func leavePaused() {
        guard self.isPaused, let parent = self.parent else { return }
        var outgoing: [OutgoingMessage] = []
        self.drain(isEnd: true, into: &outgoing)
        if !outgoing.isEmpty { self.publisher?.exchange.send(&outgoing) }
        self.paused[parent] = self.count
        self.isPaused = false
    }

    fileprivate mutating func drain(isEnd: Bool, into outgoing: inout [OutgoingMessage]) {
        for index in self.streams.indices {
            self.streams[index].read { stream in
                guard let parent = self.parent, self.publisher != nil else {
                    stream.passOn()
                    return
                }
                if stream.isErrorStream { stream.rememberForCrash() }
                guard let text = stream.takeText(isEnd: isEnd) else { return }
                guard let message = self.publisher?.messages.stream(stream.name, text, parent: parent) else { return }
                outgoing.append(message)
                self.count += 1
            }
        }
    }
}

/// One of the process's output streams, which a pipe replaces.
fileprivate struct CapturedStream {
    /// The stream's name on the wire.
    let name: String
    /// The descriptor that functions write to.
    private let descriptor: Int32
    /// A duplicate of the original stream.
    let original: Int32
    let readEnd: Int32
    /// Bytes that were read and not yet taken; after ``takeText(isEnd:)`` the start of an incomplete character.
    fileprivate var bytes: [UInt8] = []

    init(_ name: String, descriptor: Int32) throws(WireError) {
        var ends: [Int32] = [-1, -1]
        let original = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard original >= 0, pipe(&ends) == 0 else { throw WireError("the \(name) of this process cannot be captured: \(errno)") }
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        _ = fcntl(ends[0], F_SETFL, fcntl(ends[0], F_GETFL) | O_NONBLOCK)
        #if os(Linux)
            // A larger pipe, where the system allows it, for output while the reader waits for more.
            let setPipeSize: Int32 = 1031  // F_SETPIPE_SZ, which the C library's module does not show
            _ = fcntl(ends[1], setPipeSize, 1 << 20)
        #endif
        dup2(ends[1], descriptor)
        close(ends[1])
        self.name = name
        self.descriptor = descriptor
        self.original = original
        self.readEnd = ends[0]
    }

    func restore() { dup2(self.original, self.descriptor) }

    /// Reads the bytes that are in the pipe now, a piece at a time.
    ///
    /// Bytes that come meanwhile are not read, so that a thread that prints for ever does not keep a request from ending.
    mutating func read(_ take: (inout CapturedStream) -> Void) {
        var available: Int32 = 0
        guard ioctl(self.readEnd, UInt(FIONREAD), &available) == 0, available > 0 else { return }
        while available > 0 {
            let wanted = min(Int(available), 1 << 16)
            let held = self.bytes.count
            self.bytes.append(contentsOf: repeatElement(0, count: wanted))
            let count = self.bytes.withUnsafeMutableBytes { platformRead(self.readEnd, $0.baseAddress! + held, wanted) }
            self.bytes.removeLast(wanted - max(0, count))
            guard count > 0 else { return }
            available -= Int32(count)
            take(&self)
        }
    }

    /// The bytes as text. A character whose last bytes are still to come waits for them, except at the end.
    mutating func takeText(isEnd: Bool) -> String? {
        let complete = isEnd ? self.bytes.count : self.bytes.count - self.bytes.incompleteCharacterCount
        guard complete > 0 else { return nil }
        let text = String(decoding: self.bytes[..<complete], as: UTF8.self)
        self.bytes.removeFirst(complete)
        return text
    }

    var isErrorStream: Bool { self.name == "stderr" }

    func rememberForCrash() { self.bytes.withUnsafeBytes { apus_remember_error_output($0.baseAddress, $0.count) } }

    /// Writes the bytes to the original stream.
    mutating func passOn() {
        DescriptorOutput.write(self.bytes, to: self.original)
        self.bytes.removeAll()
    }
}

extension [UInt8] {
    /// How many bytes at the end are the start of an incomplete UTF-8 character.
    fileprivate var incompleteCharacterCount: Int {
        for back in 1...3 where back <= self.count {
            let byte = self[self.count - back]
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
            return length > back ? back : 0
        }
        return 0
    }
}

/// POSIX `read`, under a name that does not clash with the methods above.
private func platformRead(_ file: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int { read(file, bytes, count) }
