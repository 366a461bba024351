import NIOCore

/// Runs a pickle, which is a program for a stack machine, without any instruction that could run code.
///
/// Lists, dictionaries and objects may be referred to (through the memo) while they still grow, so they are kept as numbered
/// parts until the program ends, and only then put together (``assemble(_:)``). Everything else is a value at once.
struct PickleMachine {
    /// A stack or memo entry: a finished value, or the number of a part.
    struct Entry {
        var value: PickleValue
        var part: Int32

        init(_ value: PickleValue) {
            self.value = value
            self.part = -1
        }

        init(part: Int) {
            self.value = .none
            self.part = Int32(part)
        }

        var partNumber: Int? { self.part >= 0 ? Int(self.part) : nil }
    }

    /// A container or object under construction.
    struct Part {
        enum Kind: UInt8 {
            case list, tuple, dictionary, set, frozenSet
            /// An object; its values are those of ``ObjectField``, in that order.
            case call, new
        }

        let kind: Kind
        /// The contents of the part; a dictionary's keys and values in turn. `none` stands in the place of another part.
        var values: [PickleValue] = []
        /// The places of parts among the values.
        var links: [(place: Int, part: Int)] = []
        /// Whether a BUILD gave the object its state.
        var isBuilt = false

        mutating func append(_ entry: Entry) {
            if let part = entry.partNumber { self.links.append((self.values.count, part)) }
            self.values.append(entry.value)
        }

        mutating func set(_ field: ObjectField, _ entry: Entry) {
            if let part = entry.partNumber {
                self.links.append((field.rawValue, part))
            } else {
                self.values[field.rawValue] = entry.value
            }
        }
    }

    /// The values of a part that is an object.
    enum ObjectField: Int, CaseIterable {
        case constructor, arguments, keywords, state, appended, entries
    }

    var cursor: PickleCursor
    let buffer: ByteBuffer
    let limits: PickleReader.Limits
    private var outOfBand: ArraySlice<ByteBuffer>

    private(set) var parts: [Part] = []
    private var stack: [Entry] = []
    /// Stack heights at which a MARK lies, lowest first.
    private var marks: [Int] = []
    /// Memo entries 0, 1, 2 …
    private var memo: [Entry] = []
    /// Memo entries whose numbers leave a gap below them.
    private var scatteredMemo: [Int: Entry] = [:]

    /// Whether any entry was put on the stack twice. If none was, the value cannot be larger than its pickle.
    private(set) var hasRecalled = false

    init(cursor: PickleCursor, buffer: ByteBuffer, outOfBand: [ByteBuffer], limits: PickleReader.Limits) {
        self.cursor = cursor
        self.buffer = buffer
        self.limits = limits
        self.outOfBand = outOfBand[...]
        self.stack.reserveCapacity(24)
    }

    static func malformed(_ message: String) -> PickleError { PickleError(.malformed, "this is no pickle: \(message)") }

    /// Runs the program to its STOP and gives the entry on top of the stack.
    mutating func run() throws -> Entry {
        while true {
            let byte = try self.cursor.byte()
            guard let opcode = PickleOpcode(rawValue: byte) else { throw Self.malformed("\(byte) is no opcode") }
            if opcode == .stop { return try self.popEntry() }
            try self.perform(opcode)
        }
    }

