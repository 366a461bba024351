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
        // The commonest arguments and results, each in one write.
        switch value {
        case .int(let integer) where integer >= 0 && integer <= 0xff:
            self.writeWhole(PickleOpcode.binInt1, UInt8(integer), into: &buffer)
        case .none:
            buffer.writeInteger(
                UInt32(PickleOpcode.proto) | UInt32(self.protocolVersion) << 8 | UInt32(PickleOpcode.none) << 16
                    | UInt32(PickleOpcode.stop) << 24, endianness: .little)
        default:
            buffer.writeInteger(UInt16(PickleOpcode.proto) | UInt16(self.protocolVersion) << 8, endianness: .little)
            self.append(value, to: &buffer)
            buffer.writeInteger(PickleOpcode.stop)
        }
    }

    @inline(__always)
    private func writeWhole(_ opcode: UInt8, _ operand: UInt8, into buffer: inout ByteBuffer) {
        let head = UInt32(PickleOpcode.proto) | UInt32(self.protocolVersion) << 8
        buffer.writeInteger(head | UInt32(opcode) << 16 | UInt32(operand) << 24, endianness: .little)
        buffer.writeInteger(PickleOpcode.stop)
    }

    func append(_ value: PickleValue, to buffer: inout ByteBuffer) {
        switch value {
        case .none: buffer.writeInteger(PickleOpcode.none)
        case .bool(let value): buffer.writeInteger(value ? PickleOpcode.newTrue : PickleOpcode.newFalse)
        case .int(let value): self.append(value, to: &buffer)
        case .bigInteger(let value): self.append(value, to: &buffer)
        case .float(let value):
            buffer.writeInteger(PickleOpcode.binFloat)
            buffer.writeInteger(value.bitPattern)
        case .complex(let value):
            self.appendCall("builtins", "complex", [.float(value.real), .float(value.imaginary)], to: &buffer)
        case .string(let text): self.append(text, to: &buffer)
        case .bytes(let bytes): self.append(bytes, to: &buffer)
        case .byteArray(let bytes): self.append(byteArray: bytes, to: &buffer)
        case .list(let elements): self.append(list: elements, to: &buffer)
        case .tuple(let elements): self.append(tuple: elements, to: &buffer)
        case .dictionary(let dictionary): self.append(dictionary, to: &buffer)
        case .set(let set): self.append(set: set, to: &buffer)
        case .frozenSet(let set): self.append(frozenSet: set, to: &buffer)
        case .date(let date): self.appendCall("datetime", "date", [.bytes(date.packed)], to: &buffer)
        case .time(let time):
            self.appendCall("datetime", "time", [.bytes(time.packed)] + (time.zone.map { [.timeZone($0)] } ?? []), to: &buffer)
        case .dateTime(let moment):
            let zone: [PickleValue] = moment.time.zone.map { [.timeZone($0)] } ?? []
            self.appendCall("datetime", "datetime", [.bytes(moment.packed)] + zone, to: &buffer)
        case .duration(let duration):
            let parts: [PickleValue] = [.int(duration.days), .int(duration.seconds), .int(duration.microseconds)]
            self.appendCall("datetime", "timedelta", parts, to: &buffer)
        case .timeZone(let zone):
            self.appendCall(
                "datetime", "timezone", [.duration(zone.offset)] + (zone.name.map { [.string($0)] } ?? []), to: &buffer)
        case .array(let array): self.append(array, to: &buffer)
        case .global(let global): self.append(global.module, global.name, to: &buffer)
        case .object(let object): self.append(object, to: &buffer)
        }
    }
}

// MARK: - Numbers, text and bytes

extension PickleWriter {
    @inline(__always)
    private func append(_ value: Int, to buffer: inout ByteBuffer) {
        if let byte = UInt8(exactly: value) {
            buffer.writeInteger(UInt16(PickleOpcode.binInt1) | UInt16(byte) << 8, endianness: .little)
        } else if let short = UInt16(exactly: value) {
            buffer.writeInteger(PickleOpcode.binInt2)
            buffer.writeInteger(short, endianness: .little)
        } else if let word = Int32(exactly: value) {
            buffer.writeInteger(PickleOpcode.binInt)
            buffer.writeInteger(word, endianness: .little)
        } else {
            buffer.writeInteger(UInt16(PickleOpcode.long1) | 8 << 8, endianness: .little)
            buffer.writeInteger(value, endianness: .little)
        }
    }

    private func append(_ value: PickleInteger, to buffer: inout ByteBuffer) {
        let bytes = value.littleEndianBytes
        if let count = UInt8(exactly: bytes.count) {
            buffer.writeMultipleIntegers(PickleOpcode.long1, count)
        } else {
            buffer.writeInteger(PickleOpcode.long4)
            buffer.writeInteger(Int32(bytes.count), endianness: .little)
        }
        buffer.writeBytes(bytes)
    }

    private func append(_ text: String, to buffer: inout ByteBuffer) {
        let count = text.utf8.count
        if count <= 0xff, self.protocolVersion >= 4 {
            buffer.writeInteger(UInt16(PickleOpcode.shortBinUnicode) | UInt16(count) << 8, endianness: .little)
        } else {
            self.appendCounted(count, PickleOpcode.binUnicode, PickleOpcode.binUnicode8, to: &buffer)
        }
        buffer.writeString(text)
    }

    private func append(_ bytes: ByteBuffer, to buffer: inout ByteBuffer) {
        let count = bytes.readableBytes
        if count <= 0xff {
            buffer.writeInteger(UInt16(PickleOpcode.shortBinBytes) | UInt16(count) << 8, endianness: .little)
        } else {
            self.appendCounted(count, PickleOpcode.binBytes, PickleOpcode.binBytes8, to: &buffer)
        }
        buffer.writeImmutableBuffer(bytes)
    }

