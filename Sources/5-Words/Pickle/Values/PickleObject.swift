/// An object of a class not known here, as the data its pickle holds: what to call, with what, and what to set afterwards.
///
/// Nothing is ever called. The object can be looked at and written again unchanged.
public struct PickleObject: Sendable, Hashable {
    /// How Python would make the object.
    public enum Construction: Sendable, Hashable {
        /// Call the constructor with the arguments (`callable(*arguments)`).
        case call
        /// Make an instance of the class without initialising it (`cls.__new__(cls, *arguments, **keywords)`).
        case new
    }

    /// The class or function, usually a ``PickleValue/global(_:)``.
    public var constructor: PickleValue
    /// How Python uses the constructor and the arguments.
    public var construction: Construction
    /// The positional arguments, in their order.
    public var arguments: [PickleValue]
    /// Only for ``Construction/new``.
    public var keywords: PickleDictionary
    /// The argument of `__setstate__`, or the new `__dict__`; nil when the pickle sets no state.
    public var state: PickleValue?
    /// Elements appended, for a subclass of list.
    public var appended: [PickleValue]
    /// Entries set, for a subclass of dict.
    public var entries: PickleDictionary

    /// An object from what Python's `__reduce__` would give for it.
    public init(
        constructor: PickleValue, construction: Construction = .call, arguments: [PickleValue] = [],
        keywords: PickleDictionary = [:], state: PickleValue? = nil, appended: [PickleValue] = [], entries: PickleDictionary = [:]
    ) {
        self.constructor = constructor
        self.construction = construction
        self.arguments = arguments
        self.keywords = keywords
        self.state = state
        self.appended = appended
        self.entries = entries
    }

    /// An instance of a class with the given attributes, as Python pickles plain objects.
    public init(instanceOf type: PickleGlobal, attributes: PickleDictionary) {
        self.init(constructor: .global(type), construction: .new, state: .dictionary(attributes))
    }

    /// The name of the class or function, when it is one.
    public var global: PickleGlobal? {
        if case .global(let global) = self.constructor { global } else { nil }
    }

    /// The attributes of a plain object: its state, if that is a dictionary.
    public var attributes: PickleDictionary? {
        if case .dictionary(let attributes)? = self.state { attributes } else { nil }
    }

    /// Whether the constructor is the class or function of this module and name; subclasses are not known here.
    public func isInstance(of module: String, _ name: String) -> Bool {
        guard case .global(let global) = self.constructor else { return false }
        return global.name == name && global.module == module
    }

    /// The numbers of Python's `range`, if this is one.
    var integerRange: IntegerRange? {
        guard self.isInstance(of: "builtins", "range"), self.arguments.count == 3,
            case .int(let start) = self.arguments[0], case .int(let stop) = self.arguments[1],
            case .int(let step) = self.arguments[2]
        else { return nil }
        return IntegerRange(start: start, stop: stop, step: step)
    }
}

/// The numbers of a Python `range`, counted without walking them.
struct IntegerRange: RandomAccessCollection {
    let start: Int
    let step: Int
    let count: Int

    /// Nil when the step is zero or the distance does not fit an `Int`.
    init?(start: Int, stop: Int, step: Int) {
        let (distance, overflow) = stop.subtractingReportingOverflow(start)
        guard !overflow, step != 0, step != .min, distance != .min else { return nil }
        self.start = start
        self.step = step
        // Rounded up; nothing when the step leads away from the stop.
        let leadsThere = distance != 0 && (distance > 0) == (step > 0)
        self.count = leadsThere ? (abs(distance) - 1) / abs(step) + 1 : 0
    }

    var startIndex: Int { 0 }
    var endIndex: Int { self.count }
    subscript(position: Int) -> Int { self.start + position * self.step }
}
