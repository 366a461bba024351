import ApusWire

// Short descriptions for print and a debugger.

extension Client: CustomStringConvertible {
    /// "client of 4 engines (0, 1, 2, 3)".
    public var description: String {
        if let ended = self.connection.ended { return "client that cannot be used any more: \(ended.message)" }
        let ids = self.ids
        let shown = ids.prefix(10).map { "\($0)" }.joined(separator: ", ") + (ids.count > 10 ? ", …" : "")
        let busy = self.outstanding.count
        return "client of \(ids.count) engine\(ids.count == 1 ? "" : "s")\(ids.isEmpty ? "" : " (\(shown))")"
            + (busy == 0 ? "" : ", \(busy) tasks outstanding")
    }
}

extension EngineView: CustomStringConvertible {
    public var description: String { "view of engine \(self.id)" }
}

extension DirectView: CustomStringConvertible {
    public var description: String {
        switch self.targets {
        case .all: "direct view of all engines"
        case .engines: "direct view of engines \(self.targets)"
        }
    }
}

extension BroadcastView: CustomStringConvertible {
    public var description: String {
        "broadcast view of \(self.targets == .all ? "all engines" : "engines \(self.targets)")\(self.isCoalescing ? ", coalescing" : "")"
    }
}

extension LoadBalancedView: CustomStringConvertible {
    /// The engines, and the flags that are set: "load-balanced view, retries 3, label fit".
    public var description: String {
        var parts = ["load-balanced view" + (self.targets.map { " of engines \($0)" } ?? "")]
        if let after { parts.append("after \(after.tasks.count) tasks") }
        if let follow { parts.append("following \(follow.tasks.count) tasks") }
        if let timeout { parts.append("timeout \(timeout)") }
        if let engineTimeout { parts.append("engine timeout \(engineTimeout)") }
        if let abandonedAfter { parts.append("abandoned after \(abandonedAfter)") }
        if self.retries != 0 { parts.append("retries \(self.retries)") }
        if self.priority != 0 { parts.append("priority \(self.priority)") }
        if let runLimit { parts.append("limit \(runLimit)") }
        if let label { parts.append("label \(label)") }
        return parts.joined(separator: ", ")
    }
}

extension AsyncResult: CustomStringConvertible {
    /// How many tasks have ended, and how many failed when all have; for a map, how many calls.
    public var description: String {
        let (done, count) = (self.progress, self.count)
        let counted = "\(self.unit)\(count == 1 ? "" : "s")"
        guard done == count else { return "result: \(done) of \(count) \(counted) ended" }
        let failed = self.failureCount
        return "result: \(count) \(counted) ended, " + (failed == 0 ? "well" : "\(failed) with an error")
    }
}

extension AsyncMapResult: CustomStringConvertible {
    public var description: String { "map " + self.whole.description }
}

extension TaskMetadata: CustomStringConvertible {
    /// "ab12_3f ok on engine 2 in 0.013 s".
    public var description: String {
        var text = "\(self.id) \(self.status.map { "\($0)" } ?? "outstanding")"
        if let engineID { text += " on engine \(engineID)" }
        if let started, let completed { text += " in \(completed.seconds(since: started)) s" }
        if let label { text += ", label \(label)" }
        return text
    }
}

extension QueueStatus: CustomStringConvertible {
    /// A line for each engine, and why tasks wait.
    public var description: String {
        var lines = self.engines.sorted { $0.key < $1.key }.map { id, engine in
            "engine \(id): \(engine.queue + engine.tasks) to do (\(engine.queue) direct), \(engine.completed) completed"
        }
        lines.append("unassigned: \(self.unassigned)")
        lines += self.waiting.sorted { $0.key < $1.key }.map { "  \($0): \($1)" }
        return lines.joined(separator: "\n")
    }
}
