import ApusCore
import ApusFunctions
import ApusWire
import Dispatch
import Foundation
import NIOCore
import Locks
import Pickle

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs requests in a Python process of its own, and goes on with a new one when that dies.
///
/// The worker hands it one request at a time and waits. The event loop reads what Python sends: output is published while the request
/// runs, and its end answered. A thread of the kernel's starts the process, and answers in its place when it is gone.
final class PythonKernel: Sendable {
    /// What the engine must know of its kernel.
    enum Event: Sendable {
        /// Python is up: its version and whether it has IPython, in words.
        case ready(String)
        /// The kernel died, and the next one follows, after that pause.
        case restarted(why: String, after: Duration)
        /// There is no kernel any more; the engine cannot go on.
        case failed(why: String)
        /// User code asked the interpreter to end.
        case quit
    }

    private let options: PythonOptions
    private let eventLoop: any EventLoop
    private let state = Mutex(State())
    /// Held while a frame is written, so that frames stay whole and a dead kernel's socket is not closed under one.
    private let writing = Mutex(())
    /// The worker waits here for the end of its request.
    private let answered = DispatchSemaphore(value: 0)
    /// And here, with a limited one, for Python to begin it.
    private let begun = DispatchSemaphore(value: 0)
    /// And here, while no process is up, for the next one. A wake-up may come too often.
    private let started = DispatchSemaphore(value: 0)
    /// The kernel's thread waits here before it starts the next process; signalled when none is wanted any more.
    private let stopping = DispatchSemaphore(value: 0)
    /// Writes what no request waits for: the event loop must not, for a kernel that does not read would hold it up.
    private let writer = DispatchQueue(label: "apus-kernel-writer")
    private let report: @Sendable (Event) -> Void

    private struct State {
        /// The process that runs; nil while there is none.
        var child: KernelChild?
        /// We have killed that process: what comes now is for the next one.
        var isDying = false
        /// Whether that process has said that it is up.
        var isReady = false
        /// Whether it takes large parts as ``KernelMemory``.
        var borrows = false
        /// Set once the engine has an id.
        var connection: Connection?
        var current: Running?
        /// What output without a request of its own belongs to; nil before the first request.
        var lastParent: ByteBuffer?
        /// The requests that the process was handed.
        var parents = KernelParents()
        /// Whether the namespace is to be emptied before the next request.
        var clears = false
        /// Whether the kernel is to be told who it is on the wire before the next request.
        var owesIdentity = false
        /// Whether ``writer`` will see to that.
        var isWriterAsked = false
        /// User code has ended the interpreter: no request is handed over any more.
        var isLeaving = false
        /// When the process was up.
        var readySince: ContinuousClock.Instant?
        var restarts = KernelRestarts()
        /// Why we are killing the process, if it is us.
        var killReason: String?
        var isStopping = false
        /// The last request ended with an error that stops the cells behind it.
        var stopsOthers = false
        /// Why there is no kernel and will be none.
        var failure: String?
    }

    /// Where replies and output go.
    private struct Connection {
        var messages: EngineMessages
        let exchange: WorkExchange
        let capture: OutputCapture?
    }

    private struct Running {
        let message: Message
        let type: MessageType
        let metadata: RequestMetadata
        let channel: EngineChannel
        let started: WireDate
        /// Whether nobody has been told yet that the engine is busy with it.
        var owesBusy: Bool
        /// Messages published for it so far.
        var outputs = 0
        /// Whether a process was handed it. One that was not outlives the process's end.
        var isSent = false
        /// Whether Python has said that it begins; it does so for limited ones.
        var hasBegun = false
        /// Someone wants it interrupted.
        var isInterrupted = false

        /// The request, for people: `square (task 'abc', tried twice)`.
        var words: String {
            let id = MessageHeader.messageID(scanning: self.message.header)?.text ?? "?"
            let tries = self.metadata.attempt == 1 ? "tried once" : "tried \(self.metadata.attempt) times"
            guard self.type == .applyRequest else { return "task '\(id)', \(tries)," }
            var buffers = self.message.buffers.prefix(1)
            let value = (buffers.first?.readableBytes ?? .max) < 1 << 16 ? try? ObjectBuffers.deserialize(&buffers) : nil
            let function = value.flatMap { $0.referenceName ?? $0.pythonFunctionName?.name }
            return function.map { "\($0) (task '\(id)', \(tries))" } ?? "task '\(id)', \(tries),"
        }

