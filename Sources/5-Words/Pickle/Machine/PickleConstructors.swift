import NIOCore

/// The closed list of Python constructors whose results are values here. Each is computed, never called.
enum PickleConstructors {
    /// The value an object stands for; nil if its class is not on the list, or the object was made in a way not known here.
    static func value(of object: PickleObject) throws -> PickleValue? {
        guard let global = object.global else { return nil }
        switch global.module {
        case "builtins": return try self.builtin(global.name, object)
        case "collections": return try self.collection(global.name, object)
        case "datetime": return try self.time(global.name, object)
        case "_codecs": return self.encoded(global.name, object)
        case "copyreg": return self.copied(global.name, object)
        case "numpy": return try NumPyConstructors.array(global.name, object)
        case "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric":
            return try NumPyConstructors.internalValue(global.name, object)
        default: return nil
        }
    }

    private static func builtin(_ name: String, _ object: PickleObject) throws -> PickleValue? {
        guard object.state == nil, object.entries.isEmpty, object.appended.isEmpty else { return nil }
        let arguments = object.arguments
        switch (name, arguments.count) {
        case ("set", 0): return .set([])
        case ("set", 1): return .set(PickleSet(distinct: try arguments[0].elements()))
        case ("frozenset", 0): return .frozenSet([])
        case ("frozenset", 1): return .frozenSet(PickleSet(distinct: try arguments[0].elements()))
        case ("bytes", 0): return .bytes(ByteBuffer())
        case ("bytearray", 0): return .byteArray(ByteBuffer())
        case ("bytearray", 1):
            guard case .bytes(let bytes) = arguments[0] else { return nil }
            return .byteArray(bytes)
        case ("bytearray", 2):
            guard case .string(let text) = arguments[0], let bytes = text.latin1Bytes else { return nil }
            return .byteArray(bytes)
        case ("complex", 2):
            guard let real = arguments[0].plainDouble, let imaginary = arguments[1].plainDouble else { return nil }
            return .complex(PickleComplex(real: real, imaginary: imaginary))
        default: return nil
        }
    }

    private static func collection(_ name: String, _ object: PickleObject) throws -> PickleValue? {
        guard object.state == nil else { return nil }
        switch (name, object.arguments.first) {
        case ("OrderedDict", nil), ("defaultdict", _): return .dictionary(object.entries)
        case ("Counter", .dictionary(let counts)?): return .dictionary(counts)
        case ("OrderedDict", .list(let pairs)?):
            return .dictionary(
                try pairs.map { pair in
                    let parts = try pair.elements()
                    guard parts.count == 2 else { throw PickleError.mismatch(expected: "a key and a value", found: pair) }
                    return (parts[0], parts[1])
                })
        case ("deque", let first): return .list(try (first?.elements() ?? []) + object.appended)
        default: return nil
        }
    }

    /// Protocols below 3 have no bytes; Python writes them as Latin-1 text to be encoded.
    private static func encoded(_ name: String, _ object: PickleObject) -> PickleValue? {
        guard name == "encode", object.arguments.count == 2, case .string(let text) = object.arguments[0],
            object.arguments[1] == "latin1" || object.arguments[1] == "latin-1"
        else { return nil }
        return text.latin1Bytes.map { .bytes($0) }
    }

    /// A plain object as protocols below 2 make it, in the form of the later protocols.
    private static func copied(_ name: String, _ object: PickleObject) -> PickleValue? {
        guard let type = object.arguments.first else { return nil }
        var made = object
        made.constructor = type
        made.construction = .new
        switch name {
        case "_reconstructor":
            guard object.arguments.count == 3, object.arguments[1] == .global(module: "builtins", name: "object") else {
                return nil
            }
            made.arguments = []
        case "__newobj__":
            made.arguments = Array(object.arguments.dropFirst())
        default: return nil
        }
        return .object(made)
    }