    private mutating func perform(_ opcode: PickleOpcode) throws {
        switch opcode {
        case .stop: break
        // Numbers
        case .none: self.push(.none)
        case .newTrue: self.push(.bool(true))
        case .newFalse: self.push(.bool(false))
        case .binInt1: self.push(.int(Int(try self.cursor.byte())))
        case .binInt2: self.push(.int(Int(try self.cursor.integer(UInt16.self))))
        case .binInt: self.push(.int(Int(try self.cursor.integer(Int32.self))))
        case .long1:
            let count = try self.cursor.byte()
            self.push(Self.integer(try self.cursor.take(count)))
        case .long4:
            let count = try self.cursor.integer(Int32.self)
            self.push(Self.integer(try self.cursor.take(count)))
        case .int, .long: self.push(try PickleText.integer(try self.cursor.line()))
        case .binFloat: self.push(.float(try self.cursor.float()))
        case .float: self.push(.float(try PickleText.float(try self.cursor.line())))

        // Text and bytes
        case .shortBinUnicode: try self.pushText(count: try self.cursor.byte())
        case .binUnicode: try self.pushText(count: try self.cursor.integer(UInt32.self))
        case .binUnicode8: try self.pushText(count: try self.cursor.integer(UInt64.self))
        case .shortBinString: try self.pushText(count: try self.cursor.byte())
        case .binString: try self.pushText(count: try self.cursor.integer(Int32.self))
        case .string: self.push(.string(try PickleText.quoted(try self.cursor.line())))
        case .unicode: self.push(.string(try PickleText.rawUnicodeEscaped(try self.cursor.line())))
        case .shortBinBytes: self.push(.bytes(try self.bytes(count: try self.cursor.byte())))
        case .binBytes: self.push(.bytes(try self.bytes(count: try self.cursor.integer(UInt32.self))))
        case .binBytes8: self.push(.bytes(try self.bytes(count: try self.cursor.integer(UInt64.self))))
        case .byteArray8: self.push(.byteArray(try self.bytes(count: try self.cursor.integer(UInt64.self))))
        case .nextBuffer:
            guard let buffer = self.outOfBand.popFirst() else {
                throw PickleError(.malformed, "the pickle takes more out-of-band buffers than came with it")
            }
            self.push(.byteArray(buffer))
        case .readOnlyBuffer:
            if case .byteArray(let buffer) = try self.popValue("READONLY_BUFFER") { self.push(.bytes(buffer)) }

        // Containers
        case .emptyList: self.push(Part(kind: .list))
        case .emptyDict: self.push(Part(kind: .dictionary))
        case .emptySet: self.push(Part(kind: .set))
        case .emptyTuple: self.push(.tuple([]))
        case .list: try self.pushMarked(.list)
        case .dict: try self.pushMarked(.dictionary)
        case .frozenSet: try self.pushMarked(.frozenSet)
        case .tuple: try self.pushTuple(from: try self.popMark())
        case .tuple1: try self.pushTuple(from: try self.height(below: 1))
        case .tuple2: try self.pushTuple(from: try self.height(below: 2))
        case .tuple3: try self.pushTuple(from: try self.height(below: 3))
        case .append: try self.extend(.list, from: try self.height(below: 1))
        case .appends: try self.extend(.list, from: try self.popMark())
        case .addItems: try self.extend(.set, from: try self.popMark())
        case .setItem: try self.extend(.dictionary, from: try self.height(below: 2))
        case .setItems: try self.extend(.dictionary, from: try self.popMark())

        // Objects
        case .global:
            let module = try PickleCursor.text(try self.cursor.line())
            self.push(.global(.init(pickledModule: module, name: try PickleCursor.text(try self.cursor.line()))))
        case .stackGlobal:
            guard case .string(let name) = try self.popValue("STACK_GLOBAL"),
                case .string(let module) = try self.popValue("STACK_GLOBAL")
            else { throw Self.malformed("the name of a global is no text") }
            self.push(.global(.init(pickledModule: module, name: name)))
        case .reduce: try self.pushObject(.call)
        case .newObj: try self.pushObject(.new)
        case .newObjEx:
            let keywords = try self.popEntry()
            try self.pushObject(.new, keywords: keywords)
        case .inst:
            let module = try PickleCursor.text(try self.cursor.line())
            let type = PickleGlobal(pickledModule: module, name: try PickleCursor.text(try self.cursor.line()))
            try self.pushTuple(from: try self.popMark())
            try self.pushObject(.call, constructor: Entry(.global(type)), arguments: try self.popEntry())
        case .obj:
            let start = try self.popMark()
            guard self.stack.count > start else { throw Self.malformed("an object has no class") }
            let constructor = self.stack.remove(at: start)
            try self.pushTuple(from: start)
            try self.pushObject(.call, constructor: constructor, arguments: try self.popEntry())
        case .build: try self.build()

        // Stack and memo
        case .mark: self.marks.append(self.stack.count)
        case .pop: if self.marks.last == self.stack.count { self.marks.removeLast() } else { _ = try self.popEntry() }
        case .popMark: self.stack.removeSubrange(try self.popMark()...)
        case .dup:
            self.hasRecalled = true
            self.stack.append(self.stack[try self.height(below: 1)])
        case .memoize: try self.memorize(at: self.memo.count + self.scatteredMemo.count)
        case .binPut: try self.memorize(at: Int(try self.cursor.byte()))
        case .longBinPut: try self.memorize(at: Int(try self.cursor.integer(UInt32.self)))
        case .put: try self.memorize(at: try PickleText.index(try self.cursor.line()))
        case .binGet: try self.recall(Int(try self.cursor.byte()))
        case .longBinGet: try self.recall(Int(try self.cursor.integer(UInt32.self)))
        case .get: try self.recall(try PickleText.index(try self.cursor.line()))

        // Framing
        case .proto:
            let version = try self.cursor.byte()
            guard version <= 5 else { throw PickleError(.unsupported, "pickle protocol \(version) is not known; 0 to 5 are") }
        case .frame:
            guard try self.cursor.integer(UInt64.self) <= self.cursor.remaining else { throw PickleCursor.endsEarly }

        // What only a Python process could follow
        case .persID, .binPersID:
            throw PickleError(.unsupported, "the pickle names an object by a persistent id, which only its writer can resolve")
        case .ext1, .ext2, .ext4:
            throw PickleError(.unsupported, "the pickle names a class by an extension code, which only its writer can resolve")
        }
    }
}

