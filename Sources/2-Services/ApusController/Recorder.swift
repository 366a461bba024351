import ApusStore
import ApusTransport
import ApusWire
import Logging
import NIOCore

/// Records what happens to tasks: collects changes, hands them to the store once per turn of the loop, holds answers until their
/// changes are on the disk, and has clients wait when the store is behind.
final class Recorder {
    private let store: any TaskStore
    /// Whether answers wait for the store.
    private let isDurable: Bool
    private let loop: any EventLoop
    private let work: LoopTasks
    private let logger: Logger
    /// The sockets by which clients submit. They are not read while the store is behind.
    private let clients: [Outlet]

    /// Changes since they were last handed to the store.
    private var changes: [TaskChange] = []
    private var flushIsScheduled = false
    /// Answers whose changes a durable store has yet to write, in order.
    private var heldAnswers: [(frames: [ByteBuffer], outlet: Outlet)] = []
    /// The task that waits for the store and then sends the answers held when it began; nil while there is none.
    private var storing: Task<Void, Never>?
    private var clientsArePaused = false
    /// Whether the controller ends, so that clients are not read any more.
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

    /// Notes what has happened to a task. The change goes to the store at the end of the loop's turn.
    func note(_ change: TaskChange) {
        self.changes.append(change)
        if !self.flushIsScheduled { self.scheduleFlush() }
    }

    /// Takes back the last noted submission of a task, if it has not gone to the store yet.
    func takeBackSubmission(of task: TaskID) {
        let begun = self.changes.lastIndex { change in
            if case .submitted(task, _, _, _, _, _) = change { true } else { false }
        }
        if let begun { self.changes.remove(at: begun) }
    }

    /// Sends a client the answer to its task: at once, or with a durable store after the outcome is stored, so that no result
    /// that a client has seen is lost with this process. The outcome must have been noted before.
    func answer(_ frames: [ByteBuffer], by outlet: Outlet) {
        guard self.isDurable else { return outlet.send(frames) }
        self.heldAnswers.append((frames: frames, outlet: outlet))
        if !self.flushIsScheduled { self.scheduleFlush() }
    }

    /// Called after each event; hands the changes over if there are many, without waiting for the end of the turn.
    func settle() { if self.changes.count > 256 { self.flush() } }

    private func scheduleFlush() {
        self.flushIsScheduled = true
        self.loop.assumeIsolated().execute { self.flush() }
    }

    /// Hands all changes noted until now to the store, so that a query finds them.
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

    /// Hands the remaining changes to the store, and waits until every answer has been sent.
    nonisolated(nonsending) func close() async {
        self.isClosed = true
        self.flush()
        while let storing = self.storing {
            await storing.value
            // Answers may have been held while the store was writing.
            self.releaseAnswers()
        }
    }

    // MARK: Answers

    private func releaseAnswers() {
        guard !self.heldAnswers.isEmpty, self.storing == nil else { return }
        self.storing = self.work.start(for: self) { await $0.storeAndRelease() }
    }

    /// Waits for the store and sends the answers that are held now.
    private nonisolated(nonsending) func storeAndRelease() async {
        // An answer goes out only after its own change is stored, so changes noted since the last handover are handed over too.
        self.handOver()
        let answers = self.heldAnswers
        self.heldAnswers = []
        // A full disk must not keep results from clients.
        do { try await self.store.flush() } catch {
            self.logger.error("results are given out that could not be stored: \(error)")
        }
        for (frames, outlet) in answers { outlet.send(frames) }
        for outlet in self.clients { outlet.flush() }
        self.storing = nil
        // Release the answers that were held meanwhile.
        if !self.heldAnswers.isEmpty, !self.flushIsScheduled { self.scheduleFlush() }
    }

    // MARK: A store that is behind

    /// Bytes that may wait for the disk before clients must wait too.
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
            // The controller has closed meanwhile.
            guard !self.isClosed else { return }
            guard self.store.backlogByteCount < Self.largestBacklog / 2 else { return self.resumeClientsLater() }
            self.clientsArePaused = false
            for client in self.clients { client.setReading(true) }
        }
    }
}
