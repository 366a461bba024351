/// Which engines may run a task, by serial number.
enum PlacementRule: Hashable, Sendable {
    case any
    /// All but these, in order. With `asLastResort`, engines where the task failed are allowed only because no other
    /// is left, so the rule must be looked at again when an engine joins.
    case excluding([Int32], asLastResort: Bool)
    /// Only these, in order.
    case only([Int32])
}

/// Ready tasks that the same engines may run.
struct PlacementGroup: Sendable {
    var rule: PlacementRule
    var queue = ReadyQueue()
    /// How many tasks wait in the group. The queue may also hold entries of tasks that no longer wait.
    var live = 0

    init(rule: PlacementRule) { self.rule = rule }
}
