public import NIOCore

/// Writes values as pickles that any Python 3 reads.
///
/// The pickles are the shortest plain ones: no frames and no memo, so parts that Python would share are written each time.
public struct PickleWriter: Sendable {
    /// 3, 4 or 5.
    public let protocolVersion: Int

    /// - Parameter protocolVersion: 4 by default, which every Python since 3.4 reads.
    public init(protocolVersion: Int = 4) {
        precondition((3...5).contains(protocolVersion), "pickle protocol \(protocolVersion) is not written here; 3, 4 and 5 are")
        self.protocolVersion = protocolVersion
    }

    /// The pickle of a value.
    public func write(_ value: PickleValue) -> ByteBuffer {
        var buffer = ByteBuffer()
        self.write(value, into: &buffer)
        return buffer
    }

    /// Appends the pickle of a value.
    public func write(_ value: PickleValue, into buffer: inout ByteBuffer) {
        PickleOutput.write(into: &buffer) { output in
            output.write(.proto, UInt8(self.protocolVersion))
            self.append(value, to: &output)
            output.write(.stop)
        }
    }

    func append(_ value: PickleValue, to output: inout PickleOutput) {
        switch value {
        case .none: output.write(.none)
        case .bool(let value): output.write(value ? .newTrue : .newFalse)
        case .int(let value): self.append(value, to: &output)
        case .bigInteger(let value): self.append(value, to: &output)
        case .float(let value):
            output.write(.binFloat, value.bitPattern.byteSwapped)
        case .complex(let value):
            self.appendCall("builtins", "complex", [.float(value.real), .float(value.imaginary)], to: &output)
        case .string(let text): self.append(text, to: &output)
        case .bytes(let bytes): self.append(bytes, to: &output)
        case .byteArray(let bytes): self.append(byteArray: bytes, to: &output)
        case .list(let elements): self.append(list: elements, to: &output)
        case .tuple(let elements): self.append(tuple: elements, to: &output)
        case .dictionary(let dictionary): self.append(dictionary, to: &output)
        case .set(let set): self.append(set: set, to: &output)
        case .frozenSet(let set): self.append(frozenSet: set, to: &output)
        case .date(let date): self.appendCall("datetime", "date", [.bytes(date.packed)], to: &output)
        case .time(let time):
            self.appendCall("datetime", "time", [.bytes(time.packed)] + (time.zone.map { [.timeZone($0)] } ?? []), to: &output)
        case .dateTime(let moment):
            let zone: [PickleValue] = moment.time.zone.map { [.timeZone($0)] } ?? []
            self.appendCall("datetime", "datetime", [.bytes(moment.packed)] + zone, to: &output)
        case .duration(let duration):
            let parts: [PickleValue] = [.int(duration.days), .int(duration.seconds), .int(duration.microseconds)]
            self.appendCall("datetime", "timedelta", parts, to: &output)
        case .timeZone(let zone):
            self.appendCall(
                "datetime", "timezone", [.duration(zone.offset)] + (zone.name.map { [.string($0)] } ?? []), to: &output)
        case .array(let array): self.append(array, to: &output)
        case .global(let global): self.append(global.module, global.name, to: &output)
        case .object(let object): self.append(object, to: &output)
        }
    }
}

// MARK: - Numbers, text and bytes

extension PickleWriter {
    @inline(__always)
    private func append(_ value: Int, to output: inout PickleOutput) {
        if let byte = UInt8(exactly: value) {
            output.write(.binInt1, byte)
        } else if let short = UInt16(exactly: value) {
            output.write(.binInt2, short)
        } else if let word = Int32(exactly: value) {
            output.write(.binInt, word)
        } else {
            output.write(.long1, 8, value)
        }
    }

    private func append(_ value: PickleInteger, to output: inout PickleOutput) {
        let bytes = value.littleEndianBytes
        if let count = UInt8(exactly: bytes.count) {
            output.write(.long1, count)
        } else {
            output.write(.long4, Int32(bytes.count))
        }
        bytes.withUnsafeBytes { output.write($0) }
    }

    private func append(_ text: String, to output: inout PickleOutput) {
        let count = text.utf8.count
        if count <= 0xff, self.protocolVersion >= 4 {
            output.write(.shortBinUnicode, UInt8(count))
        } else {
            self.appendCounted(count, .binUnicode, .binUnicode8, to: &output)
        }
        output.write(text)
    }

    private func append(_ bytes: ByteBuffer, to output: inout PickleOutput) {
        let count = bytes.readableBytes
        if count <= 0xff {
            output.write(.shortBinBytes, UInt8(count))
        } else {
            self.appendCounted(count, .binBytes, .binBytes8, to: &output)
        }
        output.write(bytes)
    }

    /// An opcode with a count of four bytes, or its sibling with eight, which a long text may need; a buffer is never so large.
    private func appendCounted(_ count: Int, _ short: PickleOpcode, _ long: PickleOpcode, to output: inout PickleOutput) {
        if let count = UInt32(exactly: count) { output.write(short, count) } else { output.write(long, UInt64(count)) }
    }