        /// Adds the busy status, which comes before all of the request's output, unless it was sent already.
        mutating func sayBusy(_ outgoing: inout [OutgoingMessage], _ messages: inout EngineMessages) {
            if self.owesBusy { outgoing.append(messages.status(.busy, parent: self.message.header)) }
            self.owesBusy = false
        }
    }

    /// Requests may follow before Python is up.
    init(_ options: PythonOptions, on eventLoop: any EventLoop, report: @escaping @Sendable (Event) -> Void) {
        self.options = options
        self.eventLoop = eventLoop
        self.report = report
    }

    /// Starts the thread that starts Python. It lives until ``stop(within:)``, or until there is no kernel any more.
    func start() {
        let thread = Thread { [self] in self.serve() }
        thread.name = "apus-kernel"
        thread.start()
    }

    /// Tells who the engine is, before the first request.
    func connect(_ messages: EngineMessages, _ exchange: WorkExchange, _ capture: OutputCapture?) {
        self.state.withLock { state in
            state.connection = Connection(messages: messages, exchange: exchange, capture: capture)
            state.owesIdentity = true
        }
        self.askWriter()
    }

    // MARK: The worker's side

    /// Runs a request and sends whatever is to be said of it. True when it ended with an error that stops the cells queued behind
    /// it.
    func run(_ message: Message, type: MessageType, _ metadata: RequestMetadata, on channel: EngineChannel) -> Bool {
        let running = Running(
            message: message, type: type, metadata: metadata, channel: channel, started: .now, owesBusy: !metadata.isQuiet)
        let (capture, failure) = self.state.withLock { state in
            state.stopsOthers = false
            state.current = running
            state.lastParent = message.header
            return (state.connection?.capture, state.failure)
        }
        capture?.begin(parent: message.header)
        if let failure {
            self.answerInPlace(failure)
        } else {
            self.handOver(
                [FrameKind.request, ByteBuffer(string: type.rawValue), message.metadata, message.content] + message.buffers)
            // After it: Python need not wait for what only onlookers want to know.
            self.state.withLock { state in
                guard state.current?.owesBusy == true, var connection = state.connection else { return }
                var outgoing: [OutgoingMessage] = []
                state.current?.sayBusy(&outgoing, &connection.messages)
                state.connection = connection
                connection.exchange.send(&outgoing)
            }
            if let limit = metadata.limit { self.watch(limit) }
        }
        self.answered.wait()
        return self.state.withLock { $0.stopsOthers }
    }

    /// Writes the worker's request, to the next kernel if there is none at the moment.
    private func handOver(_ frame: [ByteBuffer]) {
        while true {
            let isDone = self.writing.withLock { _ in
                let child = self.state.withLock { state -> KernelChild?? in
                    // Answered in place: there will be no kernel.
                    guard let current = state.current else { return .some(nil) }
                    // One that is not up yet may never be.
                    guard let child = state.child, state.isReady, !state.isDying, !state.isLeaving else { return nil }
                    state.current?.isSent = true
                    state.parents.append(current.message.header)
                    return child
                }
                guard let child else { return false }
                if let child { self.write(frame, to: child) }
                return true
            }
            if isDone { return }
            if self.state.withLock({ $0.isStopping }) { return self.answerInPlace("the engine was stopped") }
            self.started.wait()
        }
    }

    /// Writes a frame after whatever must come first; `writing` is held.
    private func write(_ frame: [ByteBuffer], to child: KernelChild) {
        let (clears, borrows, identity) = self.state.withLock { state in
            defer {
                state.clears = false
                state.owesIdentity = false
            }
            return (state.clears, state.borrows, state.owesIdentity ? state.connection?.messages : nil)
        }
        // A failure shows at the reading end too, and is dealt with there.
        if let identity {
            let frame = [FrameKind.identity, ByteBuffer(string: "\(identity.engineID)"), ByteBuffer(string: identity.uuid.text)]
            _ = KernelFrames.write(frame, to: child.socket)
        }
        if clears { _ = KernelFrames.write([FrameKind.clear], to: child.socket) }
        if !frame.isEmpty { _ = KernelFrames.write(frame, to: child.socket, lender: borrows ? child.lender : nil) }
    }

