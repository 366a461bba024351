import Pickle

/// Hands a call's arguments to a function, in the order of its parameters.
struct ArgumentReader {
    private let call: FunctionCall
    private let declaration: RemoteDeclaration
    private var position = 0

    /// - Throws: ``FunctionCallError`` if there are too many arguments, or one by a name no parameter has.
    init(_ call: borrowing FunctionCall, of declaration: RemoteDeclaration) throws {
        self.call = copy call
        self.declaration = declaration
        if call.arguments.count > declaration.parameters.count || !call.keywords.isEmpty {
            try self.checkNames()
        }
    }

    /// The next parameter's argument.
    ///
    /// - Throws: ``FunctionCallError`` if it is missing or of another type.
    mutating func next<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let position = self.position
        self.position += 1
        let value: PickleValue
        if position < self.call.arguments.count {
            value = self.call.arguments[position]
        } else if let named = self.keyword(for: self.declaration.parameters[position]) {
            value = named.value
        } else {
            throw FunctionCallError(
                .wrongArguments,
                "\(self.declaration.called) needs \(self.describe(position)) of type \(type), and the call gives none")
        }
        do {
            return try decodeValue(type, from: value)
        } catch {
            throw FunctionCallError(
                .wrongType,
                "\(self.declaration.called) takes \(type) as \(self.describe(position)), "
                    + "and the call gives \(summary(of: value)): \(error)",
                cause: error)
        }
    }

    private func keyword(for parameter: RemoteDeclaration.Parameter) -> (key: String, value: PickleValue)? {
        for key in [parameter.label, parameter.name] {
            if let key, let value = self.call.keywords[key] { return (key, value) }
        }
        return nil
    }

    private func checkNames() throws {
        let parameters = self.declaration.parameters
        let given = self.call.arguments.count
        guard given <= parameters.count else {
            throw FunctionCallError(
                .wrongArguments,
                "\(self.declaration.called) takes \(count(parameters.count, "argument")), and the call gives \(given)")
        }
        var unknown = Set(self.call.keywords.keys)
        for (position, parameter) in parameters.enumerated() {
            guard let keyword = self.keyword(for: parameter) else { continue }
            unknown.remove(keyword.key)
            guard position >= given else {
                throw FunctionCallError(
                    .wrongArguments,
                    "\(self.declaration.called) is given \(self.describe(position)) twice: "
                        + "by position and as '\(keyword.key)'")
            }
        }
        guard let name = unknown.min() else { return }
        let names = parameters.compactMap { $0.label ?? $0.name }.map { "'\($0)'" }
        throw FunctionCallError(
            .wrongArguments,
            "\(self.declaration.called) has no parameter '\(name)'"
                + (names.isEmpty ? "" : "; its parameters are \(names.joined(separator: ", "))"))
    }

    /// The name of an argument in errors: "argument 2 ('to')".
    private func describe(_ position: Int) -> String {
        let parameter = self.declaration.parameters[position]
        let name = parameter.label ?? parameter.name
        return "argument \(position + 1)" + (name.map { " ('\($0)')" } ?? "")
    }
}

/// Hands a call's captured values to a closure's code, in the order of its capture list.
///
/// The values were encoded by the same build, so one that cannot be decoded did not come from this program's `#remote`.
struct CaptureReader {
    private let captured: [PickleValue]
    private let declaration: RemoteDeclaration
    private var position = 0

    init(_ call: borrowing FunctionCall, of declaration: RemoteDeclaration) throws {
        self.captured = call.captured
        self.declaration = declaration
    }

    mutating func next<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let position = self.position
        self.position += 1
        guard position < self.captured.count else {
            throw FunctionCallError(
                .wrongArguments,
                "\(self.declaration.called) captures more values than the call brings, which is \(self.captured.count)")
        }
        do {
            return try decodeValue(type, from: self.captured[position])
        } catch {
            throw FunctionCallError(
                .wrongType,
                "\(self.declaration.called) captures \(type) as value \(position + 1), "
                    + "and the call brings \(summary(of: self.captured[position])): \(error)",
                cause: error)
        }
    }

    func finish() throws {
        guard self.position == self.captured.count else {
            throw FunctionCallError(
                .wrongArguments,
                "\(self.declaration.called) captures \(count(self.position, "value")), and the call brings \(self.captured.count)"
            )
        }
    }
}

extension RemoteDeclaration {
    /// How errors name the function: "MyProgram.move(from:to:)", "the closure at MyProgram/Sums.swift:12:5".
    var called: String {
        guard self.closureID == nil else { return "the closure at \(self.sourceLocation)" }
        return "\(self.qualifiedName)(\(self.parameters.map { "\($0.label ?? "_"):" }.joined()))"
    }
}

private func count(_ number: Int, _ noun: String) -> String {
    switch number {
    case 0: "no \(noun)s"
    case 1: "one \(noun)"
    default: "\(number) \(noun)s"
    }
}

/// A value for an error message: short, whatever the caller sent.
private func summary(of value: PickleValue) -> String {
    switch value {
    case .none: return "None"
    case .bool(let bool): return bool ? "True" : "False"
    case .int(let int): return "the integer \(int)"
    case .float(let double): return "the number \(double)"
    case .string(let string): return "the string '\(string.prefix(40))\(string.count > 40 ? "…" : "")'"
    case .list(let elements): return "a list of \(count(elements.count, "element"))"
    case .tuple(let elements): return "a tuple of \(count(elements.count, "element"))"
    default:
        // The case's name says the kind: "dictionary", "array".
        let kind = Mirror(reflecting: value).children.first?.label ?? ""
        return kind.isEmpty ? "a value of another type" : "a value of type \(kind)"
    }
}
