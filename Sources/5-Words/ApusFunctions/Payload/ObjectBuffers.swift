package import NIOCore
package import Pickle

/// Values as the buffers of a message: a pickle, followed by the large blocks of data taken out of it (ipyparallel's
/// `serialize_object`, section 3.5 of the protocol).
///
/// Blocks are taken out of the value itself, or of the elements of a list or tuple and the values of a dictionary with fewer
/// than 64 of them; deeper ones stay inside. A block is sent and received without a copy.
package enum ObjectBuffers {
    /// Containers of this many elements or more are not looked into, by writers and readers alike.
    static let itemLimit = 64
    /// Blocks larger than this travel beside the pickle.
    static let blockThreshold = 1024

    /// The buffers of a value, at least one.
    package static func serialize(_ value: PickleValue) -> [ByteBuffer] {
        switch value {
        case .none, .bool, .int, .float:
            var buffer = ByteBufferAllocator().buffer(capacity: 16)
            PickleWriter().write(value, into: &buffer)
            return [buffer]
        default: break
        }
        var writer = PayloadWriter()
        writer.append(value)
        return writer.finish()
    }

    /// Reads the first value and removes its buffers. The buffers of further values are left.
    ///
    /// Byte strings and arrays that Python wrapped are unwrapped; functions, references and other wrapped objects stay objects
    /// (see ``PickleValue/referenceName`` and its neighbours).
    ///
    /// - Parameter limits: How much the value's pickle may ask for.
    /// - Throws: `PickleError` if a pickle cannot be read or its blocks are missing.
    package static func deserialize(
        _ buffers: inout ArraySlice<ByteBuffer>, limits: PickleReader.Limits = PickleReader.Limits()
    ) throws -> PickleValue {
        guard let pickle = buffers.popFirst() else { throw PickleError(.malformed, "a value's buffer is missing") }
        if let name = PickleMatcher.referenceName(pickle) { return .reference(name) }
        let value = try PickleReader(limits: limits).read(pickle)
        switch value {
        case .none, .bool, .int, .float, .string, .bytes, .global: return value
        case .list(let elements) where elements.count < self.itemLimit:
            return .list(try self.unwrapped(elements, &buffers) ?? elements)
        case .tuple(let elements) where elements.count < self.itemLimit:
            return .tuple(try self.unwrapped(elements, &buffers) ?? elements)
        case .set(let set) where set.count < self.itemLimit:
            return try self.unwrapped(Array(set), &buffers).map { .set(PickleSet($0)) } ?? value
        case .dictionary(let dictionary) where dictionary.count < self.itemLimit:
            return .dictionary(try self.unwrapped(dictionary, &buffers))
        default: return try CannedValue.unwrapped(value, blocks: &buffers)
        }
    }

    /// The elements unwrapped; nil if there is nothing to unwrap, the usual case.
    private static func unwrapped(_ elements: [PickleValue], _ blocks: inout ArraySlice<ByteBuffer>) throws -> [PickleValue]? {
        guard elements.contains(where: \.mayBeCanned) else { return nil }
        return try elements.map { try CannedValue.unwrapped($0, blocks: &blocks) }
    }

    private static func unwrapped(
        _ dictionary: PickleDictionary, _ blocks: inout ArraySlice<ByteBuffer>
    ) throws -> PickleDictionary {
        guard dictionary.values.contains(where: \.mayBeCanned) else { return dictionary }
        var pairs = dictionary.map { ($0.key, $0.value) }
        // Blocks come in the order of the sorted keys. From a dictionary whose keys it cannot sort, Python takes no blocks.
        let order = PythonOrder.sorted(pairs.map(\.0)) ?? Array(pairs.indices)
        for place in order { pairs[place].1 = try CannedValue.unwrapped(pairs[place].1, blocks: &blocks) }
        return PickleDictionary(pairs)
    }
}

extension PickleValue {
    fileprivate var mayBeCanned: Bool {
        switch self {
        case .object, .dictionary: true
        default: false
        }
    }
}

/// Writes values one after the other: pickles into one piece of memory, blocks beside it.
struct PayloadWriter {
    private enum Piece {
        case pickle(Range<Int>)
        case block(ByteBuffer)
    }

    private var storage = ByteBuffer()
    private var pieces: [Piece] = []