// MARK: - Stack

extension PickleMachine {
    @inline(__always)
    private mutating func push(_ value: PickleValue) { self.stack.append(Entry(value)) }

    private mutating func push(_ part: Part) {
        self.stack.append(Entry(part: self.parts.count))
        self.parts.append(part)
    }

    /// The height of the stack without its topmost entries, which must lie above the last mark.
    private func height(below count: Int) throws -> Int {
        let height = self.stack.count - count
        guard height >= (self.marks.last ?? 0) else { throw Self.malformed("it takes more from the stack than is there") }
        return height
    }

    private mutating func popEntry() throws -> Entry {
        _ = try self.height(below: 1)
        return self.stack.removeLast()
    }

    private mutating func popValue(_ opcode: String) throws -> PickleValue {
        let entry = try self.popEntry()
        guard entry.part < 0 else { throw Self.malformed("\(opcode) finds a container on the stack") }
        return entry.value
    }

    private mutating func popMark() throws -> Int {
        guard let mark = self.marks.popLast() else { throw Self.malformed("a mark is missing") }
        return mark
    }

    private mutating func memorize(at index: Int) throws {
        let entry = self.stack[try self.height(below: 1)]
        if index < self.memo.count {
            self.memo[index] = entry
        } else if index == self.memo.count, self.scatteredMemo.isEmpty {
            if index == 0 { self.memo.reserveCapacity(16) }
            self.memo.append(entry)
        } else {
            self.scatteredMemo[index] = entry
        }
        guard self.memo.count + self.scatteredMemo.count <= self.limits.memoEntries else {
            throw PickleError(.limitExceeded, "the pickle has more than \(self.limits.memoEntries) memo entries")
        }
    }

    private mutating func recall(_ index: Int) throws {
        guard let entry = index < self.memo.count ? self.memo[index] : self.scatteredMemo[index] else {
            throw Self.malformed("memo entry \(index) is missing")
        }
        self.hasRecalled = true
        self.stack.append(entry)
    }
}

// MARK: - Making values and parts

extension PickleMachine {
    private static func integer(_ bytes: UnsafeRawBufferPointer) -> PickleValue {
        guard bytes.count <= 8, let top = bytes.last else {
            return bytes.isEmpty ? .int(0) : .integer(PickleInteger(littleEndianBytes: bytes))
        }
        var value = top >= 0x80 ? -1 : 0
        for byte in bytes.reversed() { value = value << 8 | Int(byte) }
        return .int(value)
    }

    private mutating func pushText(count: some FixedWidthInteger) throws {
        self.push(.string(try PickleCursor.text(try self.cursor.take(count))))
    }