    private func append(byteArray bytes: ByteBuffer, to output: inout PickleOutput) {
        if self.protocolVersion >= 5 {
            output.write(.byteArray8, UInt64(bytes.readableBytes))
            output.write(bytes)
        } else {
            self.appendCall("builtins", "bytearray", [.bytes(bytes)], to: &output)
        }
    }
}

// MARK: - Containers and objects

extension PickleWriter {
    private func append(list elements: [PickleValue], to output: inout PickleOutput) {
        output.write(.emptyList)
        self.append(elements, then: .appends, to: &output)
    }

    /// MARK, the elements, and the opcode that takes them in; nothing for no elements.
    private func append(_ elements: [PickleValue], then opcode: PickleOpcode, to output: inout PickleOutput) {
        guard !elements.isEmpty else { return }
        output.write(.mark)
        for element in elements { self.append(element, to: &output) }
        output.write(opcode)
    }

    private func append(tuple elements: [PickleValue], to output: inout PickleOutput) {
        if elements.count > 3 { output.write(.mark) }
        for element in elements { self.append(element, to: &output) }
        switch elements.count {
        case 0: output.write(.emptyTuple)
        case 1: output.write(.tuple1)
        case 2: output.write(.tuple2)
        case 3: output.write(.tuple3)
        default: output.write(.tuple)
        }
    }

    private func append(_ dictionary: PickleDictionary, to output: inout PickleOutput) {
        output.write(.emptyDict)
        self.append(dictionary.flat, then: .setItems, to: &output)
    }

    private func append(set: PickleSet, to output: inout PickleOutput) {
        guard self.protocolVersion >= 4 else {
            return self.appendCall("builtins", "set", [.list(set.elements)], to: &output)
        }
        output.write(.emptySet)
        self.append(set.elements, then: .addItems, to: &output)
    }

    private func append(frozenSet set: PickleSet, to output: inout PickleOutput) {
        guard self.protocolVersion >= 4 else {
            return self.appendCall("builtins", "frozenset", [.list(set.elements)], to: &output)
        }
        output.write(.mark)
        for element in set.elements { self.append(element, to: &output) }
        output.write(.frozenSet)
    }

    private func append(_ module: String, _ name: String, to output: inout PickleOutput) {
        // Before protocol 4 a line feed ended each name. A name that contains one is written as protocol 4 has it: readers of pickles
        // take every opcode that they know, whichever protocol the pickle claims.
        if self.protocolVersion >= 4 || (module + name).utf8.contains(UInt8(ascii: "\n")) {
            self.append(module, to: &output)
            self.append(name, to: &output)
            output.write(.stackGlobal)
        } else {
            output.write(.global)
            output.write("\(module)\n\(name)\n")
        }
    }

    private func appendCall(_ module: String, _ name: String, _ arguments: [PickleValue], to output: inout PickleOutput) {
        self.append(module, name, to: &output)
        self.append(tuple: arguments, to: &output)
        output.write(.reduce)
    }

    private func append(_ object: PickleObject, to output: inout PickleOutput) {
        self.append(object.constructor, to: &output)
        self.append(tuple: object.arguments, to: &output)
        switch object.construction {
        case .call: output.write(.reduce)
        case .new where object.keywords.isEmpty: output.write(.newObj)
        case .new: self.appendNewWithKeywords(object.keywords, to: &output)
        }
        self.append(object.appended, then: .appends, to: &output)
        self.append(object.entries.flat, then: .setItems, to: &output)
        if let state = object.state {
            self.append(state, to: &output)
            output.write(.build)
        }
    }

    private func appendNewWithKeywords(_ keywords: PickleDictionary, to output: inout PickleOutput) {
        self.append(keywords, to: &output)
        output.write(.newObjEx)
    }

    /// `numpy.ndarray(shape, dtype, buffer)`, the one constructor that all versions of NumPy share. The buffer is a
    /// bytearray, so that the array can be written to in Python, as one pickled there can.
    private func append(_ array: NDArray, to output: inout PickleOutput) {
        let type = array.scalarType.constructorArgument
        let arguments: [PickleValue] = [.tuple(array.shape.map { .int($0) }), type, .byteArray(array.data)]
        self.appendCall("numpy", "ndarray", arguments, to: &output)
    }
}

// MARK: - Packed dates

extension PickleDate {
    fileprivate var packed: [UInt8] {
        [UInt8(truncatingIfNeeded: self.year >> 8), UInt8(truncatingIfNeeded: self.year), UInt8(self.month), UInt8(self.day)]
    }
}

extension PickleTime {
    fileprivate var packed: [UInt8] { self.packed(hourFlag: self.isFolded) }

    fileprivate func packed(hourFlag: Bool) -> [UInt8] {
        let micro = self.microsecond
        return [
            UInt8(self.hour) | (hourFlag ? 0x80 : 0), UInt8(self.minute), UInt8(self.second),
            UInt8(truncatingIfNeeded: micro >> 16),
            UInt8(truncatingIfNeeded: micro >> 8), UInt8(truncatingIfNeeded: micro),
        ]
    }
}

extension PickleDateTime {
    fileprivate var packed: [UInt8] {
        var date = self.date.packed
        if self.time.isFolded { date[2] |= 0x80 }
        return date + self.time.packed(hourFlag: false)
    }
}
