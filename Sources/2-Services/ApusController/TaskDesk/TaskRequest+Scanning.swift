import ApusCore
import ApusWire
import NIOCore

extension TaskRequest {
    /// Reads what scheduling needs out of a request's packed metadata.
    ///
    /// - Throws: ``WireError`` when the metadata is no object; fields of the wrong kind count as left out.
    init(_ id: TaskID, client: Int, scanning metadata: ByteBuffer) throws(WireError) {
        let asked = try RequestMetadata.ForScheduler(scanning: metadata)
        self.init(
            id, client: client, after: asked.after, follow: asked.follow, timeout: asked.timeout, retries: asked.retries,
            retryRule: asked.retryRule, targets: asked.targets, priority: asked.priority, depth: asked.depth ?? 0,
            need: asked.build.map { .build($0) }, resources: asked.resources,
            inputs: Set(asked.results.results.values).sorted { $0.text < $1.text }, engineTimeout: asked.engineTimeout)
        self.isLimited = asked.isLimited
    }
}