    /// The next bytes of the pickle: a copy if they are few, so that they do not keep a whole message in memory; else a slice.
    private mutating func bytes(count: some FixedWidthInteger) throws -> ByteBuffer {
        let start = self.cursor.position
        let bytes = try self.cursor.take(count)
        guard bytes.count >= 512 else { return ByteBuffer(bytes: bytes) }
        return self.buffer.getSlice(at: self.buffer.readerIndex + start, length: bytes.count)!
    }

    private mutating func pushMarked(_ kind: Part.Kind) throws {
        let start = try self.popMark()
        var part = Part(kind: kind)
        try Self.fill(&part, with: self.stack[start...])
        self.stack.removeSubrange(start...)
        self.push(part)
    }

    /// A tuple cannot change, so one of plain values is a value at once.
    private mutating func pushTuple(from start: Int) throws {
        let entries = self.stack[start...]
        if entries.allSatisfy({ $0.part < 0 && !$0.value.isTuple }) {
            let tuple = PickleValue.tuple(entries.map(\.value))
            self.stack.removeSubrange(start...)
            self.push(tuple)
        } else {
            var part = Part(kind: .tuple)
            try Self.fill(&part, with: entries)
            self.stack.removeSubrange(start...)
            self.push(part)
        }
    }

    private static func fill(_ part: inout Part, with entries: ArraySlice<Entry>) throws {
        guard part.kind != .dictionary || entries.count.isMultiple(of: 2) else { throw Self.malformed("a key has no value") }
        if part.values.isEmpty { part.values.reserveCapacity(entries.count) }
        for place in entries.indices {
            // Not an iteration, which would hold on to the entries and copy each.
            part.append(entries[place])
        }
    }

    /// Moves the entries from a height on into the container just below.
    private mutating func extend(_ kind: Part.Kind, from start: Int) throws {
        guard start > (self.marks.last ?? 0), var number = self.stack[start - 1].partNumber else {
            throw Self.malformed("elements are added to something that holds none")
        }
        switch (self.parts[number].kind, kind) {
        case (.list, .list), (.set, .set), (.dictionary, .dictionary): break
        case (.call, .list), (.new, .list): number = self.container(.appended, of: number, kind)
        case (.call, .dictionary), (.new, .dictionary): number = self.container(.entries, of: number, kind)
        default: throw Self.malformed("elements are added to something that holds none")
        }
        try Self.fill(&self.parts[number], with: self.stack[start...])
        self.stack.removeSubrange(start...)
    }

    /// The part that holds an object's appended elements or entries, made at first need.
    private mutating func container(_ field: ObjectField, of object: Int, _ kind: Part.Kind) -> Int {
        if let link = self.parts[object].links.first(where: { $0.place == field.rawValue }) { return link.part }
        self.parts.append(Part(kind: kind))
        self.parts[object].links.append((field.rawValue, self.parts.count - 1))
        return self.parts.count - 1
    }

    private mutating func pushObject(_ kind: Part.Kind, keywords: Entry? = nil) throws {
        let arguments = try self.popEntry()
        try self.pushObject(kind, constructor: try self.popEntry(), arguments: arguments, keywords: keywords)
    }

    private mutating func pushObject(_ kind: Part.Kind, constructor: Entry, arguments: Entry, keywords: Entry? = nil) throws {
        var part = Part(kind: kind, values: Array(repeating: .none, count: ObjectField.allCases.count))
        part.set(.constructor, constructor)
        part.set(.arguments, arguments)
        if let keywords { part.set(.keywords, keywords) }
        self.push(part)
    }

    private mutating func build() throws {
        let state = try self.popEntry()
        guard let number = self.stack[try self.height(below: 1)].partNumber, [.call, .new].contains(self.parts[number].kind)
        else {
            throw Self.malformed("a state is given to something that is no object")
        }
        guard !self.parts[number].isBuilt else {
            throw PickleError(.unsupported, "the pickle gives an object its state twice")
        }
        self.parts[number].isBuilt = true
        self.parts[number].set(.state, state)
    }
}

extension PickleValue {
    fileprivate var isTuple: Bool { if case .tuple(let elements) = self { !elements.isEmpty } else { false } }
}
