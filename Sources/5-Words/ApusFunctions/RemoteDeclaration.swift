/// The declaration of a remote function in its source: its place, its name and its parameters.
///
/// The `@Remote` and `#remote` macros write these; there is no reason to make one by hand.
public final class RemoteDeclaration: Sendable {
    /// A parameter, spelled as in the source.
    public struct Parameter: Sendable, Hashable {
        /// What the caller writes before the argument; `nil` for `_`.
        public let label: String?
        /// What the body calls the value; Python callers may use it too. `nil` for `_`.
        public let name: String?
        /// The type's source text.
        public let type: String

        /// A parameter as the macro found it.
        public init(label: String?, name: String?, type: String) {
            self.label = label
            self.name = name
            self.type = type
        }
    }

    /// Module and file, as `#fileID` gives them: "MyProgram/Sums.swift".
    public let fileID: String
    /// The line of the declaration, from 1.
    public let line: Int
    /// The column of the declaration, from 1.
    public let column: Int
    /// The name as callers write it within the module: "square", "Statistics.mean"; for a closure, "closure".
    public let path: String
    /// The function as its source declares it: "square(_ x: Double) -> Double".
    public let signature: String
    /// The parameters, in their order.
    public let parameters: [Parameter]
    /// For a closure, a hash over its place and its source text, so that another build's closure is never mistaken for it.
    /// `nil` for a declared function, which is known by its name.
    public let closureID: String?
    /// The name that no other function of the program has: "MyProgram.Statistics.mean"; for a closure, its place and hash,
    /// "MyProgram/Sums.swift:12:5#8c1f…".
    public let qualifiedName: String

    /// A declaration as the macro found it.
    public init(
        fileID: String, line: Int, column: Int, path: String, signature: String, parameters: [Parameter],
        closureID: String? = nil
    ) {
        self.fileID = fileID
        self.line = line
        self.column = column
        self.path = path
        self.signature = signature
        self.parameters = parameters
        self.closureID = closureID
        self.qualifiedName =
            if let closureID { "\(fileID):\(line):\(column)#\(closureID)" } else { "\(fileID.prefix { $0 != "/" }).\(path)" }
    }

    /// The module that declares the function.
    public var module: Substring { self.fileID.prefix { $0 != "/" } }

    /// The last part of the name: "mean" for "Statistics.mean".
    public var shortName: Substring { self.path.split(separator: ".").last ?? self.path[...] }

    /// "MyProgram/Sums.swift:12:5".
    public var sourceLocation: String { "\(self.fileID):\(self.line):\(self.column)" }
}