    init(capacity: Int = 0, buffers: Int = 1) {
        if capacity > 0 { self.storage = ByteBufferAllocator().buffer(capacity: capacity) }
        self.pieces.reserveCapacity(buffers)
    }

    /// How many buffers there are so far.
    var count: Int { self.pieces.count }

    /// The buffers; those of pickles share one allocation.
    func finish() -> [ByteBuffer] {
        if self.pieces.count == 1 { return [self.storage] }
        return self.pieces.map { piece in
            switch piece {
            case .block(let block): block
            case .pickle(let range): self.storage.getSlice(at: range.lowerBound, length: range.count)!
            }
        }
    }

    /// Appends the pickle of a value, no blocks taken out.
    mutating func appendPlain(_ value: PickleValue) {
        self.insert(at: self.pieces.count) { PickleWriter().write(value, into: &$0) }
    }

    /// Lets the caller write a pickle that goes before buffers written already.
    mutating func insert(at place: Int, _ write: (inout ByteBuffer) -> Void) {
        let start = self.storage.writerIndex
        write(&self.storage)
        self.pieces.insert(.pickle(start..<self.storage.writerIndex), at: place)
    }

    /// Appends the pickle of a value, and behind it the large blocks taken out of the value.
    mutating func append(_ value: PickleValue) {
        var blocks: [ByteBuffer] = []
        switch value {
        case .none, .bool, .int, .float, .string, .global: self.appendPlain(value)
        case .list(let elements) where elements.count < ObjectBuffers.itemLimit:
            self.appendPlain(
                elements.contains(where: \.isCanned) ? .list(elements.map { CannedValue.wrapped($0, &blocks) }) : value)
        case .tuple(let elements) where elements.count < ObjectBuffers.itemLimit:
            self.appendPlain(
                elements.contains(where: \.isCanned) ? .tuple(elements.map { CannedValue.wrapped($0, &blocks) }) : value)
        case .dictionary(let dictionary) where dictionary.count < ObjectBuffers.itemLimit:
            self.appendPlain(Self.wrapped(dictionary, &blocks))
        case .object:
            if let name = value.referenceName, let length = UInt8(exactly: name.utf8.count) {
                self.insert(at: self.pieces.count) { ReferenceTemplate.write(name, length: length, into: &$0) }
            } else {
                self.appendPlain(value)
            }
        default: self.appendPlain(CannedValue.wrapped(value, &blocks))
        }
        for block in blocks { self.pieces.append(.block(block)) }
    }

    private static func wrapped(_ dictionary: PickleDictionary, _ blocks: inout [ByteBuffer]) -> PickleValue {
        guard let order = PythonOrder.sorted(Array(dictionary.keys)) else {
            // A Python reader sorts the keys of a small dict and fails when it cannot. It leaves other dictionaries alone.
            return .object(PickleObject(constructor: .global(module: "collections", name: "OrderedDict"), entries: dictionary))
        }
        guard dictionary.values.contains(where: \.isCanned) else { return .dictionary(dictionary) }
        return .dictionary(
            PickleDictionary(order.map { (dictionary[$0].key, CannedValue.wrapped(dictionary[$0].value, &blocks)) }))
    }
}

extension PickleValue {
    /// Whether `CannedValue` wraps the value.
    fileprivate var isCanned: Bool {
        switch self {
        case .bytes(let bytes): bytes.readableBytes > ObjectBuffers.blockThreshold
        case .array: true
        default: false
        }
    }
}

/// The pickle of a `Reference`, the function of every request from an Apus client to an Apus engine: only the name in it changes.
private enum ReferenceTemplate {
    /// The pickle up to the length of the name, and from after the name.
    private static let parts: (before: ByteBuffer, after: ByteBuffer) = {
        let pickle = PickleWriter().write(.reference("*"))
        let place = pickle.readableBytesView.lastIndex(of: UInt8(ascii: "*"))!
        return (
            pickle.getSlice(at: 0, length: place - 1)!, pickle.getSlice(at: place + 1, length: pickle.readableBytes - place - 1)!
        )
    }()

    static func write(_ name: String, length: UInt8, into buffer: inout ByteBuffer) {
        buffer.writeImmutableBuffer(self.parts.before)
        buffer.writeInteger(length)
        buffer.writeString(name)
        buffer.writeImmutableBuffer(self.parts.after)
    }
}
