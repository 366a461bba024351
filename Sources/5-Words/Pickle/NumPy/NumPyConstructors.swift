import NIOCore

/// How NumPy's arrays, array types and numbers are pickled, by all its versions.
enum NumPyConstructors {
    /// `numpy.ndarray(shape, dtype, buffer)`: the public constructor, which our writer uses because every version has it.
    static func array(_ name: String, _ object: PickleObject) throws -> PickleValue? {
        guard name == "ndarray", object.construction == .call, object.state == nil, object.arguments.count == 3,
            let shape = self.shape(object.arguments[0]), let data = object.arguments[2].rawBytes,
            let type = try? NDArrayScalarType(constructorArgument: object.arguments[1])
        else { return nil }
        return .array(try NDArray(data: data, shape: shape, scalarType: type))
    }

    static func internalValue(_ name: String, _ object: PickleObject) throws -> PickleValue? {
        switch name {
        case "_reconstruct": return try self.reconstructed(object)
        case "_frombuffer": return try self.fromBuffer(object)
        case "scalar": return try self.scalar(object)
        default: return nil
        }
    }

    /// `_reconstruct(ndarray, (0,), b'b')` with state `(version, shape, dtype, is_fortran, data)`.
    private static func reconstructed(_ object: PickleObject) throws -> PickleValue? {
        guard object.arguments.first == .global(module: "numpy", name: "ndarray"), case .tuple(let state)? = object.state,
            state.count == 5,
            let shape = self.shape(state[1]), let type = try self.type(state[2]), let data = state[4].rawBytes
        else { return nil }
        return .array(try self.array(data: data, shape: shape, type: type, isFortranOrder: state[3] == .bool(true)))
    }

    /// `_frombuffer(data, dtype, shape, order)`, of protocol 5.
    private static func fromBuffer(_ object: PickleObject) throws -> PickleValue? {
        guard object.arguments.count >= 4, let data = object.arguments[0].rawBytes, let type = try self.type(object.arguments[1]),
            let shape = self.shape(object.arguments[2])
        else { return nil }
        return .array(try self.array(data: data, shape: shape, type: type, isFortranOrder: object.arguments[3] == "F"))
    }

    /// `scalar(dtype, data)`: one number. Those that Swift has no type for stay objects.
    private static func scalar(_ object: PickleObject) throws -> PickleValue? {
        guard object.arguments.count == 2, let type = try self.type(object.arguments[0]), let data = object.arguments[1].rawBytes
        else {
            return nil
        }
        return try? NDArray(data: data, shape: [], scalarType: type).scalarValue()
    }

    private static func shape(_ value: PickleValue) -> [Int]? {
        guard case .tuple(let lengths) = value else { return nil }
        let shape = lengths.compactMap { if case .int(let length) = $0 { length } else { nil } }
        return shape.count == lengths.count ? shape : nil
    }

    /// The array type of a pickled `dtype`: `dtype('f8', False, True)` with state
    /// `(version, byte order, subdtype, names, fields, size, alignment, flags, [metadata])`. Nil for types of objects.
    private static func type(_ value: PickleValue) throws -> NDArrayScalarType? {
        guard let descriptor = self.descriptor(value, depth: 0) else { return nil }
        return try? NDArrayScalarType(constructorArgument: descriptor)
    }

    /// A type's text, or list of fields.
    private static func descriptor(_ value: PickleValue, depth: Int) -> PickleValue? {
        guard case .object(let object) = value, object.isInstance(of: "numpy", "dtype"), depth < 8,
            case .string(let code)? = object.arguments.first
        else { return nil }
        guard case .tuple(let state)? = object.state, state.count >= 8, case .string(let order) = state[1] else {
            return .string(code)
        }
        if case .dictionary(let fields) = state[4] { return self.fieldList(state, fields, depth: depth) }
        var text = order + code
        // Dates state their unit in the metadata: (…, (b'ns', 1, 1, 1)).
        if state.count > 8, case .tuple(let metadata) = state[8], case .tuple(let unit)? = metadata.last, unit.count >= 2,
            let name = unit[0].rawBytes, case .int(let multiple) = unit[1]
        {
            text += "[\(multiple == 1 ? "" : String(multiple))\(String(buffer: name))]"
        }
        return .string(text)
    }

    /// NumPy's `descr`: (name, type) or (name, type, shape), with unnamed fields for gaps.
    private static func fieldList(_ state: [PickleValue], _ fields: PickleDictionary, depth: Int) -> PickleValue? {
        guard case .tuple(let names) = state[3], case .int(let size) = state[5] else { return nil }
        var list: [PickleValue] = []
        var end = 0
        func fillGap(to offset: Int) {
            if offset > end { list.append(.tuple(["", .string("|V\(offset - end)")])) }
            end = offset
        }
        for name in names {
            guard case .tuple(let field)? = fields[name], field.count >= 2, case .int(let offset) = field[1], offset >= end,
                offset <= size, case .object(let inner) = field[0]
            else { return nil }
            fillGap(to: offset)
            var entry: [PickleValue] = [name]
            var scalar = field[0]
            var shape: PickleValue?
            // A field that is itself an array: its type's state holds (element type, shape).
            if case .tuple(let innerState)? = inner.state, innerState.count > 2, case .tuple(let sub) = innerState[2],
                sub.count == 2
            {
                scalar = sub[0]
                shape = sub[1]
            }
            guard let descriptor = self.descriptor(scalar, depth: depth + 1) else { return nil }
            entry.append(descriptor)
            if let shape { entry.append(shape) }
            list.append(.tuple(entry))
            guard let added = try? NDArrayScalarType(fields: .list([.tuple(entry)])) else { return nil }
            end += added.size
        }
        guard end <= size else { return nil }
        fillGap(to: size)
        return .list(list)
    }

    private static func array(data: ByteBuffer, shape: [Int], type: NDArrayScalarType, isFortranOrder: Bool) throws -> NDArray {
        let array = try NDArray(data: data, shape: isFortranOrder ? shape.reversed() : shape, scalarType: type)
        return isFortranOrder ? array.transposed() : array
    }
}

extension NDArray {
    /// The array with its axes in the opposite order, copied.
    public func transposed() -> NDArray {
        guard self.shape.count > 1, self.count > 0 else {
            return NDArray(unchecked: self.data, shape: self.shape.reversed(), scalarType: self.scalarType)
        }
        let size = self.scalarType.size
        // Walks the result in its order; an index of the result is an index of this array read backwards.
        let shape = Array(self.shape.reversed())
        var steps: [Int] = []
        var step = size
        for length in self.shape.reversed() {
            steps.append(step)
            step *= length
        }
        var transposed = ByteBufferAllocator().buffer(capacity: self.data.readableBytes)
        self.data.withUnsafeReadableBytes { bytes in
            var indices = Array(repeating: 0, count: shape.count)
            var offset = 0
            for _ in 0..<self.count {
                transposed.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + size]))
                var axis = shape.count - 1
                while axis >= 0 {
                    indices[axis] += 1
                    offset += steps[axis]
                    if indices[axis] < shape[axis] { break }
                    offset -= steps[axis] * shape[axis]
                    indices[axis] = 0
                    axis -= 1
                }
            }
        }
        return NDArray(unchecked: transposed, shape: shape, scalarType: self.scalarType)
    }
}

extension PickleValue {
    fileprivate var rawBytes: ByteBuffer? {
        switch self {
        case .bytes(let bytes), .byteArray(let bytes): bytes
        default: nil
        }
    }
}
