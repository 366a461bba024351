import NIOCore
import Pickle

/// Values in the wrappers of `ipyparallel.serialize.canning`, which keep large blocks out of a pickle.
enum CannedValue {
    static let module = "ipyparallel.serialize.canning"

    private static func object(_ name: String, _ attributes: PickleDictionary) -> PickleValue {
        .object(PickleObject(instanceOf: PickleGlobal(module: self.module, name: name), attributes: attributes))
    }

    // MARK: - Wrapping

    /// The value as Python wraps it; a block taken out of the value is appended to `blocks`.
    static func wrapped(_ value: PickleValue, _ blocks: inout [ByteBuffer]) -> PickleValue {
        switch value {
        case .bytes(let bytes) where bytes.readableBytes > ObjectBuffers.blockThreshold:
            blocks.append(bytes)
            return self.object("CannedBytes", ["buffers": [.none]])
        case .array(let array): return self.wrapped(array, &blocks)
        default: return value
        }
    }

    private static func wrapped(_ array: NDArray, _ blocks: inout [ByteBuffer]) -> PickleValue {
        // Python makes the array with `frombuffer`, which takes neither an empty buffer nor a shape of no axes.
        let isPickled = array.count == 0 || array.shape.isEmpty
        let block = isPickled ? PickleWriter().write(.array(array)) : array.data
        var inside = PickleValue.bytes(block)
        if block.readableBytes > ObjectBuffers.blockThreshold {
            blocks.append(block)
            inside = .none
        }
        return self.object(
            "CannedArray",
            [
                "shape": .tuple(array.shape.map { .int($0) }), "dtype": array.scalarType.constructorArgument,
                "pickled": .bool(isPickled), "buffers": [inside],
            ])
    }

    // MARK: - Unwrapping

    /// The value without its wrapper, if it has one that stands for plain data; other wrapped objects get their blocks back.
    static func unwrapped(_ value: PickleValue, blocks: inout ArraySlice<ByteBuffer>) throws -> PickleValue {
        switch value {
        case .object(let object) where object.global?.module == self.module: return try self.unwrapped(object, &blocks)
        case .dictionary(let dictionary): return .dictionary(try self.unwrapped(valuesOf: dictionary))
        default: return value
        }
    }

    /// Unwraps the values of a nested dictionary, as Python does, though no blocks were taken out of them.
    private static func unwrapped(valuesOf dictionary: PickleDictionary) throws -> PickleDictionary {
        guard dictionary.values.contains(where: { if case .object = $0 { true } else { false } }) else { return dictionary }
        var none: ArraySlice<ByteBuffer> = []
        return PickleDictionary(try dictionary.map { ($0.key, try self.unwrapped($0.value, blocks: &none)) })
    }

    private static func unwrapped(_ object: PickleObject, _ blocks: inout ArraySlice<ByteBuffer>) throws -> PickleValue {
        guard var attributes = object.attributes, let name = object.global?.name else { return .object(object) }
        var buffers: [PickleValue] = []
        if case .list(let listed)? = attributes["buffers"] { buffers = listed }
        let isMissingSome = buffers.contains { if case .none = $0 { true } else { false } }
        for place in buffers.indices {
            guard case .none = buffers[place] else { continue }
            guard let block = blocks.popFirst() else {
                throw PickleError(.malformed, "the data of a \(name) did not come with it")
            }
            buffers[place] = .bytes(block)
        }
        switch name {
        case "CannedBytes", "CannedMemoryView", "CannedBuffer":
            guard let data = buffers.first else { throw PickleError(.malformed, "a \(name) holds no data") }
            return .bytes(try self.bytes(data, of: name))
        case "CannedArray": return try self.array(attributes, buffers)
        default:
            guard isMissingSome else { return .object(object) }
            attributes["buffers"] = .list(buffers)
            var restored = object
            restored.state = .dictionary(attributes)
            return .object(restored)
        }
    }

    private static func bytes(_ value: PickleValue, of name: String) throws -> ByteBuffer {
        switch value {
        case .bytes(let bytes), .byteArray(let bytes): return bytes
        default: throw PickleError(.malformed, "the data of a \(name) are no bytes")
        }
    }

    private static func array(_ attributes: PickleDictionary, _ buffers: [PickleValue]) throws -> PickleValue {
        guard let first = buffers.first else { throw PickleError(.malformed, "a CannedArray holds no data") }
        let data = try self.bytes(first, of: "CannedArray")
        if attributes["pickled"] == true { return try PickleReader().read(data) }
        guard case .tuple(let lengths)? = attributes["shape"], let type = attributes["dtype"] else {
            throw PickleError(.malformed, "a CannedArray has no shape or type")
        }
        let shape = lengths.compactMap { if case .int(let length) = $0 { length } else { nil } }
        guard shape.count == lengths.count else { throw PickleError(.malformed, "a CannedArray has no sensible shape") }
        return .array(try NDArray(data: data, shape: shape, scalarType: NDArrayScalarType(constructorArgument: type)))
    }
}
