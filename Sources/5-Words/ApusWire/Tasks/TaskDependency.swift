/// The other tasks that a task waits for, and how they must have ended (ipyparallel's `Dependency`; protocol article, "Request
/// metadata").
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

    /// A list of ids, one id, or an object that says how they must end; nil for an empty one.
    package init?(_ json: JSONValue) {
        let list: JSONValue
        switch json {
        case .object(let members): list = members["dependencies"] ?? []
        case .string, .array: list = json
        default: return nil
        }
        let ids = list.string.map { [TaskID($0)] } ?? (list.array ?? []).compactMap { $0.string.map { TaskID($0) } }
        guard !ids.isEmpty else { return nil }
        self.init(
            ids, all: json["all"]?.bool ?? true, success: json["success"]?.bool ?? true, failure: json["failure"]?.bool ?? false)
    }

    package var json: JSONValue {
        [
            "dependencies": .array(self.tasks.map { .string($0.text) }), "all": .bool(self.all), "success": .bool(self.success),
            "failure": .bool(self.failure),
        ]
    }
}