    /// Has what the kernel is owed written as soon as nothing else is being written.
    private func askWriter() {
        let isNew = self.state.withLock { state in
            defer { state.isWriterAsked = true }
            return !state.isWriterAsked
        }
        guard isNew else { return }
        self.writer.async {
            self.writing.withLock { _ in
                let child = self.state.withLock { state in
                    state.isWriterAsked = false
                    return state.child
                }
                if let child { self.write([], to: child) }
            }
        }
    }

    /// Interrupts the request at its limit, and kills the kernel when that does not help.
    private func watch(_ limit: Double) {
        self.begun.wait()
        guard self.answered.wait(timeout: .now() + limit) == .timedOut else {
            self.answered.signal()
            return
        }
        self.interrupt()
        guard self.answered.wait(timeout: .now() + self.options.grace) == .timedOut else {
            self.answered.signal()
            return
        }
        self.kill(
            because: "it did not stop within \(Self.text(self.options.grace)) s of the interrupt at its limit of "
                + "\(Self.text(limit)) s, so its kernel was killed")
    }

    private static func text(_ seconds: Double) -> String {
        seconds == seconds.rounded() ? String(Int(seconds)) : String(seconds)
    }

    // MARK: Control

    /// Interrupts the running request, as soon as Python has begun it. False when none runs.
    @discardableResult
    func interrupt() -> Bool {
        let (isRunning, child) = self.state.withLock { state -> (Bool, KernelChild?) in
            state.current?.isInterrupted = true
            // Python's own handler, before ours is there, would end the process.
            return (state.current != nil, state.isReady ? state.child : nil)
        }
        if isRunning { child?.signal(SIGINT) }
        return isRunning
    }

