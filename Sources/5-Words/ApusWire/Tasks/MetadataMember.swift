/// The names of the metadata members of requests and replies that ipyparallel also has. ``ApusMember`` has the members of Apus.
package enum MetadataMember {
    // MARK: Requests to the task scheduler

    /// Tasks that must have ended before the request's task runs.
    @inlinable package static var after: StaticString { "after" }
    /// Tasks on whose engine the request's task runs.
    @inlinable package static var follow: StaticString { "follow" }
    /// Seconds that the task may wait until it has an engine.
    @inlinable package static var timeout: StaticString { "timeout" }
    /// Uuids of the engines that may run the task; in a broadcast, the uuids and ids of its engines.
    @inlinable package static var targets: StaticString { "targets" }
    /// How often the task is tried again.
    @inlinable package static var retries: StaticString { "retries" }

    // MARK: All requests, and their replies

    /// The client's name for the work.
    @inlinable package static var label: StaticString { "label" }
    /// Whether the request is a broadcast.
    @inlinable package static var isBroadcast: StaticString { "is_broadcast" }
    /// Whether the replies to a broadcast are joined into one.
    @inlinable package static var isCoalescing: StaticString { "is_coalescing" }
    /// The id of the broadcast of which a copy was made.
    @inlinable package static var originalMessageID: StaticString { "original_msg_id" }

    // MARK: Replies

    /// How the request ended (``ReplyMetadata/Status``).
    @inlinable package static var status: StaticString { "status" }
    /// When the engine began the request.
    @inlinable package static var started: StaticString { "started" }
    /// When the controller answered in the engine's place.
    @inlinable package static var date: StaticString { "date" }
    /// The uuid of the engine that answers.
    @inlinable package static var engine: StaticString { "engine" }
    /// Whether the engine could run the task at all.
    @inlinable package static var dependenciesMet: StaticString { "dependencies_met" }
    /// The engines whose replies were joined into one, in the order of the results.
    @inlinable package static var broadcastTargets: StaticString { "broadcast_targets" }
    /// The engine that answers with an error; also a member of an error's content.
    @inlinable package static var engineInfo: StaticString { "engine_info" }
    /// The engine's uuid, in the engine info.
    @inlinable package static var engineUUID: StaticString { "engine_uuid" }
    /// The engine's id, in the engine info.
    @inlinable package static var engineID: StaticString { "engine_id" }
}
