public import ApusWire
import Pickle

/// An argument of a call: a value, or the result of another task.
///
/// ```swift
/// let table = try view.applyAsync($load, "2026.csv")
/// let model = try view.applyAsync($fit, .result(of: table), .value(0.5))
/// let scores = try await view.apply($score, .result(of: model), .result(of: table))
/// ```
///
/// A task that takes the result of another task waits until the other has succeeded. The result goes from engine to engine by way
/// of the controller and not through this client. The compiler checks its type: `$fit` must take what `$load` gives. If the other
/// task fails or is aborted, the waiting task ends with an ``ApusError`` of code `impossibleDependency` that names the other.
///
/// Only load-balanced views take such arguments, because the task waits in the controller's scheduler; to name the engines that
/// may run it, use ``Client/loadBalancedView(_:)`` with targets. The result may be of any task of the cluster: a task that was
/// sent to an engine directly, a task of another client (Python's too), or a task that ended long ago, as long as the hub has a
/// record of it. Controllers of ipyparallel do not know such arguments: there the call throws code `notSupported`.
public struct CallArgument<Value: Sendable>: Sendable {
    enum Source: Sendable {
        case value(Value)
        case result(ResultSource)
    }

    let source: Source

    /// A value, sent with the call.
    public static func value(_ value: Value) -> CallArgument { CallArgument(source: .value(value)) }

    /// The result of a task; the call waits until the task has succeeded.
    public static func result(of result: AsyncResult<Value>) -> CallArgument {
        CallArgument(source: .result(ResultSource(result)))
    }

    /// The result of any task of the cluster, by the task's id; the result's type is checked only when the function is called.
    public static func result(ofTask task: TaskID) -> CallArgument { CallArgument(source: .result(ResultSource(task))) }
}

/// An argument of a Python function's call: a value, or the result of another task, of any type. See ``CallArgument``.
public struct PythonArgument: Sendable {
    enum Source: Sendable {
        case value(any Encodable & Sendable)
        case result(ResultSource)
    }

    let source: Source

    /// A value, sent with the call.
    public static func value(_ value: some Encodable & Sendable) -> PythonArgument { PythonArgument(source: .value(value)) }

    /// The result of a task; the call waits until the task has succeeded.
    public static func result<Value>(of result: AsyncResult<Value>) -> PythonArgument {
        PythonArgument(source: .result(ResultSource(result)))
    }

    /// The result of any task of the cluster, by the task's id.
    public static func result(ofTask task: TaskID) -> PythonArgument { PythonArgument(source: .result(ResultSource(task))) }
}

/// The task that gives an argument.
struct ResultSource: Sendable {
    private let tasks: [TaskID]
    /// The key of the task's cluster; nil where only the task's id is known.
    private let clusterKey: String?

    init<Output>(_ result: AsyncResult<Output>) {
        self.tasks = result.messageIDs
        self.clusterKey = result.client.connection.info.common.key
    }

    init(_ task: TaskID) {
        self.tasks = [task]
        self.clusterKey = nil
    }

    /// Gives the id of the task.
    ///
    /// - Throws: ``ApusError`` with code `badArgument` for a result of several tasks, or of another cluster.
    func task(for client: Client) throws -> TaskID {
        guard let task = self.tasks.first, self.tasks.count == 1 else {
            throw ApusError(
                .badArgument,
                "a result of \(self.tasks.count) tasks cannot be an argument, only that of one; give each as an argument of its own"
            )
        }
        guard self.clusterKey.map({ $0 == client.connection.info.common.key }) ?? true else {
            throw ApusError(.badArgument, "the result of task '\(task)' is of another cluster, and cannot be an argument here")
        }
        return task
    }
}

/// An argument as a request carries it.
enum SentArgument {
    case value(PickleValue)
    case result(TaskID)
}