    private static func time(_ name: String, _ object: PickleObject) throws -> PickleValue? {
        let arguments = object.arguments
        switch name {
        case "timedelta":
            let parts = arguments.compactMap { if case .int(let part) = $0 { part } else { nil } }
            guard parts.count == arguments.count, parts.count <= 3 else { return nil }
            let (days, seconds, microseconds) = (parts.first ?? 0, parts.dropFirst().first ?? 0, parts.dropFirst(2).first ?? 0)
            guard PickleDuration.longestDays.contains(days), (-(1 << 40)...1 << 40).contains(seconds),
                (-(1 << 60)...1 << 60).contains(microseconds)
            else {
                throw PickleError(.invalidValue, "a timedelta is longer than Python allows")
            }
            return .duration(PickleDuration(days: days, seconds: seconds, microseconds: microseconds))
        case "timezone":
            guard case .duration(let offset)? = arguments.first else { return nil }
            guard abs(offset.totalMicroseconds) < 86_400_000_000 else {
                throw PickleError(.invalidValue, "a time zone is a day or more away from UTC")
            }
            guard arguments.count > 1 else { return .timeZone(PickleTimeZone(offset: offset)) }
            guard case .string(let name) = arguments[1] else { return nil }
            return .timeZone(PickleTimeZone(offset: offset, name: name))
        case "date":
            guard let bytes = arguments.first?.stateBytes, bytes.count == 4, arguments.count == 1 else { return nil }
            return .date(try self.date(bytes, month: bytes[2]))
        case "time", "datetime":
            guard let bytes = arguments.first?.stateBytes, bytes.count == (name == "time" ? 6 : 10), arguments.count <= 2 else {
                return nil
            }
            var zone: PickleTimeZone?
            if arguments.count == 2 {
                // A zone with rules of its own (zoneinfo, dateutil) leaves the whole object opaque.
                guard case .timeZone(let fixed) = arguments[1] else { return nil }
                zone = fixed
            }
            // The fold is the top bit of the hour, or of the month of a date and time.
            let flagged = name == "time" ? bytes[0] : bytes[2]
            let time = try self.time(
                bytes.suffix(6), hour: name == "time" ? bytes[0] & 0x7f : bytes[4], isFolded: flagged >= 0x80, zone)
            guard name == "datetime" else { return .time(time) }
            return .dateTime(PickleDateTime(date: try self.date(bytes, month: bytes[2] & 0x7f), time: time))
        default: return nil
        }
    }

    private static func date(_ bytes: [UInt8], month: UInt8) throws -> PickleDate {
        let date = PickleDate(year: Int(bytes[0]) << 8 | Int(bytes[1]), month: Int(month), day: Int(bytes[3]))
        guard (1...9999).contains(date.year), (1...12).contains(date.month), (1...31).contains(date.day) else {
            throw PickleError(.invalidValue, "a date that is in no calendar")
        }
        return date
    }

    private static func time(_ bytes: ArraySlice<UInt8>, hour: UInt8, isFolded: Bool, _ zone: PickleTimeZone?) throws
        -> PickleTime
    {
        let parts = Array(bytes)
        let time = PickleTime(
            hour: Int(hour), minute: Int(parts[1]), second: Int(parts[2]),
            microsecond: Int(parts[3]) << 16 | Int(parts[4]) << 8 | Int(parts[5]), isFolded: isFolded, zone: zone)
        guard time.hour < 24, time.minute < 60, time.second < 60, time.microsecond < 1_000_000 else {
            throw PickleError(.invalidValue, "a time that no clock shows")
        }
        return time
    }
}

extension PickleValue {
    /// The number as a double, for arguments of constructors.
    fileprivate var plainDouble: Double? {
        switch self {
        case .float(let value): value
        case .int(let value): Double(value)
        default: nil
        }
    }

    /// The packed state of a date or time: bytes, or the text that Python 2 wrote for them.
    fileprivate var stateBytes: [UInt8]? {
        switch self {
        case .bytes(let bytes): Array(bytes.readableBytesView)
        case .string(let text): text.latin1Bytes.map { Array($0.readableBytesView) }
        default: nil
        }
    }
}

extension String {
    /// The text as Latin-1, if every character is in it.
    fileprivate var latin1Bytes: ByteBuffer? {
        var bytes: [UInt8] = []
        for scalar in self.unicodeScalars {
            guard let byte = UInt8(exactly: scalar.value) else { return nil }
            bytes.append(byte)
        }
        return ByteBuffer(bytes: bytes)
    }
}
