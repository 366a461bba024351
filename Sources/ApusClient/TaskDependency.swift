public import ApusWire

/// What other tasks a task waits for, and how they must have ended.
///
/// As `after` it says when a task may run; as `follow` it says where: on an engine that ran them.
public struct TaskDependency: Sendable, Hashable {
    /// The tasks that are waited for, or followed.
    public var tasks: [TaskID]
    /// Whether all of them are needed, or any one.
    public var all: Bool
    /// Whether a task that ended well meets the dependency.
    public var success: Bool
    /// Whether a task that failed meets it.
    public var failure: Bool

    /// A dependency on tasks of any client, by their ids.
    public init(_ tasks: [TaskID], all: Bool = true, success: Bool = true, failure: Bool = false) {
        self.tasks = tasks
        self.all = all
        self.success = success
        self.failure = failure
    }

    /// The tasks of a result.
    public init<Output>(_ result: AsyncResult<Output>, all: Bool = true, success: Bool = true, failure: Bool = false) {
        self.init(result.messageIDs, all: all, success: success, failure: failure)
    }

    var json: JSONValue {
        [
            "dependencies": .array(self.tasks.map { .string($0.text) }), "all": .bool(self.all), "success": .bool(self.success),
            "failure": .bool(self.failure),
        ]
    }
}
