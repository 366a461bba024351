import ApusCore
import ApusWire
import Dispatch
import Foundation
import Locks
import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs requests in a Python process, and goes on with a new process when that one dies.
///
/// A ``KernelSession`` decides; this class performs its effects, on four threads that share one lock. The worker brings a
/// request, writes it to the process and waits for its end. The event loop reads what Python sends, so that a reply is sent by
/// the thread that reads it, and runs the timers. A thread of the kernel's own starts processes and waits for their ends. A queue
/// writes frames that no request waits for.
final class PythonKernel: Sendable {
    /// What the engine is told of its kernel.
    enum Event: Sendable {
        /// Python is up: its version and whether it has IPython, in words.
        case ready(String)
        /// The kernel died, and the next one is started after that pause.
        case restarted(why: String, after: Duration)
        /// There is no kernel any more; the engine cannot go on.
        case failed(why: String)
        /// User code asked the interpreter to end.
        case quit
    }

    private let options: PythonOptions
    private let eventLoop: any EventLoop
    private let state: Mutex<State>
    /// The worker waits here for the end of its request.
    private let answered = DispatchSemaphore(value: 0)
    /// The kernel's thread waits here before it starts the next process; signalled when none is wanted any more.
    private let startCancelled = DispatchSemaphore(value: 0)
    /// Writes for the event loop, which a kernel that does not read would block.
    private let writer = DispatchQueue(label: "apus-kernel-writer")
    private let report: @Sendable (Event) -> Void

    private struct State: Sendable {
        var session: KernelSession
        var outlet = KernelOutlet()
        /// Nil while there is no process.
        var line: Line?
        var timers: [KernelSession.Timer: Scheduled<Void>] = [:]
        /// Whether the last request ended with an error that stops the cells behind it.
        var stopsOthers = false

        /// The connection to the process of that number; nil when that process is gone.
        func line(to process: Int) -> Line? { self.line.flatMap { $0.process == process ? $0 : nil } }
    }

    /// The connection to a process.
    private struct Line: Sendable {
        /// The number by which the session knows it.
        let process: Int
        let child: KernelChild
        /// Whether the process takes large parts as ``KernelMemory``.
        var borrows = false
    }

    /// Slow effects, which the thread that brought the event performs after it has released the lock.
    private struct Orders: Sendable {
        var start: Duration?
        var writing: Writing?
        var leaving: (child: KernelChild, isHurried: Bool)?
    }

    private struct Writing: Sendable {
        let frames: [[ByteBuffer]]
        let line: Line
    }

    /// Creates a kernel, which takes requests before Python is up.
    init(_ options: PythonOptions, on eventLoop: any EventLoop, report: @escaping @Sendable (Event) -> Void) {
        self.options = options
        self.eventLoop = eventLoop
        self.report = report
        var session = KernelSession.Options()
        session.restarts = options.restarts
        session.grace = options.grace
        self.state = Mutex(State(session: KernelSession(options: session)))
    }

    /// Starts the thread that starts Python. The thread lives until ``stop(within:)``, or until there is no kernel any more.
    func start() {
        let thread = Thread { [self] in self.serve() }
        thread.name = "apus-kernel"
        thread.start()
    }

    // MARK: The worker's side

    /// Runs a request, sends all messages about it and blocks until it has ended. True when it ended with an error that stops the
    /// cells queued behind it.
    func run(_ message: Message, type: MessageType, _ metadata: RequestMetadata.ForEngine, on channel: EngineChannel) -> Bool {
        let request = KernelRequest(message: message, type: type, metadata: metadata, channel: channel)
        let orders = self.state.withLock { state in
            let number = state.outlet.begin(request)
            return self.handle(
                .requested(KernelSession.Request(number: number, limit: metadata.limit, isQuiet: metadata.isQuiet)), &state)
        }
        // By this thread, because another would have to be woken first. While no process is up, the thread that is told of the
        // next one writes the request.
        if let writing = orders.writing { self.write(writing) }
        self.answered.wait()
        return self.state.withLock { $0.stopsOthers }
    }

    // MARK: Control

    /// Tells the kernel the engine's id, and where messages go; called before the first request.
    func connect(_ messages: EngineMessages, _ exchange: WorkExchange, _ capture: OutputCapture?) {
        self.tell { state in
            state.outlet.connect(messages, exchange, capture)
            return .connected
        }
    }

