import NIOCore
package import Pickle

// The forms that a request's function can have.

extension PickleValue {
    private static let referenceClass = PickleValue.global(module: CannedValue.module, name: "Reference")

    /// An ipyparallel `Reference`: a Python engine evaluates the expression in its namespace and takes what that gives; an
    /// Apus engine looks up the name.
    package static func reference(_ expression: String) -> PickleValue {
        let attributes: PickleDictionary = ["name": .string(expression), "buffers": []]
        return .object(PickleObject(constructor: self.referenceClass, construction: .new, state: .dictionary(attributes)))
    }

    /// The expression of a `Reference`, if this is one.
    package var referenceName: String? {
        guard case .object(let object) = self, object.isInstance(of: CannedValue.module, "Reference"),
            case .string(let name)? = object.attributes?["name"]
        else { return nil }
        return name
    }

    /// The module and name of a Python function, sent by name or as code (`CannedFunction`).
    ///
    /// Code is bytes of one Python version and never looked at; the module is `__main__` for functions typed in.
    package var pythonFunctionName: PickleGlobal? {
        switch self {
        case .global(let global): return global
        case .object(let object) where object.isInstance(of: CannedValue.module, "CannedFunction"):
            guard case .string(let module)? = object.attributes?["module"],
                case .string(let name)? = object.attributes?["__name__"]
            else {
                return nil
            }
            return PickleGlobal(module: module, name: name)
        default: return nil
        }
    }

    /// Whether this is a Python function as code, which only a Python engine of the same version can run.
    package var isPythonCode: Bool {
        guard case .object(let object) = self else { return false }
        return object.isInstance(of: CannedValue.module, "CannedFunction")
    }

    /// The function and the arguments bound to it, if this is Python's `functools.partial`.
    package var partialCall: PartialCall? {
        guard case .object(let object) = self else { return nil }
        if object.isInstance(of: CannedValue.module, "CannedPartial") { return PartialCall(canned: object) }
        if object.isInstance(of: "functools", "partial") { return PartialCall(pickled: object) }
        return nil
    }

    /// The function and the condition for running it, if this is ipyparallel's `dependent` (the decorators `@depend` and
    /// `@require`).
    package var dependentCall: DependentCall? {
        guard case .object(let object) = self, object.isInstance(of: CannedValue.module, "CannedObject"),
            case .object(let inner)? = object.attributes?["obj"], inner.global?.name == "dependent", let state = inner.attributes,
            let function = state["f"], let condition = state["df"], let arguments = try? state["dargs"]?.elements()
        else { return nil }
        var keywords: [(String, PickleValue)] = []
        if case .dictionary(let named)? = state["dkwargs"] { keywords = PartialCall.named(named) }
        return DependentCall(function: function, condition: condition, arguments: arguments, keywords: keywords)
    }
}

/// A function with some of its arguments bound.
package struct PartialCall: Sendable {
    package let function: PickleValue
    package let arguments: [PickleValue]
    package let keywords: [(String, PickleValue)]

    /// `CannedPartial`: the blocks of all arguments lie in one list, each argument's number of them beside it.
    fileprivate init?(canned object: PickleObject) {
        guard let state = object.attributes, let function = state["func"], case .list(let arguments)? = state["args"],
            case .dictionary(let keywords)? = state["keywords"]
        else { return nil }
        var blocks: ArraySlice<PickleValue> = []
        if case .list(let buffers)? = state["buffers"] { blocks = buffers[...] }
        func unwrapped(_ value: PickleValue, _ count: PickleValue?) -> PickleValue? {
            var value = value
            if case .int(let count)? = count, count > 0, count <= blocks.count, case .object(var object) = value,
                var attributes = object.attributes
            {
                attributes["buffers"] = .list(Array(blocks.prefix(count)))
                blocks = blocks.dropFirst(count)
                object.state = .dictionary(attributes)
                value = .object(object)
            }
            var none: ArraySlice<ByteBuffer> = []
            return try? CannedValue.unwrapped(value, blocks: &none)
        }
        var counts: [PickleValue] = []
        if case .list(let listed)? = state["arg_buffer_counts"] { counts = listed }
        var bound: [PickleValue] = []
        for (place, argument) in arguments.enumerated() {
            guard let argument = unwrapped(argument, place < counts.count ? counts[place] : nil) else { return nil }
            bound.append(argument)
        }
        var keywordCounts: PickleDictionary = [:]
        if case .dictionary(let counted)? = state["keyword_buffer_counts"] { keywordCounts = counted }
        var named: [(String, PickleValue)] = []
        for (name, value) in Self.named(keywords).sorted(by: { $0.0.utf8.lexicographicallyPrecedes($1.0.utf8) }) {
            guard let value = unwrapped(value, keywordCounts[name]) else { return nil }
            named.append((name, value))
        }
        self.function = function
        self.arguments = bound
        self.keywords = named
    }

    /// `functools.partial` as pickle makes it: state `(function, arguments, keywords, attributes)`.
    fileprivate init?(pickled object: PickleObject) {
        guard case .tuple(let state)? = object.state, state.count >= 3, case .tuple(let arguments) = state[1] else { return nil }
        self.function = state[0]
        self.arguments = arguments
        if case .dictionary(let keywords) = state[2] { self.keywords = Self.named(keywords) } else { self.keywords = [] }
    }

    fileprivate static func named(_ dictionary: PickleDictionary) -> [(String, PickleValue)] {
        dictionary.compactMap { if case .string(let name) = $0.key { (name, $0.value) } else { nil } }
    }
}

/// A function that may only run where a condition holds.
package struct DependentCall: Sendable {
    package let function: PickleValue
    /// A function that is called first. If it gives false or raises `UnmetDependency`, the task must go to another engine.
    package let condition: PickleValue
    package let arguments: [PickleValue]
    package let keywords: [(String, PickleValue)]

    package init(
        function: PickleValue, condition: PickleValue, arguments: [PickleValue], keywords: [(String, PickleValue)]
    ) {
        self.function = function
        self.condition = condition
        self.arguments = arguments
        self.keywords = keywords
    }

    /// The call as Python's clients send it: an ipyparallel `dependent` in the wrapper that looks after its functions.
    package var pickled: PickleValue {
        let dependent = PickleObject(
            instanceOf: PickleGlobal(module: "ipyparallel.controller.dependency", name: "dependent"),
            attributes: [
                "f": self.function, "df": self.condition, "__name__": "f", "dargs": .tuple(self.arguments),
                "dkwargs": .dictionary(PickleDictionary(self.keywords.map { (.string($0.0), $0.1) })),
            ])
        let wrapper = PickleObject(
            instanceOf: PickleGlobal(module: CannedValue.module, name: "CannedObject"),
            attributes: [
                "keys": .list(["f", "df"]), "obj": .object(dependent),
                "hook": .global(module: CannedValue.module, name: "_uncan_dependent_hook"),
                "buffers": .list([]),
            ])
        return .object(wrapper)
    }
}
