/// Why a function could not be called here; the function itself has not run.
public struct FunctionCallError: Error, Sendable, CustomStringConvertible {
    /// The kinds of mistakes. More codes may come, so a `switch` needs a `default`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String { case notFound, ambiguousName, wrongArguments, wrongType }
        private let value: Value
        private init(_ value: Value) { self.value = value }
        public var description: String { self.value.rawValue }

        /// This executable has no such function: another build, or a misspelled name.
        public static let notFound = Code(.notFound)
        /// Several functions have this short name; the qualified name tells them apart.
        public static let ambiguousName = Code(.ambiguousName)
        /// An argument is missing, given twice, or one too many.
        public static let wrongArguments = Code(.wrongArguments)
        /// An argument is not of its parameter's type.
        public static let wrongType = Code(.wrongType)
    }

    /// The kind of the mistake.
    public let code: Code
    /// The message: the function, the argument, the expected value and the one found.
    public let message: String
    /// The error of reading an argument; nil where that was not the mistake.
    public let cause: (any Error)?
    /// The name that was looked up; `nil` if the function was found.
    public let function: String?
    /// Functions whose names resemble the one looked up, or that all have that name.
    public let nearMatches: [String]

    package init(
        _ code: Code, _ message: String, cause: (any Error)? = nil, function: String? = nil, nearMatches: [String] = []
    ) {
        self.code = code
        self.message = message
        self.cause = cause
        self.function = function
        self.nearMatches = nearMatches
    }

    public var description: String { self.message }

    /// The exception that a Python caller sees, the one that Python itself raises for the same mistake.
    package var pythonName: String {
        switch self.code {
        case .notFound, .ambiguousName: "NameError"
        default: "TypeError"
        }
    }
}
