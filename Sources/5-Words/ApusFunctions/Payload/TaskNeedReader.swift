package import ApusWire
import NIOCore
import Pickle

/// Reads what a request needs of its engine: a build for a closure, a name for a function called by its name, else Python.
package struct TaskNeedReader: Sendable {
    /// The last decision, kept because consecutive tasks usually call the same function: the function as it was sent, and its
    /// need; a nil need if the arguments decide.
    private var lastCall: (function: ByteBuffer, need: TaskNeed?)?

    package init() {}

    /// Reads the request's need from its metadata, or if these name no build, from its buffers.
    ///
    /// - Parameter metadata: The request's metadata.
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
            // For a call of ipyparallel's mapping function, the function that is mapped decides.
            if value.pythonFunctionName == PythonCall.mapFunction.pythonFunctionName { need = nil }
        }
        self.lastCall = (function, need)
        return need ?? Self.needOfMapped(message)
    }

    /// Bytes from which on a function is not read; names and ipyparallel's own functions are shorter.
    private static let readableFunction = 4096

    private static func needOfMapped(_ message: Message) -> TaskNeed {
        // The buffers are the function, the counts and the first argument.
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
