import ApusCore
import ApusWire

extension TaskRequest {
    /// Makes the scheduler's view of a request from the request's metadata.
    init(_ id: TaskID, client: Int, _ asked: RequestMetadata.ForScheduler, need: TaskNeed?) {
        let inputs = asked.results.isEmpty ? [] : Set(asked.results.results.values).sorted { $0.text < $1.text }
        self.init(
            id, client: client, after: asked.after, follow: asked.follow, timeout: asked.timeout, retries: asked.retries,
            retryRule: asked.retryRule, targets: asked.targets, priority: asked.priority, depth: asked.depth ?? 0, need: need,
            resources: asked.resources, inputs: inputs, engineTimeout: asked.engineTimeout)
    }
}
