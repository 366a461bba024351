/// Which engines may run a task, by serial number.
enum PlacementRule: Hashable, Sendable {
    case any
    /// All but these, in order. `asLastResort` says that engines the task failed on are allowed only because no other
    /// is left, so that the rule must be looked at again when an engine joins.
    case excluding([Int32], asLastResort: Bool)
    /// These alone, in order.
    case only([Int32])
}

/// Ready tasks that the same engines may run.
struct PlacementGroup: Sendable {
    var rule: PlacementRule
    var queue = ReadyQueue()
    /// How many tasks wait in it. The queue may hold more entries, of tasks that wait no more.
    var live = 0

    init(rule: PlacementRule) { self.rule = rule }
}
