import ApusFunctions
import ApusWire
import Dispatch
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

/// Runs requests in a Python process of its own, and goes on with a new one when that dies.
///
/// The worker hands it one request at a time and waits. The event loop reads what Python sends: output is published while the request
/// runs, and its end answered. A thread of the kernel's starts the process, and answers in its place when it is gone.
final class PythonKernel: Sendable {
    /// What the engine must know of its kernel.
    enum Event: Sendable {
        /// Python is up: its version and whether it has IPython, in words.
        case ready(String)
        /// The kernel died and there is a new one.
        case restarted(why: String)
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
    /// And here, while there is no process, for the next one. A wake-up may come too often.
    private let started = DispatchSemaphore(value: 0)
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
        /// What idle output belongs to; empty before the first request.
        var lastParent: ByteBuffer?
        /// Whether the namespace is to be emptied before the next request.
        var clears = false
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
        self.state.withLock { $0.connection = Connection(messages: messages, exchange: exchange, capture: capture) }
        if let identity = self.identity { self.write(identity) }
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
                    guard state.current != nil else { return .some(nil) }
                    guard let child = state.child, !state.isDying else { return nil }
                    state.current?.isSent = true
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
        let (clears, borrows) = self.state.withLock { state in
            defer { state.clears = false }
            return (state.clears, state.borrows)
        }
        // A failure shows at the reading end too, and is dealt with there.
        if clears { _ = KernelFrames.write([FrameKind.clear], to: child.socket) }
        if !frame.isEmpty { _ = KernelFrames.write(frame, to: child.socket, lender: borrows ? child.lender : nil) }
    }

    /// Writes a frame to the kernel, if there is one.
    private func write(_ frame: [ByteBuffer]) {
        self.writing.withLock { _ in
            guard let child = self.state.withLock({ $0.child }) else { return }
            self.write(frame, to: child)
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
        // Not here: the worker may be writing a large request.
        DispatchQueue.global().async { self.write([]) }
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
        self.started.signal()
        guard let child else { return }
        child.closeInput()
        _ = child.ending(within: isRunning ? 0 : seconds)
    }

    // MARK: The kernel's thread

    private func serve() {
        // The system kills Python with the thread's process by the life pipe alone; the thread itself may come and go.
        while true {
            let child: KernelChild
            do {
                child = try KernelChild(interpreter: self.options.interpreter, arguments: ["-c", KernelSources.boot])
            } catch {
                self.fail("\(error)")
                return
            }
            guard self.welcome(child) else {
                child.closeInput()
                _ = child.ending(within: 0)
                return
            }
            self.read(child)
            guard self.replace(child) else { return }
        }
    }

    /// Gives a new process what it starts with, before anybody can hand it a request. False when none is wanted any more.
    private func welcome(_ child: KernelChild) -> Bool {
        let isWanted = self.writing.withLock { _ in
            let isWanted = self.state.withLock { state in
                if state.isStopping { return false }
                state.child = child
                state.isDying = false
                return true
            }
            guard isWanted else { return false }
            var settings = self.options.settings
            if KernelMemory.isAvailable { settings["memory"] = .int(Int(KernelChild.lenderNumber)) }
            _ = KernelFrames.write([KernelSources.packed, JSONValue.object(settings).packed], to: child.socket)
            if let identity = self.identity { self.write(identity, to: child) }
            return true
        }
        self.started.signal()
        return isWanted
    }

    private var identity: [ByteBuffer]? {
        self.state.withLock { $0.connection?.messages }.map {
            [FrameKind.identity, ByteBuffer(string: "\($0.engineID)"), ByteBuffer(string: $0.uuid.text)]
        }
    }

    /// Has the loop read until the kernel is gone.
    private func read(_ child: KernelChild) {
        let ended = DispatchSemaphore(value: 0)
        KernelReading.start(child, on: self.eventLoop) {
            self.take($0)
        } whenEnded: {
            ended.signal()
        }
        ended.wait()
    }

    /// Takes what Python says, on the event loop.
    private func take(_ parts: [ByteBuffer]) {
        switch parts.first {
        case FrameKind.publish where parts.count >= 5: self.publish(parts)
        case FrameKind.request where parts.count >= 5: self.finish(parts)
        case FrameKind.begun: self.noteBeginning()
        case FrameKind.missedInterrupt: self.interruptAgain()
        case FrameKind.ready where parts.count >= 2:
            let about = try? JSONValue(parsing: parts[1])
            self.state.withLock { state in
                state.isReady = true
                state.borrows = about?["memory"]?.bool == true
            }
            self.interruptAgain()
            let shell = about?["ipython"]?.bool == true ? "with IPython" : "without IPython"
            self.report(.ready("Python \(about?["python"]?.string ?? "?") \(shell), \(self.options.interpreter)"))
        default: break
        }
    }

    /// After a kernel's end: answers what it ran, and says whether another is to be started.
    private func replace(_ child: KernelChild) -> Bool {
        // A writer that is stuck comes free: nobody reads there any more.
        shutdown(child.socket, Int32(SHUT_RDWR))
        let ending = child.ending(within: 2)
        return self.writing.withLock { _ in
            let (isStopping, wasReady, killReason, wasRunning, restarts) = self.state.withLock { state in
                defer {
                    state.killReason = nil
                    state.isReady = false
                }
                state.child = nil
                state.borrows = false
                let restarts = state.killReason != nil || state.isReady && self.options.restarts
                return (state.isStopping, state.isReady, state.killReason, state.current?.isSent == true, restarts)
            }
            if isStopping {
                self.answerInPlace("the engine was stopped")
                return false
            }
            if !wasReady, killReason == nil {
                self.fail("Python ended before it was ready: \(ending). Its own words are above")
                return false
            }
            if !wasRunning, killReason == nil, ending == .exited(0) {
                self.report(.quit)
                return false
            }
            let why = killReason ?? "its Python kernel died: \(ending)"
            // A request that no kernel was handed waits for the next one, if there is a next.
            if wasRunning || !restarts { self.answerInPlace(why, goesOn: restarts) }
            self.report(restarts ? .restarted(why: why) : .failed(why: why))
            return restarts
        }
    }

    private func fail(_ why: String) {
        self.state.withLock { $0.failure = why }
        self.answerInPlace(why)
        self.report(.failed(why: why))
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
            guard let parent = state.lastParent, var connection = state.connection else { return }
            var outgoing: [OutgoingMessage] = []
            state.current?.sayBusy(&outgoing, &connection.messages)
            outgoing.append(connection.messages.publication(parts, parent: parent))
            state.connection = connection
            state.current?.outputs += 1
            connection.exchange.send(&outgoing)
        }
    }

