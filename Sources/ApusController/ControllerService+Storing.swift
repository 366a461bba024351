import ApusCore
import ApusStore
import ApusTransport
import Logging
import NIOCore

// What happens to tasks, on its way into the store.
extension ControllerService {
    /// Hands changes over once per turn of the loop.
    func scheduleFlush() {
        guard !self.changes.isEmpty || !self.heldAnswers.isEmpty, !self.flushIsScheduled else { return }
        if self.changes.count > 256 { return self.flushChanges() }
        self.flushIsScheduled = true
        self.eventLoop.assumeIsolated().execute { self.assumeIsolated { $0.flushChanges() } }
    }

    func flushChanges() {
        self.flushIsScheduled = false
        if !self.changes.isEmpty {
            self.store.apply(self.changes)
            self.changes.removeAll(keepingCapacity: true)
        }
        self.releaseAnswers()
        if self.store.backlogByteCount > Self.largestBacklog { self.pauseClients() }
    }

    // MARK: The engines file

    /// Has the list of engines written when those that come and go together have done so: a thousand that register within a
    /// second must not each cost a list of a thousand.
    func saveStateSoon() {
        guard self.onStateChange != nil, !self.stateIsUnsaved else { return }
        self.stateIsUnsaved = true
        self.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(20)) { self.assumeIsolated { $0.saveState() } }
    }

    func saveState() {
        guard self.stateIsUnsaved else { return }
        self.stateIsUnsaved = false
        self.onStateChange?(self.registry.state)
    }

    // MARK: Answers

    /// Tells a client how its task ended: at once, or with a store that lasts when the record of it will last too, so that a
    /// result which somebody was told of is not lost with this process.
    func answer(_ frames: [ByteBuffer], on socket: ControllerSocket) {
        if self.store.isDurable {
            self.heldAnswers.append((frames: frames, socket: socket))
            self.scheduleFlush()
        } else {
            self.send(frames, on: socket)
        }
    }

    private func releaseAnswers() {
        guard !self.heldAnswers.isEmpty, self.storing == nil else { return }
        self.storing = Task {
            await self.releaseEveryAnswer()
            self.storing = nil
            self.flushSockets()
            // For what came meanwhile.
            self.scheduleFlush()
        }
    }

    /// Waits for the store and sends what was held until now.
    func releaseEveryAnswer() async {
        let answers = self.heldAnswers
        guard !answers.isEmpty else { return }
        self.heldAnswers = []
        // A disk that is full must not keep results from those who wait for them.
        do { try await self.store.flush() } catch {
            self.logger.error("results are given out that could not be stored: \(error)")
        }
        for (frames, socket) in answers { self.send(frames, on: socket) }
    }

    // MARK: A store that is behind

    /// Bytes that may wait for the disk before clients wait too.
    private static let largestBacklog = 64 << 20
    private static let clientSockets: [ControllerSocket] = [.taskClient, .muxClient, .broadcastClient]

    /// Stops reading what clients submit until the store has caught up, so that a slow disk costs time and not memory.
    private func pauseClients() {
        guard !self.clientsArePaused else { return }
        self.clientsArePaused = true
        self.logger.notice(
            "the task database is behind; clients wait", metadata: ["bytes": "\(self.store.backlogByteCount)"])
        for socket in Self.clientSockets { self.sockets[socket]?.setReading(false) }
        self.resumeClientsLater()
    }

    private func resumeClientsLater() {
        self.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(20)) {
            self.assumeIsolated { service in
                // Closed meanwhile: there is nobody to be read from.
                guard !service.sockets.isEmpty else { return }
                guard service.store.backlogByteCount < Self.largestBacklog / 2 else { return service.resumeClientsLater() }
                service.clientsArePaused = false
                for socket in Self.clientSockets { service.sockets[socket]?.setReading(true) }
            }
        }
    }
}
