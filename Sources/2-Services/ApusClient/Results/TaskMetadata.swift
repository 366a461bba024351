import ApusFunctions
public import ApusWire
import NIOCore

/// The metadata of one task: when and where it ran, and how it ended.
public struct TaskMetadata: Sendable {
    /// How a task ended.
    public enum Status: String, Sendable {
        /// The task gave a result.
        case ok
        /// Code on the engine raised an error, or no engine could run the task.
        case error
        /// The task was aborted before it started.
        case aborted
    }

    /// The task's id.
    public let id: TaskID
    /// When this client sent the task.
    public let submitted: WireDate
    /// When the engine began the task; nil until a reply says so.
    public let started: WireDate?
    /// When the engine finished the task.
    public let completed: WireDate?
    /// When the reply reached this client.
    public let received: WireDate?
    /// The engine that ran the task; nil while the client does not know it, and where that engine has left.
    public let engineID: EngineID?
    /// The uuid that names that engine for as long as it lives, also known when the engine has left.
    public let engineUUID: EngineUUID?
    /// How the task ended; nil until it has ended.
    public let status: Status?
    /// The label of the view that the task was sent through.
    public let label: String?
    /// The task's printed and displayed output.
    public let output: TaskOutput
    /// The error that the task ended with, as ``AsyncResult/value`` throws it; nil where there is none.
    public let error: (any Error)?
    /// The engine's description of the error, with its traceback; nil where no code on an engine raised an error.
    public let remoteError: RemoteError?

    /// Text that the task printed to standard output.
    public var stdout: String { self.output.stdout }
    /// Text that the task printed to standard error.
    public var stderr: String { self.output.stderr }
}

extension ClientConnection {
    func metadata(of task: PendingTask) -> TaskMetadata {
        var started: WireDate?
        var completed: WireDate?
        var received: WireDate?
        var uuid = task.targets.first
        var status: TaskMetadata.Status?
        var label: String?
        switch task.outcome {
        case .reply(let message, let date):
            received = date
            completed = (try? MessageHeader(scanning: message.header))?.date
            let metadata = try? ReplyMetadata.ForClient(scanning: message.metadata)
            started = metadata?.started
            uuid = metadata?.engine ?? uuid
            label = metadata?.label
            status = message.content.textMember("status").flatMap { TaskMetadata.Status(rawValue: $0) }
        case .failed: status = .error
        case nil: break
        }
        var failure: TaskFailure?
        if task.isDone {
            do { _ = try self.reply(of: task) } catch { failure = error }
        }
        return TaskMetadata(
            id: task.id, submitted: task.submitted, started: started, completed: completed, received: received,
            engineID: uuid.flatMap { self.engineID(of: $0) }, engineUUID: uuid, status: status, label: label, output: task.output,
            error: failure?.error, remoteError: failure?.remote)
    }

    /// The reply of a task that went well.
    ///
    /// - Throws: The error that code on the engine raised, as itself where that can be; ``RemoteError`` or ``ApusError`` else.
    func message(of task: PendingTask) throws -> Message {
        do { return try self.reply(of: task) } catch { throw error.thrown }
    }

    /// The reply of a task that went well; for any other task, the failure is thrown.
    func reply(of task: PendingTask) throws(TaskFailure) -> Message {
        switch task.outcome {
        case nil: throw TaskFailure(ApusError(.resultNotFound, "task '\(task.id)' has not ended"))
        case .failed(let error): throw TaskFailure(error)
        case .reply(let message, _):
            // Nearly all replies have this content, and need not be parsed.
            if message.content == Self.plainOK, !task.mustSayLimit { return message }
            let content: JSONValue
            do { content = try JSONValue(parsing: message.content) } catch {
                throw TaskFailure(ApusError(.badResult, "the reply to task '\(task.id)' cannot be read: \(error)"))
            }
            switch content["status"]?.string {
            case "ok":
                try self.requireLimit(heededIn: message, of: task)
                return message
            case "aborted": throw TaskFailure(ApusError(.taskAborted, "task '\(task.id)' was aborted before it started"))
            default: throw self.failure(ErrorContent(content), of: task, message)
            }
        }
    }

    private static let plainOK = ByteBuffer(string: "{\"status\": \"ok\"}")

    /// The failure that an error content describes, of a task or of one of its calls.
    func failure(_ content: ErrorContent, of task: PendingTask, _ message: Message) -> TaskFailure {
        if content.engineInfo.isEmpty {
            // Made by a scheduler, not by code on an engine.
            let text = content.value.isEmpty ? nil : content.value
            switch ErrorName(rawValue: content.name) {
            case .engineError:
                return TaskFailure(ApusError(.engineDied, text ?? "the engine died while running task '\(task.id)'"))
            case .taskTimeout:
                return TaskFailure(
                    ApusError(
                        .taskTimeout, text ?? "task '\(task.id)' waited longer for its dependencies than its timeout allows"))
            case .impossibleDependency:
                return TaskFailure(
                    ApusError(.impossibleDependency, text ?? "the dependencies of task '\(task.id)' can never be met"))
            case .invalidDependency:
                return TaskFailure(
                    ApusError(
                        .invalidDependency,
                        text ?? "task '\(task.id)' depends on itself, or on a task that the scheduler was never given"))
            case .noEnginesRegistered:
                return TaskFailure(ApusError(.noEnginesRegistered, text ?? "no engine is registered"))
            case .taskAborted:
                return TaskFailure(ApusError(.taskAborted, text ?? "task '\(task.id)' was aborted before it started"))
            default: break
            }
        }
        let uuid = message.metadata.textMember(MetadataMember.engine).map { EngineUUID($0) } ?? task.targets.first
        let remote = RemoteError(content, engineID: uuid.flatMap { self.engineID(of: $0) }, engineUUID: uuid)
        guard let typed = remote.travelling?.error else { return TaskFailure(remote) }
        self.withRaisedErrors { $0.note(remote) }
        return TaskFailure(typed, remote: remote)
    }
}
