import ApusCore
import ApusWire
import DequeModule
import NIOCore

/// Publishes notifications that an engine has come or gone, to all clients.
final class EngineNotices {
    private let session: ControllerSession
    private let outlet: Outlet
    private let loop: any EventLoop
    /// Engines announced of late, oldest first, and when. Some may be gone again.
    private var announcements: Deque<(engine: EngineRegistry.Engine, time: NIODeadline)> = []
    /// Notifications that are published a little later, so that answers arrive before them; oldest first.
    private var later: [Message] = []

    init(session: ControllerSession, outlet: Outlet, on loop: any EventLoop) {
        self.session = session
        self.outlet = outlet
        self.loop = loop
    }

    /// What the last announced engine can run.
    var lastAbilities: EngineAbilities? { self.announcements.last?.engine.abilities }

    func engineJoined(_ engine: EngineRegistry.Engine) {
        self.announcements.append((engine, .now()))
        self.forgetOldAnnouncements()
        self.publish(.registrationNotification, engine)
    }

    /// - Parameter delay: How long to wait, so that answers in the engine's place arrive first.
    func engineLeft(_ engine: EngineRegistry.Engine, after delay: TimeAmount = .zero) {
        self.publish(.unregistrationNotification, engine, after: delay)
    }

    /// Announces recent engines again, for a client that has just subscribed and may have missed them.
    ///
    /// Clients learn the engines by their connection request and subscribe after its answer, so an engine that registers in
    /// between would stay unknown to them. Clients that know the engine already ignore the notification.
    func announceAgain(_ engines: EngineRoster) {
        self.forgetOldAnnouncements()
        for announcement in self.announcements {
            if let engine = engines[announcement.engine.uuid] { self.publish(.registrationNotification, engine) }
        }
    }

    /// Publishes at once that the controller ends.
    func controllerEnds(_ request: Message) {
        let notice = self.session.message(.shutdownNotification, parent: request.header, content: ["status": "ok"])
        self.outlet.send(notice.frames)
        self.outlet.flush()
    }

    private func forgetOldAnnouncements() {
        // A client may take this long to connect all its sockets.
        let limit = NIODeadline.now() - .seconds(10)
        while let first = self.announcements.first, first.time < limit { self.announcements.removeFirst() }
    }

    private func publish(_ type: MessageType, _ engine: EngineRegistry.Engine, after delay: TimeAmount = .zero) {
        var content: JSONObject = ["id": .int(engine.id.number), "uuid": .string(engine.uuid.text)]
        if engine.announcement != nil {
            var apus: JSONObject = ["limits": .bool(engine.abilities.keepsLimits)]
            if let place = engine.memoryPlace { apus["memory"] = .string(place) }
            content["apus"] = .object(apus)
        }
        self.later.append(self.session.message(type, content: content))
        guard delay > .zero else { return self.publishAll() }
        self.loop.assumeIsolated().scheduleTask(in: delay) { [weak self] in self?.publishAll() }
    }

    /// Publishes all notifications that wait, in order.
    private func publishAll() {
        for notice in self.later { self.outlet.send(notice.frames) }
        self.later = []
        self.outlet.flush()
    }
}
