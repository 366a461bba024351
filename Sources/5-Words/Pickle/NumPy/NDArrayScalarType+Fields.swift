extension NDArrayScalarType {
    /// As NumPy's `dtype(…)` takes it: text, a list of fields, or, where there are gaps between fields, a dictionary of
    /// names, formats, offsets and size (NumPy reads an unnamed field of a list as one to be named, not as a gap).
    package var constructorArgument: PickleValue {
        self.fields.map(Self.constructorArgument) ?? .string(self.description)
    }

    private static func constructorArgument(_ type: PickleValue) -> PickleValue {
        guard case .list(let fields) = type else { return type }
        var (names, formats, offsets): ([PickleValue], [PickleValue], [PickleValue]) = ([], [], [])
        var offset = 0
        var hasGaps = false
        for case .tuple(var parts) in fields {
            let size = (try? Self(fields: .list([.tuple(parts)])).size) ?? 0
            if parts[0] == "" {
                hasGaps = true
            } else {
                parts[1] = self.constructorArgument(parts[1])
                names.append(parts[0])
                formats.append(parts.count == 3 ? .tuple([parts[1], parts[2]]) : parts[1])
                offsets.append(.int(offset))
            }
            offset += size
        }
        guard hasGaps else {
            return .list(
                zip(names, formats).map { name, format in
                    // A format with a shape is a pair here and two further parts in a list of fields.
                    if case .tuple(let parts) = format { .tuple([name] + parts) } else { .tuple([name, format]) }
                })
        }
        return ["names": .list(names), "formats": .list(formats), "offsets": .list(offsets), "itemsize": .int(offset)]
    }

    /// The type that ``constructorArgument`` stands for.
    package init(constructorArgument argument: PickleValue) throws {
        switch argument {
        case .string(let text): try self.init(text)
        default: try self.init(fields: try Self.fieldList(argument, depth: 0))
        }
    }

    private static func fieldList(_ argument: PickleValue, depth: Int) throws -> PickleValue {
        guard depth < 16 else { throw PickleError.mismatch(expected: "an array type", found: argument) }
        switch argument {
        case .list(let fields):
            return .list(
                try fields.map { field in
                    guard case .tuple(var parts) = field, parts.count >= 2 else {
                        throw PickleError.mismatch(expected: "a field of an array type", found: field)
                    }
                    parts[1] = try self.fieldList(parts[1], depth: depth + 1)
                    return .tuple(parts)
                })
        case .dictionary(let dictionary):
            guard case .list(let names)? = dictionary["names"], case .list(let formats)? = dictionary["formats"],
                case .list(let offsets)? = dictionary["offsets"], case .int(let size)? = dictionary["itemsize"],
                names.count == formats.count, names.count == offsets.count, size <= 1 << 30
            else { throw PickleError.mismatch(expected: "an array type", found: argument) }
            var list: [PickleValue] = []
            var end = 0
            for (name, (format, offset)) in zip(names, zip(formats, offsets)) {
                guard case .int(let offset) = offset, offset >= end, offset <= size else {
                    throw PickleError.mismatch(expected: "fields in order", found: argument)
                }
                if offset > end { list.append(.tuple(["", .string("|V\(offset - end)")])) }
                var parts = if case .tuple(let parts) = format { [name] + parts } else { [name, format] }
                guard parts.count >= 2 else { throw PickleError.mismatch(expected: "an array type", found: format) }
                parts[1] = try self.fieldList(parts[1], depth: depth + 1)
                list.append(.tuple(parts))
                end = offset + (try Self(fields: .list([.tuple(parts)])).size)
            }
            guard end <= size else { throw PickleError.mismatch(expected: "an array type", found: argument) }
            if end < size { list.append(.tuple(["", .string("|V\(size - end)")])) }
            return .list(list)
        default: return argument
        }
    }
}
