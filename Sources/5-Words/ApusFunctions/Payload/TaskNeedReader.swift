package import ApusWire
import NIOCore
import Pickle

/// Reads what a request asks of its engine: cells are Python, and so are calls but those of a closure, or of a function by its name.
package struct TaskNeedReader: Sendable {
    /// Consecutive tasks usually call the same function, so the last decision is kept: the function as it is sent, and what it needs;
    /// nil if that is up to its arguments.
    private var lastCall: (function: ByteBuffer, need: TaskNeed?)?

    package init() {}

    /// What the request needs, by its metadata, and where that does not say it, by its buffers.
    ///
    /// - Parameter metadata: What is to be heeded of the request's metadata.
    package mutating func need(
        of message: Message, _ type: MessageType, _ metadata: RequestMetadata.ForScheduler
    ) -> TaskNeed {
        let need = metadata.build.map { .build($0) } ?? self.need(of: message, type)
        return metadata.isLimited ? .limit(need) : need
    }

    private mutating func need(of message: Message, _ type: MessageType) -> TaskNeed {
        guard type == .applyRequest, let function = message.buffers.first else { return .python }
        if let last = self.lastCall, last.function == function { return last.need ?? Self.needOfMapped(message) }
        var need: TaskNeed? = .python
        if function.readableBytes < Self.readableFunction, let value = Self.value(in: function) {
            if let name = value.referenceName { need = .name(name) }
            // What ipyparallel's mapping function maps decides.
            if value.pythonFunctionName == PythonCall.mapFunction.pythonFunctionName { need = nil }
        }
        self.lastCall = (function, need)
        return need ?? Self.needOfMapped(message)
    }

    /// Names, and ipyparallel's own functions, are shorter than this, in bytes.
    private static let readableFunction = 4096

    private static func needOfMapped(_ message: Message) -> TaskNeed {
        // Function, counts, first argument.
        guard let mapped = message.buffers.dropFirst(2).first, mapped.readableBytes < Self.readableFunction,
            let name = Self.value(in: mapped)?.referenceName
        else { return .python }
        return .name(name)
    }

    private static func value(in buffer: ByteBuffer) -> PickleValue? {
        var buffers = [buffer][...]
        return try? ObjectBuffers.deserialize(&buffers)
    }
}