    /// Interrupts again, a moment later, what was not there yet when the signal came.
    private func interruptAgain() {
        let wanted = self.state.withLock { $0.current.flatMap { $0.isInterrupted ? $0.message.signature : nil } }
        guard let wanted else { return }
        DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(5)) {
            let child = self.state.withLock { $0.current?.message.signature == wanted ? $0.child : nil }
            child?.signal(SIGINT)
        }
    }

    /// Interrupts the running request if it is one of these.
    func interrupt(anyOf requests: Set<MessageID>) {
        let isMeant = self.state.withLock { state in
            state.current.flatMap { MessageHeader.messageID(scanning: $0.message.header) }.map(requests.contains) ?? false
        }
        if isMeant { self.interrupt() }
    }

    /// Sends the interpreter a signal; false when there is none.
    func signal(_ number: Int32) -> Bool { self.state.withLock { $0.child }?.signal(number) ?? false }

    /// Empties the namespace before the next request, and as soon as Python is idle.
    func clear() {
        self.state.withLock { $0.clears = true }
        self.askWriter()
    }

    /// Replaces the interpreter by a new one, whatever it is doing.
    func restart() { self.kill(because: "a client restarted its kernel") }

    private func kill(because reason: String) {
        let child = self.state.withLock { state -> KernelChild? in
            // One that is being replaced anyhow is as good as new.
            guard let child = state.child else { return nil }
            state.killReason = reason
            state.isDying = true
            return child
        }
        child?.signal(SIGKILL)
    }

    /// Lets the interpreter finish what it does at its exit; kills it after that time, or at once when it runs something.
    func stop(within time: Duration) async {
        await withCheckedContinuation { continuation in
            // It blocks, which is not for the threads of tasks.
            DispatchQueue.global().async {
                self.stopAndWait(within: time / .seconds(1))
                continuation.resume()
            }
        }
    }

    private func stopAndWait(within seconds: Double) {
        let (child, isRunning) = self.state.withLock { state in
            state.isStopping = true
            return (state.child, state.current != nil)
        }
        self.stopping.signal()
        self.started.signal()
        guard let child else { return }
        child.closeInput()
        _ = child.ending(within: isRunning ? 0 : seconds)
    }

    // MARK: The kernel's thread

    private func serve() {
        // The system kills Python with the thread's process by the life pipe alone; the thread itself may come and go.
        while !self.state.withLock({ $0.isStopping }) {
            let pause: Duration?
            do {
                let child = try KernelChild(interpreter: self.options.interpreter, arguments: ["-c", KernelSources.boot])
                guard self.welcome(child) else {
                    child.closeInput()
                    _ = child.ending(within: 0)
                    return
                }
                pause = self.replace(child, isTorn: self.read(child))
            } catch {
                pause = self.goOn(after: .beforeReady, "\(error)")
            }
            guard let pause else { return }
            if pause > .zero { _ = self.stopping.wait(timeout: .now() + pause / .seconds(1)) }
        }
    }

    /// Gives a new process what it starts with, before anybody can hand it a request. False when none is wanted any more.
    private func welcome(_ child: KernelChild) -> Bool {
        self.writing.withLock { _ in
            let isWanted = self.state.withLock { state in
                if state.isStopping { return false }
                state.child = child
                state.isDying = false
                state.parents = KernelParents()
                state.owesIdentity = state.connection != nil
                return true
            }
            guard isWanted else { return false }
            var settings = self.options.settings
            if KernelMemory.isAvailable { settings["memory"] = .int(Int(KernelChild.lenderNumber)) }
            _ = KernelFrames.write([KernelSources.packed, JSONValue.object(settings).packed], to: child.socket)
            self.write([], to: child)
            return true
        }
    }

    /// Has the loop read until the kernel is gone. True when it sent something that is no frame.
    private func read(_ child: KernelChild) -> Bool {
        let ended = DispatchSemaphore(value: 0)
        let wasTorn = Mutex(false)
        KernelReading.start(child, on: self.eventLoop) {
            self.take($0)
        } whenEnded: { isTorn in
            wasTorn.withLock { $0 = isTorn }
            ended.signal()
        }
        ended.wait()
        return wasTorn.withLock { $0 }
    }

    /// Takes what Python says, on the event loop.
    private func take(_ parts: [ByteBuffer]) {
        switch parts.first {
        case FrameKind.publish where parts.count >= 6: self.publish(parts)
        case FrameKind.request where parts.count >= 5: self.finish(parts)
        case FrameKind.begun: self.noteBeginning()
        case FrameKind.missedInterrupt: self.interruptAgain()
        case FrameKind.ends:
            let isIdle = self.state.withLock { state in
                state.isLeaving = true
                return state.current?.isSent != true
            }
            if isIdle { self.endLingering() }
        case FrameKind.ready where parts.count >= 2:
            let about = try? JSONValue(parsing: parts[1])
            self.state.withLock { state in
                state.isReady = true
                state.readySince = .now
                state.borrows = about?["memory"]?.bool == true
            }
            self.started.signal()
            self.interruptAgain()
            let shell = about?["ipython"]?.bool == true ? "with IPython" : "without IPython"
            self.report(.ready("Python \(about?["python"]?.string ?? "?") \(shell), \(self.options.interpreter)"))
        default: break
        }
    }

    /// After a kernel's end: answers what it ran, and gives the pause before the next one; nil when there will be none.
    private func replace(_ child: KernelChild, isTorn: Bool) -> Duration? {
        // A writer that is stuck comes free: nobody reads there any more.
        shutdown(child.socket, Int32(SHUT_RDWR))
        let ending = child.ending(within: isTorn ? 0 : 2)
        return self.writing.withLock { _ -> Duration? in
            let (was, life) = self.state.withLock { state in
                defer {
                    state.child = nil
                    state.borrows = false
                    state.killReason = nil
                    state.isReady = false
                    state.readySince = nil
                }
                return (state, state.readySince.map { .now - $0 } ?? .zero)
            }
            let wasRunning = was.current?.isSent == true
            if was.isStopping || was.isLeaving {
                if was.isStopping || wasRunning {
                    self.answerInPlace(was.isStopping ? "the engine was stopped" : "user code ended the interpreter")
                }
                if !was.isStopping { self.report(.quit) }
                return nil
            }
            if let why = was.killReason { return self.goOn(after: .replaced, why) }
            guard was.isReady else {
                return self.goOn(after: .beforeReady, "Python ended before it was ready: \(ending). Its own words are above")
            }
            let why =
                isTorn
                ? "its Python kernel sent what cannot be understood, as when user code writes to its descriptor 3, and was ended"
                : "its Python kernel died: \(ending)"
            guard self.options.restarts else { return self.fail(why) }
            return self.goOn(after: wasRunning ? .duringRequest : .idle, life: life, why)
        }
    }

    /// Answers what the kernel ran that is gone, and gives the pause before the next one; nil when there will be none.
    private func goOn(after ending: KernelRestarts.Ending, life: Duration = .zero, _ why: String) -> Duration? {
        guard case .start(let pause) = self.state.withLock({ $0.restarts.ended(ending, after: life) }) else {
            return self.fail(why)
        }
        // A request that no kernel was handed waits for the next one.
        if self.state.withLock({ $0.current?.isSent == true }) { self.answerInPlace(why, goesOn: true) }
        self.report(.restarted(why: why, after: pause))
        return pause
    }

    private func fail(_ why: String) -> Duration? {
        self.state.withLock { $0.failure = why }
        self.answerInPlace(why)
        self.report(.failed(why: why))
        return nil
    }

    // MARK: Messages

    private func noteBeginning() {
        let isFirst = self.state.withLock { state in
            guard let current = state.current, current.metadata.limit != nil, !current.hasBegun else { return false }
            state.current?.hasBegun = true
            return true
        }
        if isFirst { self.begun.signal() }
    }

    private func publish(_ parts: [ByteBuffer]) {
        self.state.withLock { state in
            let number = Int(String(buffer: parts[1])) ?? 0
            let own = state.parents[number]
            guard let parent = own ?? state.lastParent, var connection = state.connection else { return }
            var outgoing: [OutgoingMessage] = []
            // A task that an earlier request left behind in Python's event loop prints for that one.
            if own == nil || state.current?.isSent == true && number == state.parents.count {
                state.current?.sayBusy(&outgoing, &connection.messages)
                state.current?.outputs += 1
            }
            if parts[2] == FrameKind.errorStream, let text = (try? JSONValue(parsing: parts[5]))?["text"]?.string {
                connection.capture?.remember(text)
            }
            outgoing.append(connection.messages.publication(parts, parent: parent))
            state.connection = connection
            connection.exchange.send(&outgoing)
        }
    }

    /// Ends an interpreter that user code has ended, and that does not go: it may wait for threads.
    private func endLingering() {
        let child = self.state.withLock { $0.child }
        DispatchQueue.global().asyncAfter(deadline: .now() + 2) { child?.signal(SIGKILL) }
    }

    /// Answers the request as Python did.
    private func finish(_ parts: [ByteBuffer]) {
        defer { if self.state.withLock({ $0.isLeaving }) { self.endLingering() } }
        self.answer { connection, running, outgoing, outputs in
            let (status, name, flags, content) = (parts[1], parts[2], parts[3], parts[4])
            guard status != FrameKind.none else { return false }
            let isTask = running.type == .applyRequest || running.type == .executeRequest
            let isOK = status == FrameKind.ok
            let metadata =
                isTask
                ? running.metadata.reply(
                    isOK ? .ok : .error, by: connection.messages, started: running.started,
                    meetsDependencies: name != FrameKind.unmetDependency, outputs: outputs) : nil
            outgoing.append(
                connection.messages.reply(
                    running.type.reply, to: running.message, on: running.channel, metadata: metadata, content: content,
                    buffers: Array(parts[5...])))
            return flags == FrameKind.abort
        }
    }

    /// Answers the request, if there is one, in the place of a kernel that cannot.
    private func answerInPlace(_ why: String, goesOn: Bool = false) {
        self.answer { connection, running, outgoing, outputs in
            guard running.type.isAnswered else { return false }
            let isExecute = running.type == .executeRequest
            let rest = goesOn ? ". The engine goes on with a new kernel, whose namespace is empty" : ""
            var text = "engine \(connection.messages.engineID) could not finish \(running.words): \(why)\(rest)"
            let lines = connection.capture.map { EngineEnd(.unknown, lastLines: $0.rememberedLines).lastLines } ?? []
            if !lines.isEmpty { text += "\nThe last lines of its error output:" + lines.map { "\n    " + $0 }.joined() }
            let error = EngineTaskError(.engineError, text)
            let content = ErrorContent(
                error, method: isExecute ? "execute" : "apply", function: nil, arguments: [], by: connection.messages)
            outgoing.append(connection.messages.error(content, parent: running.message.header))
            var members = content.json
            if isExecute { members.merge(["execution_count": 0, "user_expressions": [:], "payload": []]) { $1 } }
            outgoing.append(
                connection.messages.reply(
                    running.type.reply, to: running.message, on: running.channel,
                    metadata: running.metadata.reply(
                        .error, by: connection.messages, started: running.started,
                        outputs: outputs + 1),
                    content: JSONValue.object(members).packed))
            return false
        }
    }

    /// Sends the rest of the request's output, what the body makes of its end, and that the engine is idle.
    private func answer(
        _ body: (inout Connection, Running, inout [OutgoingMessage], _ outputs: Int) -> Bool
    ) {
        let answered = self.state.withLock { state -> Running? in
            guard var running = state.current, var connection = state.connection else { return nil }
            state.current = nil
            var outgoing: [OutgoingMessage] = []
            running.sayBusy(&outgoing, &connection.messages)
            let outputs = running.outputs + (connection.capture?.end(&outgoing) ?? 0)
            state.stopsOthers = body(&connection, running, &outgoing, outputs)
            let idle =
                running.metadata.isQuiet ? [] : [connection.messages.status(.idle, parent: running.message.header)]
            state.connection = connection
            connection.exchange.send(&outgoing, trailing: idle)
            return running
        }
        guard let answered else { return }
        // The answer leaves first; the worker's next request can wait for that.
        self.eventLoop.execute {
            if answered.metadata.limit != nil, !answered.hasBegun { self.begun.signal() }
            self.answered.signal()
            if !answered.isSent { self.started.signal() }
        }
    }
}