    /// Answers the request as Python did.
    private func finish(_ parts: [ByteBuffer]) {
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
            let isExecute = running.type == .executeRequest
            let id = MessageHeader.messageID(scanning: running.message.header)?.text ?? "?"
            let rest = goesOn ? ". The engine goes on with a new kernel, whose namespace is empty" : ""
            let error = EngineTaskError(
                .engineError, "engine \(connection.messages.engineID) could not finish task '\(id)': \(why)\(rest)")
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
    static let ok = ByteBuffer(string: "ok")
    static let none = ByteBuffer(string: "none")
    static let abort = ByteBuffer(string: "abort")
    static let unmetDependency = ByteBuffer(string: ErrorName.unmetDependency.rawValue)
}

extension EngineMessages {
    /// A message that Python publishes: `P`, topic, type, metadata, content, buffers.
    fileprivate mutating func publication(_ parts: [ByteBuffer], parent: ByteBuffer) -> OutgoingMessage {
        let type = MessageType(rawValue: String(buffer: parts[2]))
        let topic = String(buffer: parts[1])
        return self.output(
            type, topic: type == .dataMessage || topic.hasPrefix("comm-") ? topic : "engine.\(self.engineID).\(topic)",
            parent: parent,
            metadata: parts[3], content: parts[4], buffers: Array(parts[5...]))
    }
}

/// The kernel's Python source, which is part of this binary.
private enum KernelSources {
    static let boot = String(decoding: PackageResources.boot_py, as: UTF8.self)

    /// A JSON object: module name to text.
    static let packed: ByteBuffer = {
        let sources: [(String, [UInt8])] = [
            ("calls", PackageResources.calls_py), ("channel", PackageResources.channel_py),
            ("ipython_shell", PackageResources.ipython_shell_py), ("kernel", PackageResources.kernel_py),
            ("lazy", PackageResources.lazy_py), ("memory", PackageResources.memory_py), ("output", PackageResources.output_py),
            ("plain_shell", PackageResources.plain_shell_py),
        ]
        var texts: JSONObject = [:]
        for (name, bytes) in sources { texts[name] = .string(String(decoding: bytes, as: UTF8.self)) }
        return JSONValue.object(texts).packed
    }()
}
