/// The members of the metadata of requests and replies that ipyparallel knows as well, by name. ``ApusMember`` has those of Apus.
package enum MetadataMember {
    // MARK: Requests to the task scheduler

    /// Tasks that must have ended before this one runs.
    @inlinable package static var after: StaticString { "after" }
    /// Tasks on whose engine this one runs.
    @inlinable package static var follow: StaticString { "follow" }
    /// Seconds that the task may wait for its dependencies.
    @inlinable package static var timeout: StaticString { "timeout" }
    /// Uuids of the engines that may run the task; of a broadcast those that it is for, each with its id.
    @inlinable package static var targets: StaticString { "targets" }
    /// How often the task is tried again.
    @inlinable package static var retries: StaticString { "retries" }

    // MARK: All requests, and the replies that say it again

    /// The client's name for the work.
    @inlinable package static var label: StaticString { "label" }
    /// Whether the request is a broadcast.
    @inlinable package static var isBroadcast: StaticString { "is_broadcast" }
    /// Whether the replies to a broadcast become one.
    @inlinable package static var isCoalescing: StaticString { "is_coalescing" }
    /// The id of the broadcast that a copy was made of.
    @inlinable package static var originalMessageID: StaticString { "original_msg_id" }

    // MARK: Replies

    /// How the request ended (``ReplyMetadata/Status``).
    @inlinable package static var status: StaticString { "status" }
    /// When the engine began.
    @inlinable package static var started: StaticString { "started" }
    /// When the controller answered in the engine's place.
    @inlinable package static var date: StaticString { "date" }
    /// The uuid of the engine that answers.
    @inlinable package static var engine: StaticString { "engine" }
    /// Whether the engine could run the task at all.
    @inlinable package static var dependenciesMet: StaticString { "dependencies_met" }
    /// The engines whose replies became one, in the order of the results.
    @inlinable package static var broadcastTargets: StaticString { "broadcast_targets" }
    /// Error: the engine that answers, which an error content has as well.
    @inlinable package static var engineInfo: StaticString { "engine_info" }
    /// In the engine info: its uuid.
    @inlinable package static var engineUUID: StaticString { "engine_uuid" }
    /// In the engine info: its id.
    @inlinable package static var engineID: StaticString { "engine_id" }
}
