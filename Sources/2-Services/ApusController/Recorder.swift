import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore

/// Writes down what happens to tasks: collects changes and hands them to the store once per turn of the loop, holds answers until the
/// disk has what they say, and has clients wait when the store is behind.
final class Recorder {
    private let store: any TaskStore
    /// Whether answers wait for the store.
    private let isDurable: Bool
    private let loop: any EventLoop
    private let work: LoopTasks
    private let logger: Logger
    /// Where clients submit: they are not read from while the store is behind.
    private let clients: [Outlet]

    /// Changes since they were last handed to the store.
    private var changes: [TaskChange] = []
    private var flushIsScheduled = false
    /// Answers that a store which lasts has yet to keep what they say.
    private var heldAnswers: [(frames: [ByteBuffer], outlet: Outlet)] = []
    /// Waits for the store with the answers that were held when it began; nil while none are.
    private var storing: Task<Void, Never>?
    private var clientsArePaused = false
    /// Whether the controller ends, so that nobody is read from any more.
    private var isClosed = false

    init(_ store: any TaskStore, pausing clients: [Outlet], work: LoopTasks, on loop: any EventLoop, logger: Logger) {
        self.store = store
        self.isDurable = store.isDurable
        self.clients = clients
        self.work = work
        self.loop = loop
        self.logger = logger
    }

    // MARK: What happens

    /// Notes what has happened to a task. The store is told at the end of the loop's turn.
    func note(_ change: TaskChange) {
        self.changes.append(change)
        if !self.flushIsScheduled { self.scheduleFlush() }
    }

    /// Takes back that a task was submitted, which was noted during this event: nothing of it has gone to the store.
    func takeBackSubmission(of task: TaskID) {
        let begun = self.changes.lastIndex { change in
            if case .submitted(task, _, _, _, _, _) = change { true } else { false }
        }
        if let begun { self.changes.remove(at: begun) }
    }

    /// Tells a client how its task ended: at once, or with a store that lasts when the record of it will last too, so that a
    /// result which somebody was told of is not lost with this process. The end itself must have been noted before.
    func answer(_ frames: [ByteBuffer], by outlet: Outlet) {
        guard self.isDurable else { return outlet.send(frames) }
        self.heldAnswers.append((frames: frames, outlet: outlet))
        if !self.flushIsScheduled { self.scheduleFlush() }
    }

    /// An event has been dealt with. Many changes do not wait for the end of the turn.
    func settle() { if self.changes.count > 256 { self.flush() } }

    private func scheduleFlush() {
        self.flushIsScheduled = true
        self.loop.assumeIsolated().execute { self.flush() }
    }

    /// Tells the store what was noted until now, so that a look into it finds that.
    func flush() {
        self.flushIsScheduled = false
        self.handOver()
        self.releaseAnswers()
        if self.store.backlogByteCount > Self.largestBacklog { self.pauseClients() }
    }

    private func handOver() {
        guard !self.changes.isEmpty else { return }
        self.store.apply(self.changes)
        self.changes.removeAll(keepingCapacity: true)
    }

    /// Tells the store what is left, and waits until every answer has been sent.
    nonisolated(nonsending) func close() async {
        self.isClosed = true
        self.flush()
        while let storing = self.storing {
            await storing.value
            // What was held while the store was at work.
            self.releaseAnswers()
        }
    }

    // MARK: Answers

    private func releaseAnswers() {
        guard !self.heldAnswers.isEmpty, self.storing == nil else { return }
        self.storing = self.work.start(for: self) { await $0.storeAndRelease() }
    }

    /// Waits for the store and sends what is held now.
    private nonisolated(nonsending) func storeAndRelease() async {
        // An answer goes out when its own change has been stored, so what came in between goes to the store with it.
        self.handOver()
        let answers = self.heldAnswers
        self.heldAnswers = []
        // A disk that is full must not keep results from those who wait for them.
        do { try await self.store.flush() } catch {
            self.logger.error("results are given out that could not be stored: \(error)")
        }
        for (frames, outlet) in answers { outlet.send(frames) }
        for outlet in self.clients { outlet.flush() }
        self.storing = nil
        // For what came meanwhile.
        if !self.heldAnswers.isEmpty, !self.flushIsScheduled { self.scheduleFlush() }
    }

    // MARK: A store that is behind

    /// Bytes that may wait for the disk before clients wait too.
    private static let largestBacklog = 64 << 20

    /// Stops reading what clients submit until the store has caught up, so that a slow disk costs time and not memory.
    private func pauseClients() {
        guard !self.clientsArePaused, !self.isClosed else { return }
        self.clientsArePaused = true
        self.logger.notice(
            "the task database is behind; clients wait", metadata: ["bytes": "\(self.store.backlogByteCount)"])
        for client in self.clients { client.setReading(false) }
        self.resumeClientsLater()
    }

    private func resumeClientsLater() {
        self.loop.assumeIsolated().scheduleTask(in: .milliseconds(20)) {
            // Closed meanwhile: there is nobody to be read from.
            guard !self.isClosed else { return }
            guard self.store.backlogByteCount < Self.largestBacklog / 2 else { return self.resumeClientsLater() }
            self.clientsArePaused = false
            for client in self.clients { client.setReading(true) }
        }
    }
}
