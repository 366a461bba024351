import ApusCore
import ApusWire

// The words for why a task has no outcome.
extension ClientConnection {
    static func error(_ ending: ClientSession.Ending) -> ApusError {
        switch ending {
        case .closed: ApusError(.closed, "the client was closed")
        case .controllerShutDown: ApusError(.controllerGone, "the controller has shut down")
        }
    }

    /// - Parameter cause: The error that the session was told of, where there was one.
    func error(_ failure: ClientSession.Failure, of task: TaskID, cause: (any Error)?) -> ApusError {
        switch failure {
        case .ended(let ending): return Self.error(ending)
        case .controllerOutOfReach:
            return ApusError(
                .controllerGone,
                "the controller at \(self.info.common.interface):\(self.info.common.registration) has been out of reach for "
                    + "\(self.patience). Should it come back, the results of tasks that have ended are in its database (getResult)"
            )
        case .engineDied(let engine):
            return ApusError(.engineDied, "engine \(engine) died while running task '\(task)'; the task gave no result")
        case .limitNotKept(let engine): return Self.noLimits(on: engine)
        case .tooLarge(let limit):
            return ApusError(.badResult, "the result of task '\(task)' cannot be taken: \(MessageSize.refusal(limit: limit))")
        case .unanswered: return ApusError(.connectionLost, "the connection to the controller broke before it answered")
        case .lost(let loss): return self.error(loss, of: task, cause)
        }
    }

    private func error(_ loss: ClientSession.Loss, of task: TaskID, _ cause: (any Error)?) -> ApusError {
        func lost(_ text: String) -> ApusError { ApusError(.taskLost, text, cause: cause) }
        let anotherController = "task '\(task)' was lost, for the controller that had it has ended and"
        switch loss {
        case .unknown(let isAnotherHub):
            let why =
                isAnotherHub
                ? "the controller that had it has ended, and the one there now has no record of it"
                : (cause as? RemoteError)?.value ?? "the hub does not know it"
            return lost("task '\(task)' was lost with the connection to the controller: \(why). Submit it again")
        case .unreadable:
            if let cause = cause as? RemoteError {
                return ApusError(.hubError, "the result of task '\(task)' cannot be fetched: \(cause.value)", cause: cause)
            }
            return cause as? ApusError ?? ApusError(.badResult, "a result from the hub cannot be read", cause: cause)
        case .unassigned: return lost("\(anotherController) it had not been given to an engine. Submit it again")
        case .engineStayedAway: return lost("\(anotherController) its engine has not come to the one there now. Submit it again")
        case .unaskable: return lost("what became of task '\(task)' cannot be found out")
        }
    }
}
