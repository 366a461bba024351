/// A Python dictionary: pairs in the order they were put in.
///
/// Keys may be any value that hashes in Python. Equality does not look at the order.
public struct PickleDictionary: Sendable, Hashable, RandomAccessCollection, ExpressibleByDictionaryLiteral {
    public typealias Element = (key: PickleValue, value: PickleValue)

    /// Keys at even places, each followed by its value. Keys are distinct unless a pickle repeated one; then the last counts.
    var flat: [PickleValue]

    init(flat: [PickleValue]) {
        assert(flat.count.isMultiple(of: 2))
        self.flat = flat
    }

    /// A dictionary without pairs.
    public init() { self.flat = [] }

    /// The pairs, in their order. Of pairs with the same key the last counts.
    public init(_ pairs: some Sequence<(PickleValue, PickleValue)>) {
        self.flat = []
        self.flat.reserveCapacity(pairs.underestimatedCount * 2)
        for (key, value) in pairs {
            self.flat.append(key)
            self.flat.append(value)
        }
    }

    public init(dictionaryLiteral elements: (PickleValue, PickleValue)...) { self.init(elements) }

    public var startIndex: Int { 0 }
    public var endIndex: Int { self.flat.count / 2 }
    public subscript(position: Int) -> Element { (self.flat[position * 2], self.flat[position * 2 + 1]) }

    /// The keys, in the order of the pairs.
    public var keys: some RandomAccessCollection<PickleValue> { self.lazy.map(\.key) }
    /// The values, in the order of the pairs.
    public var values: some RandomAccessCollection<PickleValue> { self.lazy.map(\.value) }

    private func lastPlace(of key: PickleValue) -> Int? {
        var place = self.flat.count - 2
        while place >= 0 {
            if self.flat[place] == key { return place }
            place -= 2
        }
        return nil
    }

    /// The value of a key. Looks at every pair; for many look-ups in a large dictionary, build a Swift one.
    public subscript(key: PickleValue) -> PickleValue? {
        get { self.lastPlace(of: key).map { self.flat[$0 + 1] } }
        set {
            switch (self.lastPlace(of: key), newValue) {
            case (let place?, let value?): self.flat[place + 1] = value
            case (let place?, nil): self.flat.removeSubrange(place..<place + 2)
            case (nil, let value?): self.flat += [key, value]
            case (nil, nil): break
            }
        }
    }

    /// The value of a text key.
    public subscript(name: String) -> PickleValue? {
        get {
            var place = self.flat.count - 2
            while place >= 0 {
                if case .string(let key) = self.flat[place], key == name { return self.flat[place + 1] }
                place -= 2
            }
            return nil
        }
        set { self[.string(name)] = newValue }
    }

    private var table: [HashedValue: PickleValue] {
        .init(self.map { (HashedValue($0.key), $0.value) }, uniquingKeysWith: { $1 })
    }

    public static func == (lhs: Self, rhs: Self) -> Bool {
        lhs.flat.count == rhs.flat.count && (lhs.flat.isStored(with: rhs.flat) || lhs.table == rhs.table)
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.table)
    }
}

/// A Python set: distinct values in no order that matters.
public struct PickleSet: Sendable, Hashable, RandomAccessCollection, ExpressibleByArrayLiteral {
    /// The elements in the order they were read or given, which carries no meaning.
    let elements: [PickleValue]

    init(distinct elements: [PickleValue]) { self.elements = elements }

    /// The distinct values among the given ones.
    public init(_ elements: some Sequence<PickleValue>) {
        var seen: Set<HashedValue> = []
        self.elements = elements.filter { seen.insert(HashedValue($0)).inserted }
    }

    public init(arrayLiteral elements: PickleValue...) { self.init(elements) }

    public var startIndex: Int { 0 }
    public var endIndex: Int { self.elements.count }
    public subscript(position: Int) -> PickleValue { self.elements[position] }

    private var table: Set<HashedValue> { Set(self.elements.lazy.map { HashedValue($0) }) }

    public static func == (lhs: Self, rhs: Self) -> Bool { lhs.elements.isStored(with: rhs.elements) || lhs.table == rhs.table }

    public func hash(into hasher: inout Hasher) {
        // Equal elements have equal hashes, so that none needs to be compared here.
        hasher.combine(Set(self.elements.lazy.map(\.hashValue)))
    }
}

extension [PickleValue] {
    /// Whether both are one array in memory, as parts are that a pickle refers to more than once: equal without a look at the values.
    fileprivate func isStored(with other: Self) -> Bool {
        self.count == other.count
            && self.withUnsafeBufferPointer { here in other.withUnsafeBufferPointer { here.baseAddress == $0.baseAddress } }
    }
}

/// A value with its hash, which is computed once.
///
/// A table hashes a key when the key is put in, and again when the table itself is hashed. With keys that are tables of tables, each
/// level would double the time.
private struct HashedValue: Hashable {
    private let value: PickleValue
    private let hash: Int

    init(_ value: PickleValue) {
        self.value = value
        self.hash = value.hashValue
    }

    static func == (lhs: Self, rhs: Self) -> Bool { lhs.hash == rhs.hash && lhs.value == rhs.value }

    func hash(into hasher: inout Hasher) { hasher.combine(self.hash) }
}