/// The words of the frames.
private enum FrameKind {
    static let request = ByteBuffer(string: "R")
    static let publish = ByteBuffer(string: "P")
    static let ready = ByteBuffer(string: "S")
    static let identity = ByteBuffer(string: "I")
    static let clear = ByteBuffer(string: "C")
    static let begun = ByteBuffer(string: "B")
    static let missedInterrupt = ByteBuffer(string: "N")
    static let ends = ByteBuffer(string: "E")
    static let ok = ByteBuffer(string: "ok")
    static let none = ByteBuffer(string: "none")
    static let abort = ByteBuffer(string: "abort")
    /// The topic of what Python writes to its error stream.
    static let errorStream = ByteBuffer(string: "stderr")
    static let unmetDependency = ByteBuffer(string: ErrorName.unmetDependency.rawValue)
}

extension EngineMessages {
    /// A message that Python publishes: `P`, the request's number, topic, type, metadata, content, buffers.
    fileprivate mutating func publication(_ parts: [ByteBuffer], parent: ByteBuffer) -> OutgoingMessage {
        let type = MessageType(rawValue: String(buffer: parts[3]))
        let topic = String(buffer: parts[2])
        return self.output(
            type, topic: type == .dataMessage || topic.hasPrefix("comm-") ? topic : "engine.\(self.engineID).\(topic)",
            parent: parent,
            metadata: parts[4], content: parts[5], buffers: Array(parts[6...]))
    }
}

