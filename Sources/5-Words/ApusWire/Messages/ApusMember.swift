package import NIOCore

/// The members that Apus adds to the metadata and content of ipyparallel's messages, by name (protocol article, "Request metadata" and
/// "Reply metadata"). Programs of ipyparallel pass over them.
package enum ApusMember {
    /// Request: the client needs no busy and idle status, and the reply says how much output there is.
    @inlinable package static var quiet: StaticString { "apus_quiet" }
    /// Reply to a quiet request: how many output messages belong to it.
    @inlinable package static var outputs: StaticString { "apus_outputs" }
    /// Reply to a quiet request: microseconds spent on it.
    @inlinable package static var work: StaticString { "apus_work" }
    /// Request: the arguments are sequences, one call for each place. Error reply: the outcome of each call.
    @inlinable package static var map: StaticString { "apus_map" }
    /// Request: each call of a map has an outcome of its own.
    @inlinable package static var outcomes: StaticString { "apus_outcomes" }
    /// Request: microseconds after which a map begins no further call.
    @inlinable package static var slice: StaticString { "apus_slice" }
    /// Reply: how many calls of a map were made, where not all were.
    @inlinable package static var calls: StaticString { "apus_calls" }
    /// Request: how many arguments, from the first on, are captured values of a closure.
    @inlinable package static var captures: StaticString { "apus_captures" }
    /// Request: the build that the function must be of.
    @inlinable package static var build: StaticString { "apus_build" }
    /// Request: seconds that the task may run. The reply repeats the number.
    @inlinable package static var limit: StaticString { "apus_limit" }
    /// Request: how deep the task is nested in tasks that submitted each other.
    @inlinable package static var depth: StaticString { "apus_depth" }
    /// Request: the number of this attempt at the task, from 1.
    @inlinable package static var attempt: StaticString { "apus_attempt" }
    /// Request: the task's priority; tasks of a higher one go first.
    @inlinable package static var priority: StaticString { "apus_priority" }
    /// Request: the resources of an engine that the task needs.
    @inlinable package static var resources: StaticString { "apus_resources" }
    /// Request: which errors are worth a retry, and the pause before it.
    @inlinable package static var retry: StaticString { "apus_retry" }
    /// Request: seconds that the task waits while no engine is registered.
    @inlinable package static var engineTimeout: StaticString { "apus_engine_timeout" }
    /// Request: seconds that the client may be gone before the task is aborted, if no engine has it.
    @inlinable package static var abandonedAfter: StaticString { "apus_abandoned_after" }
    /// Request: which buffers are results of other tasks.
    @inlinable package static var results: StaticString { "apus_results" }
    /// Request: buffers that did not come with the message, but lie in shared memory.
    @inlinable package static var shared: StaticString { "apus_shared" }
    /// Broadcast: the client wants the replies to the copies only, and none to the broadcast itself.
    @inlinable package static var copies: StaticString { "apus_copies" }
    /// Abort: also interrupt the task that runs.
    @inlinable package static var running: StaticString { "apus_running" }
    /// Abort without ids: every queued request.
    @inlinable package static var all: StaticString { "apus_all" }
    /// Queue query: the tasks whose reasons for waiting are wanted.
    @inlinable package static var tasks: StaticString { "apus_tasks" }
    /// Queue status: why tasks wait.
    @inlinable package static var waiting: StaticString { "apus_waiting" }
    /// Error: a Codable error itself.
    @inlinable package static var error: StaticString { "apus_error" }
    /// Error: the texts of a localized error.
    @inlinable package static var texts: StaticString { "apus_texts" }
    /// Reply to an interrupt: whether anything was interrupted.
    @inlinable package static var interrupted: StaticString { "apus_interrupted" }
}

extension JSONValue {
    /// The member of that name; nil for a value that is no object, and where the object has none.
    package subscript(_ member: StaticString) -> JSONValue? { self[member.description] }
}

extension [String: JSONValue] {
    package subscript(_ member: StaticString) -> JSONValue? {
        get { self[member.description] }
        set { self[member.description] = newValue }
    }
}

extension ByteBuffer {
    /// Writes the name of a member into an object that has others before it; its value follows.
    package mutating func writeMember(_ name: StaticString) { self.writeName(name, after: ", \"") }

    /// Begins an object with a member of that name; its value follows.
    package mutating func writeFirstMember(_ name: StaticString) { self.writeName(name, after: "{\"") }

    private mutating func writeName(_ name: StaticString, after opening: StaticString) {
        let closing: StaticString = "\": "
        let count = opening.utf8CodeUnitCount + name.utf8CodeUnitCount + closing.utf8CodeUnitCount
        // At once: each write by itself would look whether there is room.
        self.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
            var end = 0
            func append(_ text: StaticString) {
                let text = UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
                UnsafeMutableRawBufferPointer(rebasing: bytes[end...]).copyMemory(from: text)
                end += text.count
            }
            append(opening)
            append(name)
            append(closing)
            return end
        }
    }

    /// Writes a member that is true into an object that has others before it.
    package mutating func writeFlag(_ name: StaticString) {
        self.writeMember(name)
        self.writeStaticString("true")
    }
}
