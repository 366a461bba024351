package import ApusCore
package import ApusWire
import NIOCore

/// An engine has come or gone, as those who launched it are told.
package enum EnginePresence: Sendable, Equatable {
    case joined(EngineUUID, EngineID)
    /// - Parameter hadWork: Whether it had requests that it had not answered.
    case left(EngineUUID, EngineRegistry.Departure, hadWork: Bool)
}

// What those who launch engines tell the controller that runs in their process.
extension ControllerService {
    /// Has tasks fail where no engine is registered, for none is coming, and why; nil: has them wait again.
    package nonisolated func expectNoEngine(_ reason: String?) {
        self.eventLoop.execute {
            self.assumeIsolated { service in
                service.perform(reason.map { .noEngineIsComing($0) } ?? .engineIsComing)
                service.flushSockets()
                service.scheduleFlush()
            }
        }
    }

    /// Whether the engine has requests that it has not answered.
    func hasWork(_ uuid: EngineUUID) -> Bool {
        !self.scheduler.assigned(to: uuid).isEmpty || !self.direct.queue(of: uuid).isEmpty
    }
}
