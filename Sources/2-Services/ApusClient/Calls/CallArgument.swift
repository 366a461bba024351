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
/// A task that takes a result waits until the other has ended well. The result goes from engine to engine by way of the controller
/// and not through this client, and its type is checked here: what `$fit` takes must be what `$load` gives. If the other task fails,
/// or is aborted, this one ends with ``ApusError`` of code `impossibleDependency`, which names it.
///
/// Only views that leave the choice of the engine to the controller take such arguments, for it is there that a task waits; name the
/// engines that may run it with ``Client/loadBalancedView(_:)``. The result itself may be of any task of the cluster: one that
/// was sent to an engine directly, one of another client, Python's among them, or one that ended long ago, as long as the hub has
/// a record of it. Controllers of ipyparallel do not know such arguments: there the call throws code `notSupported`.
public struct CallArgument<Value: Sendable>: Sendable {
    enum Source: Sendable {
        case value(Value)
        case result(ResultSource)
    }

    let source: Source

    /// A value, sent with the call.
    public static func value(_ value: Value) -> CallArgument { CallArgument(source: .value(value)) }

    /// The result of a task, when it is there.
    public static func result(of result: AsyncResult<Value>) -> CallArgument {
        CallArgument(source: .result(ResultSource(result)))
    }

    /// The result of any task of the cluster, by its id; whether it is of the type that is needed is found when the function is called.
    public static func result(ofTask task: TaskID) -> CallArgument { CallArgument(source: .result(ResultSource(task))) }
}

/// An argument of a Python function's call: a value, or the result of another task, of whatever type. See ``CallArgument``.
public struct PythonArgument: Sendable {
    enum Source: Sendable {
        case value(any Encodable & Sendable)
        case result(ResultSource)
    }

    let source: Source

    /// A value, sent with the call.
    public static func value(_ value: some Encodable & Sendable) -> PythonArgument { PythonArgument(source: .value(value)) }

    /// The result of a task, when it is there.
    public static func result<Value>(of result: AsyncResult<Value>) -> PythonArgument {
        PythonArgument(source: .result(ResultSource(result)))
    }

    /// The result of any task of the cluster, by its id.
    public static func result(ofTask task: TaskID) -> PythonArgument { PythonArgument(source: .result(ResultSource(task))) }
}

/// The task that gives an argument.
struct ResultSource: Sendable {
    private let tasks: [TaskID]
    /// The key of the cluster that the task is of; nil where nobody knows.
    private let clusterKey: String?

    init<Output>(_ result: AsyncResult<Output>) {
        self.tasks = result.messageIDs
        self.clusterKey = result.client.connection.info.common.key
    }

    init(_ task: TaskID) {
        self.tasks = [task]
        self.clusterKey = nil
    }

    /// - Throws: ``ApusError`` with code `badArgument` where it is no one task of this cluster.
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