/// The headers of the requests that a kernel was handed, by their numbers, which count from 1: the last of them, which is enough for
/// what still prints.
private struct KernelParents {
    private static let limit = 1024
    private(set) var count = 0
    private var headers: [ByteBuffer] = []

    mutating func append(_ header: ByteBuffer) {
        // A copy: the header may share its memory with a large request.
        let copy = ByteBuffer(bytes: header.readableBytesView)
        if self.count < Self.limit { self.headers.append(copy) } else { self.headers[self.count % Self.limit] = copy }
        self.count += 1
    }

    subscript(number: Int) -> ByteBuffer? {
        number >= 1 && number <= self.count && number > self.count - Self.limit ? self.headers[(number - 1) % Self.limit] : nil
    }
}

/// The kernel's Python source, which is part of this binary.
private enum KernelSources {
    static let boot = String(decoding: PackageResources.boot_py, as: UTF8.self)

    /// A JSON object: module name to text.
    static let packed: ByteBuffer = {
        let sources: [(String, [UInt8])] = [
            ("calls", PackageResources.calls_py), ("channel", PackageResources.channel_py),
            ("comms", PackageResources.comms_py), ("ipython_shell", PackageResources.ipython_shell_py),
            ("kernel", PackageResources.kernel_py), ("lazy", PackageResources.lazy_py), ("loop", PackageResources.loop_py),
            ("memory", PackageResources.memory_py), ("output", PackageResources.output_py),
            ("plain_shell", PackageResources.plain_shell_py),
        ]
        var texts: JSONObject = [:]
        for (name, bytes) in sources { texts[name] = .string(String(decoding: bytes, as: UTF8.self)) }
        return JSONValue.object(texts).packed
    }()
}