    /// Interrupts the running request, as soon as Python has begun it. False when none runs.
    @discardableResult
    func interrupt() -> Bool {
        self.tell { state in
            state.session.request.map { .interruptAsked(request: $0) }
        }
    }

    /// Interrupts the running request if it is one of these.
    func interrupt(anyOf requests: Set<MessageID>) {
        self.tell { state in
            state.outlet.number(anyOf: requests).map { .interruptAsked(request: $0) }
        }
    }

    /// Sends the interpreter a signal; false when there is none.
    func signal(_ number: Int32) -> Bool { self.state.withLock { $0.line?.child.signal(number) ?? false } }

    /// Empties the namespace before the next request, and as soon as Python is idle.
    func clear() { self.tell { _ in .clearAsked } }

    /// Replaces the interpreter by a new one, whatever it is doing.
    func restart() { self.tell { _ in .restartAsked } }

    /// Ends the interpreter: lets it run what it does at its exit, and kills it after the given time, or at once when it runs a
    /// request.
    func stop(within time: Duration) async {
        await withCheckedContinuation { continuation in
            // This blocks, which the threads of Swift tasks must not.
            DispatchQueue.global().async {
                let orders = self.state.withLock { self.handle(.stopAsked, &$0) }
                if let (child, isHurried) = orders.leaving { Self.letGo(child, within: isHurried ? .zero : time) }
                continuation.resume()
            }
        }
    }

    private static func letGo(_ child: KernelChild, within time: Duration) {
        child.closeInput()
        _ = child.ending(within: time / .seconds(1))
    }

    // MARK: The kernel's thread

    /// Starts one process after another until none is wanted. Python does not depend on this thread: it ends by the child's pipe
    /// when the engine's process does.
    private func serve() {
        var process = 0
        var pause: Duration? = .zero
        while let time = pause {
            if time > .zero, self.startCancelled.wait(timeout: .now() + time / .seconds(1)) == .success { return }
            process += 1
            pause = self.live(as: process)
        }
    }

    /// Starts a process and waits for its end. Gives the pause before the next one; nil when there will be none.
    private func live(as process: Int) -> Duration? {
        let child: KernelChild
        do { child = try KernelChild(interpreter: self.options.interpreter, arguments: ["-c", KernelSources.boot]) } catch {
            return self.state.withLock { self.handle(.startFailed("\(error)"), &$0) }.start
        }
        let orders = self.state.withLock { state in
            state.line = Line(process: process, child: child)
            return self.handle(.started(process: process), &state)
        }
        if let writing = orders.writing { self.write(writing) }
        if let leaving = orders.leaving {
            Self.letGo(leaving.child, within: .zero)
            self.state.withLock { $0.line = nil }
            return nil
        }
        let isTorn = self.read(child, as: process)
        // Frees a thread that is blocked in a write: the process does not read any more.
        shutdown(child.socket, Int32(SHUT_RDWR))
        let how = "\(child.ending(within: isTorn ? 0 : 2))"
        return self.state.withLock { state in
            defer { state.line = nil }
            let now = MonotonicTime(nanoseconds: NIODeadline.now().uptimeNanoseconds)
            return self.handle(.ended(process: process, how: how, isTorn: isTorn, at: now), &state)
        }.start
    }

    /// Has the event loop read until the kernel is gone. True when the kernel sent bytes that are no frame.
    private func read(_ child: KernelChild, as process: Int) -> Bool {
        let ended = DispatchSemaphore(value: 0)
        let wasTorn = Mutex(false)
        KernelReading.start(child, on: self.eventLoop) {
            self.take($0, from: process)
        } whenEnded: { isTorn in
            wasTorn.withLock { $0 = isTorn }
            ended.signal()
        }
        ended.wait()
        return wasTorn.withLock { $0 }
    }

    /// Handles a frame that Python has sent, on the event loop.
    private func take(_ parts: [ByteBuffer], from process: Int) {
        guard let frame = KernelFrame(parts) else { return }
        self.tell(frame) { state in
            if case .ready(let about) = frame { state.line?.borrows = about.borrows }
            return .said(frame.saying, by: process)
        }
    }

