package import NIOCore
package import Pickle

/// A call as the buffers of an `apply_request`: the function, how many arguments there are, and each argument (ipyparallel's
/// `pack_apply_message`, section 3.5 of the protocol).
package struct ApplyPayload: Sendable {
    package var function: PickleValue
    package var arguments: [PickleValue]
    /// Arguments by name; sent in the order of the names.
    package var keywords: [(String, PickleValue)]

    package init(function: PickleValue, arguments: [PickleValue] = [], keywords: [(String, PickleValue)] = []) {
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
    }

    /// The buffers; large arrays and byte strings among the arguments are not copied.
    package func encode() -> [ByteBuffer] { self.encode { _, _ in } }

    /// The buffers. Calls `begins` with the number of each positional argument and of the buffer in which it begins.
    package func encode(_ begins: (_ argument: Int, _ buffer: Int) -> Void) -> [ByteBuffer] {
        var writer = PayloadWriter(capacity: 256, buffers: 2 + self.arguments.count + self.keywords.count)
        writer.append(self.function)
        let functionBuffers = writer.count
        for (place, argument) in self.arguments.enumerated() {
            // One more, for the buffer of counts that is inserted before the arguments.
            begins(place, writer.count + 1)
            writer.append(argument)
        }
        let argumentBuffers = writer.count - functionBuffers
        let keywords =
            self.keywords.isEmpty ? [] : self.keywords.sorted { $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }
        for (_, value) in keywords { writer.append(value) }
        // The counts are written last, when the number of buffers is known, and inserted behind the function.
        writer.insert(at: functionBuffers) { buffer in
            let info = CallInfo(argumentCount: self.arguments.count, argumentBuffers: argumentBuffers, names: keywords.map(\.0))
            info.write(into: &buffer)
        }
        return writer.finish()
    }

    /// Reads a call. Large arrays and byte strings share the buffers' memory.
    ///
    /// - Throws: `PickleError` if a buffer is missing, left over, or no pickle.
    package init(decoding buffers: ArraySlice<ByteBuffer>) throws {
        var rest = buffers
        guard rest.count >= 2 else { throw PickleError(.malformed, "a call takes at least two buffers, found \(rest.count)") }
        self.function = try ObjectBuffers.deserialize(&rest)
        guard let infoBuffer = rest.popFirst() else {
            throw PickleError(.malformed, "a call does not say how many arguments it has")
        }
        let info = try CallInfo(reading: infoBuffer)
        guard info.argumentBuffers <= rest.count else {
            throw PickleError(.malformed, "a call's arguments take \(info.argumentBuffers) buffers, found \(rest.count)")
        }
        var positional = rest.prefix(info.argumentBuffers)
        var named = rest.dropFirst(info.argumentBuffers)
        self.arguments = []
        self.arguments.reserveCapacity(min(info.argumentCount, positional.count))
        for place in 0..<info.argumentCount {
            self.arguments.append(try Self.naming("argument \(place + 1)") { try ObjectBuffers.deserialize(&positional) })
        }
        self.keywords = try info.names.map { name in
            (name, try Self.naming("argument '\(name)'") { try ObjectBuffers.deserialize(&named) })
        }
        guard positional.isEmpty, named.isEmpty else {
            throw PickleError(.malformed, "a call has \(positional.count + named.count) buffers more than its arguments take")
        }
    }

    package init(decoding buffers: [ByteBuffer]) throws { try self.init(decoding: buffers[...]) }

    private static func naming<Result>(_ place: @autoclosure () -> String, _ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let error as PickleError {
            throw PickleError(error.code, error.message, place: place(), cause: error)
        }
    }
}

/// The second part of a call, which describes its arguments: `{"nargs": …, "narg_bufs": …, "kw_keys": […]}`.
struct CallInfo {
    let argumentCount: Int
    let argumentBuffers: Int
    let names: [String]

    init(argumentCount: Int, argumentBuffers: Int, names: [String]) {
        self.argumentCount = argumentCount
        self.argumentBuffers = argumentBuffers
        self.names = names
    }

    /// The pickle of no arguments at all; the counts are the bytes 12 and 25.
    private static let template = PickleWriter().write(["nargs": 0, "narg_bufs": 0, "kw_keys": []])

    func write(into buffer: inout ByteBuffer) {
        if self.names.isEmpty, let count = UInt8(exactly: self.argumentCount), let buffers = UInt8(exactly: self.argumentBuffers)
        {
            let start = buffer.writerIndex
            buffer.writeImmutableBuffer(Self.template)
            buffer.setInteger(count, at: start + 12)
            buffer.setInteger(buffers, at: start + 25)
            return
        }
        let info: PickleValue = [
            "nargs": .int(self.argumentCount), "narg_bufs": .int(self.argumentBuffers),
            "kw_keys": .list(self.names.map { .string($0) }),
        ]
        PickleWriter().write(info, into: &buffer)
    }

    init(reading buffer: ByteBuffer) throws {
        if let counts = PickleMatcher.callCounts(buffer), counts.arguments <= counts.buffers {
            self.init(argumentCount: counts.arguments, argumentBuffers: counts.buffers, names: [])
            return
        }
        guard case .dictionary(let info) = try PickleReader().read(buffer), case .int(let count)? = info["nargs"],
            case .int(let buffers)? = info["narg_bufs"], case .list(let keys)? = info["kw_keys"], count >= 0, buffers >= 0,
            // Each argument takes a buffer or more.
            count <= buffers
        else { throw PickleError(.malformed, "a call does not say how many arguments it has") }
        let names = try keys.map { key in
            guard case .string(let name) = key else { throw PickleError(.malformed, "an argument's name is no text") }
            return name
        }
        self.init(argumentCount: count, argumentBuffers: buffers, names: names)
    }
}