    /// An opcode with a count of four bytes, or its sibling with eight. A buffer never holds what needs eight; text might.
    private func appendCounted(_ count: Int, _ short: UInt8, _ long: UInt8, to buffer: inout ByteBuffer) {
        if let count = UInt32(exactly: count) {
            buffer.writeInteger(short)
            buffer.writeInteger(count, endianness: .little)
        } else {
            buffer.writeInteger(long)
            buffer.writeInteger(UInt64(count), endianness: .little)
        }
    }

    private func append(byteArray bytes: ByteBuffer, to buffer: inout ByteBuffer) {
        if self.protocolVersion >= 5 {
            buffer.writeInteger(PickleOpcode.byteArray8)
            buffer.writeInteger(UInt64(bytes.readableBytes), endianness: .little)
            buffer.writeImmutableBuffer(bytes)
        } else {
            self.appendCall("builtins", "bytearray", [.bytes(bytes)], to: &buffer)
        }
    }
}

// MARK: - Containers and objects

extension PickleWriter {
    private func append(list elements: [PickleValue], to buffer: inout ByteBuffer) {
        buffer.writeInteger(PickleOpcode.emptyList)
        self.append(elements, then: PickleOpcode.appends, to: &buffer)
    }

    /// MARK, the elements, and the opcode that takes them in; nothing for no elements.
    private func append(_ elements: [PickleValue], then opcode: UInt8, to buffer: inout ByteBuffer) {
        guard !elements.isEmpty else { return }
        buffer.writeInteger(PickleOpcode.mark)
        for element in elements { self.append(element, to: &buffer) }
        buffer.writeInteger(opcode)
    }

    private func append(tuple elements: [PickleValue], to buffer: inout ByteBuffer) {
        if elements.count > 3 { buffer.writeInteger(PickleOpcode.mark) }
        for element in elements { self.append(element, to: &buffer) }
        switch elements.count {
        case 0: buffer.writeInteger(PickleOpcode.emptyTuple)
        case 1: buffer.writeInteger(PickleOpcode.tuple1)
        case 2: buffer.writeInteger(PickleOpcode.tuple2)
        case 3: buffer.writeInteger(PickleOpcode.tuple3)
        default: buffer.writeInteger(PickleOpcode.tuple)
        }
    }

    private func append(_ dictionary: PickleDictionary, to buffer: inout ByteBuffer) {
        buffer.writeInteger(PickleOpcode.emptyDict)
        self.append(dictionary.flat, then: PickleOpcode.setItems, to: &buffer)
    }

    private func append(set: PickleSet, to buffer: inout ByteBuffer) {
        guard self.protocolVersion >= 4 else {
            return self.appendCall("builtins", "set", [.list(set.elements)], to: &buffer)
        }
        buffer.writeInteger(PickleOpcode.emptySet)
        self.append(set.elements, then: PickleOpcode.addItems, to: &buffer)
    }

    private func append(frozenSet set: PickleSet, to buffer: inout ByteBuffer) {
        guard self.protocolVersion >= 4 else {
            return self.appendCall("builtins", "frozenset", [.list(set.elements)], to: &buffer)
        }
        buffer.writeInteger(PickleOpcode.mark)
        for element in set.elements { self.append(element, to: &buffer) }
        buffer.writeInteger(PickleOpcode.frozenSet)
    }

    private func append(_ module: String, _ name: String, to buffer: inout ByteBuffer) {
        if self.protocolVersion >= 4 {
            self.append(module, to: &buffer)
            self.append(name, to: &buffer)
            buffer.writeInteger(PickleOpcode.stackGlobal)
        } else {
            buffer.writeInteger(PickleOpcode.global)
            buffer.writeString("\(module)\n\(name)\n")
        }
    }

    private func appendCall(_ module: String, _ name: String, _ arguments: [PickleValue], to buffer: inout ByteBuffer) {
        self.append(module, name, to: &buffer)
        self.append(tuple: arguments, to: &buffer)
        buffer.writeInteger(PickleOpcode.reduce)
    }

    private func append(_ object: PickleObject, to buffer: inout ByteBuffer) {
        self.append(object.constructor, to: &buffer)
        self.append(tuple: object.arguments, to: &buffer)
        switch object.construction {
        case .call: buffer.writeInteger(PickleOpcode.reduce)
        case .new where object.keywords.isEmpty: buffer.writeInteger(PickleOpcode.newObj)
        case .new: self.appendNewWithKeywords(object.keywords, to: &buffer)
        }
        self.append(object.appended, then: PickleOpcode.appends, to: &buffer)
        self.append(object.entries.flat, then: PickleOpcode.setItems, to: &buffer)
        if let state = object.state {
            self.append(state, to: &buffer)
            buffer.writeInteger(PickleOpcode.build)
        }
    }

    private func appendNewWithKeywords(_ keywords: PickleDictionary, to buffer: inout ByteBuffer) {
        self.append(keywords, to: &buffer)
        buffer.writeInteger(PickleOpcode.newObjEx)
    }

    /// `numpy.ndarray(shape, dtype, buffer)`, the one constructor that all versions of NumPy share. The buffer is a
    /// bytearray, so that the array can be written to in Python, as one pickled there can.
    private func append(_ array: NDArray, to buffer: inout ByteBuffer) {
        let type = array.scalarType.constructorArgument
        let arguments: [PickleValue] = [.tuple(array.shape.map { .int($0) }), type, .byteArray(array.data)]
        self.appendCall("numpy", "ndarray", arguments, to: &buffer)
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