    // MARK: Effects

    /// Handles the event that the body gives, if it gives one, on a thread that must not block. True when there was an event.
    @discardableResult
    private func tell(_ frame: KernelFrame? = nil, _ body: (inout State) -> KernelSession.Event?) -> Bool {
        let orders = self.state.withLock { state in body(&state).map { self.handle($0, &state, frame) } }
        if let writing = orders?.writing { self.writer.async { self.write(writing) } }
        return orders != nil
    }

    /// Has the session handle an event, and performs the effects, with the lock held.
    private func handle(_ event: KernelSession.Event, _ state: inout State, _ frame: KernelFrame? = nil) -> Orders {
        var orders = Orders()
        var reports: [KernelSession.Report] = []
        var isAnswered = false
        for effect in state.session.handle(event) {
            switch effect {
            case .start(let pause): orders.start = pause
            case .cancelStart: self.startCancelled.signal()
            case .write(let pieces, let process):
                if let line = state.line(to: process) {
                    orders.writing = Writing(frames: pieces.compactMap { self.frame($0, state.outlet) }, line: line)
                }
            case .interrupt(let process): state.line(to: process)?.child.signal(SIGINT)
            case .kill(let process): state.line(to: process)?.child.signal(SIGKILL)
            case .letGo(let process, let isHurried): orders.leaving = state.line(to: process).map { ($0.child, isHurried) }
            case .startTimer(let timer, let time): self.start(timer, after: time, &state)
            case .stopTimer(let timer): state.timers.removeValue(forKey: timer)?.cancel()
            case .tellBusy: state.outlet.tellBusy()
            case .publish(let request):
                if case .publication(let publication) = frame { state.outlet.publish(publication, for: request) }
            case .answer(_, .asPythonSays(let stopsOthers), let outputs):
                if case .reply(let reply) = frame { state.outlet.answer(reply, outputs: outputs) }
                state.stopsOthers = stopsOthers
                isAnswered = true
            case .answer(_, .inPlace(let end, let goesOn), let outputs):
                state.outlet.answer(end, goesOn: goesOn, outputs: outputs)
                state.stopsOthers = false
                isAnswered = true
            case .report(let report): reports.append(report)
            }
        }
        state.outlet.flush()
        // After the messages: the engine may end when it is told, and drops what it has not got by then.
        for report in reports { self.pass(on: report, frame) }
        // The reply is sent first; the worker's next request can wait.
        if isAnswered { self.eventLoop.execute { self.answered.signal() } }
        return orders
    }

    private func pass(on report: KernelSession.Report, _ frame: KernelFrame?) {
        switch report {
        case .ready:
            if case .ready(let about) = frame { self.report(.ready("\(about.words), \(self.options.interpreter)")) }
        case .restarted(let end, let pause): self.report(.restarted(why: "\(end)", after: pause))
        case .failed(let end): self.report(.failed(why: "\(end)"))
        case .left: self.report(.quit)
        }
    }

    private func start(_ timer: KernelSession.Timer, after time: Duration, _ state: inout State) {
        state.timers.removeValue(forKey: timer)?.cancel()
        state.timers[timer] = self.eventLoop.scheduleTask(in: TimeAmount(time)) {
            self.tell { state in
                state.timers[timer] = nil
                return .timerFired(timer)
            }
        }
    }

    private func frame(_ piece: KernelSession.Piece, _ outlet: KernelOutlet) -> [ByteBuffer]? {
        switch piece {
        case .sources:
            var settings = self.options.settings
            if KernelMemory.isAvailable { settings["memory"] = .int(Int(KernelChild.lenderNumber)) }
            return [KernelSources.packed, JSONValue.object(settings).packed]
        case .identity: return outlet.identityFrame
        case .clear: return KernelFrame.clear
        case .request: return outlet.requestFrame
        }
    }

    /// Writes the frames, and blocks while the process does not read.
    private func write(_ writing: Writing) {
        let line = writing.line
        for frame in writing.frames {
            // When writing fails, reading ends too, which is handled there.
            _ = KernelFrames.write(frame, to: line.child.socket, lender: line.borrows ? line.child.lender : nil)
        }
        self.tell { _ in .written(process: line.process) }
    }
}
