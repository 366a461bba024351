import NIOCore

extension PickleMachine {
    /// A finished part, with its depth and size.
    private struct Assembled {
        let value: PickleValue
        /// How many containers lie in each other, this one included.
        let depth: Int
        /// Bytes and values in it, shared parts counted each time.
        let size: Int
    }

    /// Puts the parts of a value together, innermost first.
    ///
    /// - Throws: ``PickleError`` if a part contains itself, or the value is deeper or larger than the limits allow.
    func assemble(_ root: Entry) throws -> PickleValue {
        guard let rootNumber = root.partNumber else { return root.value }
        // One container of plain values is the commonest, and no larger than the pickle.
        if self.parts[rootNumber].links.isEmpty, !self.hasRecalled {
            return try Self.value(self.parts[rootNumber], of: self.parts[rootNumber].values)
        }
        let largestSize = max(
            self.limits.leastAllowedSize,
            self.buffer.readableBytes.multipliedReportingOverflow(by: self.limits.amplification).partialValue)
        var done: [Assembled?] = Array(repeating: nil, count: self.parts.count)
        /// Unfinished parts, outermost first, each with the number of its links that were followed.
        var open: [(part: Int, links: Int)] = [(rootNumber, 0)]
        var isOpen = Array(repeating: false, count: self.parts.count)
        isOpen[rootNumber] = true
        /// The total size of the constructors' arguments so far; constructors may copy their arguments, unlike containers.
        var constructed = 0

        // An explicit stack, because a pickle can nest deeper than a thread's stack reaches.
        while let (number, linksDone) = open.last {
            let part = self.parts[number]
            if linksDone < part.links.count {
                open[open.count - 1].links += 1
                let next = part.links[linksDone].part
                guard done[next] == nil else { continue }
                guard !isOpen[next] else {
                    throw PickleError(.recursive, "an object in the pickle contains itself, so it has no finite value")
                }
                isOpen[next] = true
                open.append((next, 0))
                guard open.count <= self.limits.depth else { throw self.tooDeep }
                continue
            }
            open.removeLast()
            isOpen[number] = false
            let assembled = try Self.assemble(part, from: done)
            guard assembled.depth <= self.limits.depth else { throw self.tooDeep }
            if part.kind == .call || part.kind == .new { constructed += assembled.size }
            guard max(assembled.size, constructed) <= largestSize else {
                throw PickleError(
                    .limitExceeded, "a pickle of \(self.buffer.readableBytes) bytes would unfold to more than \(largestSize)")
            }
            done[number] = assembled
        }
        return done[rootNumber]!.value
    }

    private var tooDeep: PickleError {
        PickleError(.limitExceeded, "the pickle's values lie more than \(self.limits.depth) deep in each other")
    }

    private static func assemble(_ part: Part, from done: [Assembled?]) throws -> Assembled {
        var values = part.values
        // A tuple of plain values is the one plain value that contains others, so anything may be two deep without links.
        var depth = 1
        var size = 1
        for value in values { size += value.plainSize }
        for link in part.links {
            let inner = done[link.part]!
            values[link.place] = inner.value
            depth = max(depth, inner.depth)
            (size, _) = size.addingReportingOverflow(inner.size)
            guard size >= 0 else { throw PickleError(.limitExceeded, "the pickle would unfold beyond all memory") }
        }
        return Assembled(value: try Self.value(part, of: values), depth: depth + 1, size: size)
    }

    private static func value(_ part: Part, of values: [PickleValue]) throws -> PickleValue {
        switch part.kind {
        case .list: return .list(values)
        case .tuple: return .tuple(values)
        case .dictionary: return .dictionary(PickleDictionary(flat: values))
        case .set: return .set(PickleSet(distinct: values))
        case .frozenSet: return .frozenSet(PickleSet(distinct: values))
        case .call, .new: break
        }
        func field(_ field: ObjectField) -> PickleValue { values[field.rawValue] }
        guard case .tuple(let arguments) = field(.arguments) else { throw Self.malformed("an object's arguments are no tuple") }
        var object = PickleObject(
            constructor: field(.constructor), construction: part.kind == .call ? .call : .new, arguments: arguments)
        if case .dictionary(let keywords) = field(.keywords) { object.keywords = keywords }
        if part.isBuilt { object.state = field(.state) }
        if case .list(let appended) = field(.appended) { object.appended = appended }
        if case .dictionary(let entries) = field(.entries) { object.entries = entries }
        return try PickleConstructors.value(of: object) ?? .object(object)
    }
}

extension PickleValue {
    /// The size of a value that was never a part.
    fileprivate var plainSize: Int {
        switch self {
        case .string(let text): 1 + text.utf8.count
        case .bytes(let bytes), .byteArray(let bytes): 1 + bytes.readableBytes
        case .bigInteger(let integer): 1 + integer.littleEndianBytes.count
        case .tuple(let elements): elements.reduce(1) { $0 + $1.plainSize }
        default: 1
        }
    }
}
