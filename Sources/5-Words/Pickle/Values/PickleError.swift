/// Why a pickle could not be read, or a value could not be turned into a Swift type or an array.
public struct PickleError: Error, Sendable, CustomStringConvertible {
    /// The kinds of errors. More codes may come, so a `switch` needs a `default`.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case malformed, unsupported, limitExceeded, recursive
            case typeMismatch, missingKey, outOfRange, shapeMismatch, scalarMismatch, invalidValue
        }
        private let value: Value
        private init(_ value: Value) { self.value = value }
        public var description: String { self.value.rawValue }

        /// The bytes are no pickle, or end early.
        public static let malformed = Code(.malformed)
        /// The pickle asks for something only a Python process could give it (a persistent id, an extension code).
        public static let unsupported = Code(.unsupported)
        /// The pickle is deeper or larger than the reader's limits allow.
        public static let limitExceeded = Code(.limitExceeded)
        /// An object contains itself, so it has no finite value.
        public static let recursive = Code(.recursive)
        /// A value is of another type than the one asked for.
        public static let typeMismatch = Code(.typeMismatch)
        /// A dictionary has no entry for a key that is needed.
        public static let missingKey = Code(.missingKey)
        /// A number does not fit the type asked for, or a sequence is too short.
        public static let outOfRange = Code(.outOfRange)
        /// An array's shape does not match its data, or is not the one needed.
        public static let shapeMismatch = Code(.shapeMismatch)
        /// An array's elements are of another type than the one asked for.
        public static let scalarMismatch = Code(.scalarMismatch)
        /// A value has the right type and makes no sense.
        public static let invalidValue = Code(.invalidValue)
    }

    /// The kind of the error.
    public let code: Code
    /// The message: the expected and the found value, without the place.
    public let message: String
    /// Where in the value: "argument 2, points[3].x"; empty for the whole value.
    public let place: String
    /// The error behind this one, such as that of a type's own `init(from:)`.
    public let cause: (any Error)?

    /// An error of a kind, in words; for types that find their own values wrong.
    public init(_ code: Code, _ message: String, place: String = "", cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.place = place
        self.cause = cause
    }

    public var description: String { self.place.isEmpty ? self.message : "\(self.place): \(self.message)" }

    /// The same error with a place in the value.
    func at(_ place: String) -> PickleError {
        place.isEmpty ? self : PickleError(self.code, self.message, place: place, cause: self.cause)
    }

    static func mismatch(expected: String, found: PickleValue) -> PickleError {
        PickleError(.typeMismatch, "expected \(expected), found \(found.summary)")
    }
}
