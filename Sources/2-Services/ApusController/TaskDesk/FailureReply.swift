import ApusCore
import ApusWire
import NIOCore

/// The reply to a task that ended without one from an engine.
struct FailureReply {
    let error: ErrorContent
    private let failure: TaskFailure

    /// - Parameters:
    ///   - request: The task's request.
    ///   - failures: Why tasks failed whose results are arguments of this task.
    init(
        _ failure: TaskFailure, of task: TaskID, request: Message, engines: EngineRoster, failures: RecentFailures,
        context: ReasonContext
    ) {
        self.failure = failure
        switch failure {
        case .invalidDependency(let reason): self.error = ErrorContent(.invalidDependency, reason.text(context))
        case .impossibleDependency(let reason): self.error = ErrorContent(.impossibleDependency, reason.text(context))
        case .inputFailed(let input):
            self.error = ErrorContent(
                .impossibleDependency,
                "task '\(input)', whose result is an argument of task '\(task)', gave no result"
                    + (failures[input].map { ": \($0)" } ?? ""))
        case .inputMissing(let input, let reason):
            self.error = ErrorContent(
                .impossibleDependency,
                "the result of task '\(input)', an argument of task '\(task)', is not to be had: \(reason)")
        case .timeout(let reason):
            self.error = ErrorContent(
                .taskTimeout,
                "task '\(task)' waited longer than its time-out allows" + (reason.map { ": \($0.text(context))" } ?? ""))
        case .engineDied(let engine, let tries):
            self.error = engines.died(engine, task, FunctionName.text(in: request.buffers.first), tries: tries)
        case .answerLost(let engine, let tries):
            self.error = engines.lostAnswer(engine, task, FunctionName.text(in: request.buffers.first), tries: tries)
        case .noEngine(let reason): self.error = ErrorContent(.noEnginesRegistered, reason.text(context))
        case .aborted: self.error = ErrorContent(name: ErrorName.taskAborted.rawValue, value: "")
        }
    }

    /// Notes why the task failed, for the errors of tasks that depend on it.
    func note(in failures: inout RecentFailures, of task: TaskID) {
        if case .aborted = self.failure { failures.note(task, "it was aborted") } else { failures.note(task, self.error) }
    }

    func message(to request: Message, _ session: ControllerSession) -> Message {
        var identities = Array(request.identities)
        var metadata: JSONObject = [:]
        var content = self.error.json
        switch self.failure {
        case .engineDied(let engine, _), .answerLost(let engine, _):
            metadata = ReplyMetadata.standIn(.error, for: engine, at: .now)
            identities.append(ByteBuffer(string: engine.text))
        case .aborted:
            content = ["status": "aborted"]
            metadata = ReplyMetadata.standIn(.aborted)
        default: break
        }
        return session.message(
            .applyReply, identities: identities, parent: request.header, metadata: metadata, content: content)
    }
}
