import ApusCore
import ApusWire
import NIOCore

/// Asks engines of the controller before this one what they hold, again and again until they report, are gone, or have had all rounds.
///
/// An engine of ours is asked by its control socket. A stock engine is probed: a `kernel_info_request` by its task socket is answered
/// after all tasks that the engine was given before, so a task without an answer by then has none.
final class EngineInquiries {
    private struct Inquiry {
        let isProbe: Bool
        /// The tasks that the engine is asked about.
        var asked: Set<TaskID> = []
        /// How many more probes are to be answered before tasks without an answer count as lost.
        var probesLeft = 0
        /// The time to the next repetition.
        var pause: TimeAmount
        /// How often the question is still repeated, unless it is a probe.
        var roundsLeft = EngineInquiries.rounds
        var timer: Scheduled<Void>?
    }

    private var inquiries: [EngineUUID: Inquiry] = [:]
    /// Called with a report that stands for the engine's silence.
    var onReport: (EngineReport, EngineUUID) -> Void = { _, _ in }

    private let engines: EngineRoster
    private let session: ControllerSession
    private let control: Outlet
    private let tasks: Outlet
    private let loop: any EventLoop

    /// How often an engine is asked, once per ``pause``, before its tasks count as lost.
    private static let rounds = 50
    private static let pause = TimeAmount.milliseconds(200)
    /// The time to the second probe, which the socket may have needed to connect. Each further pause is twice as long, for a stock
    /// engine may run a task for days before it answers.
    private static let probePause = TimeAmount.seconds(1)
    private static let longestPause = TimeAmount.hours(1)

    init(engines: EngineRoster, session: ControllerSession, control: Outlet, tasks: Outlet, on loop: any EventLoop) {
        self.engines = engines
        self.session = session
        self.control = control
        self.tasks = tasks
        self.loop = loop
    }

    /// Asks an engine about tasks, besides those that it is asked about already.
    func ask(_ engine: EngineUUID, of tasks: Set<TaskID>, byProbe isProbe: Bool = false) {
        var inquiry = self.inquiries[engine] ?? Inquiry(isProbe: isProbe, pause: isProbe ? Self.probePause : Self.pause)
        inquiry.asked.formUnion(tasks)
        // The engine may read the messages of its old and its new connections in turns. After as many probes as it was given tasks
        // it has read all of the old ones.
        inquiry.probesLeft = min(inquiry.asked.count, 1000)
        self.inquiries[engine] = inquiry
        self.send(to: engine)
        if inquiry.timer == nil { self.schedule(engine) }
    }

    /// The engine has reported, or something else has settled what it holds.
    func answered(_ report: EngineReport, by engine: EngineUUID) {
        self.inquiries[engine]?.asked.subtract(report.asked)
        if self.inquiries[engine]?.asked.isEmpty == true { self.drop(engine) }
    }

    /// The engine is not to be asked any more.
    func drop(_ engine: EngineUUID) { self.inquiries.removeValue(forKey: engine)?.timer?.cancel() }

    /// Takes the reply if it answers a probe. The last one counts as a report that the engine has none of its tasks.
    ///
    /// - Parameter isOwing: Whether the engine has not answered one of these tasks.
    /// - Returns: Whether the reply was taken.
    func takesReply(_ message: Message, from engine: EngineUUID, isOwing: (Set<TaskID>) -> Bool) -> Bool {
        // The replies to tasks that are run again name the controller in place of a client, too.
        guard message.identities.count > 1, message.identities[1] == ControllerSession.identity,
            (try? MessageHeader(scanning: message.header))?.type == MessageType.kernelInfoRequest.reply
        else { return false }
        guard let inquiry = self.inquiries[engine], inquiry.isProbe else { return true }
        if inquiry.probesLeft > 0, isOwing(inquiry.asked) {
            self.inquiries[engine]?.probesLeft -= 1
            self.send(to: engine)
        } else {
            self.giveUp(engine)
        }
        return true
    }

    private func giveUp(_ engine: EngineUUID) {
        guard let asked = self.inquiries[engine]?.asked else { return }
        self.drop(engine)
        self.onReport(EngineReport(asked: asked, has: [], lost: asked), engine)
    }

    private func schedule(_ engine: EngineUUID) {
        guard let pause = self.inquiries[engine]?.pause else { return }
        self.inquiries[engine]?.timer = self.loop.assumeIsolated().scheduleTask(in: pause) { [weak self] in
            guard let self, let inquiry = self.inquiries[engine] else { return }
            if inquiry.isProbe {
                self.inquiries[engine]?.pause = min(pause * 2, Self.longestPause)
            } else if inquiry.roundsLeft <= 1 {
                return self.giveUp(engine)
            }
            self.inquiries[engine]?.roundsLeft -= 1
            self.send(to: engine)
            self.schedule(engine)
        }
    }

    private func send(to engine: EngineUUID) {
        guard let inquiry = self.inquiries[engine], let identity = self.engines.identity(of: engine) else { return }
        let identities = [identity, ControllerSession.identity]
        let outlet = inquiry.isProbe ? self.tasks : self.control
        let message =
            inquiry.isProbe
            ? self.session.message(.kernelInfoRequest, identities: identities, content: [:])
            : self.session.message(
                .reportRequest, identities: identities,
                content: ["msg_ids": .array(inquiry.asked.sorted().map { .string($0.text) })])
        outlet.send(message.frames)
        outlet.flush()
    }
}
