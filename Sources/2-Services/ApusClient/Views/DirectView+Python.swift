#if canImport(FoundationEssentials)
    private import FoundationEssentials
#else
    private import Foundation
#endif

// Methods that only Python engines can carry out.
extension DirectView {
    /// Runs a local file's source text in each engine's namespace.
    @discardableResult
    public func run(file: String, silent: Bool = true) async throws -> [ExecuteReply] {
        try await self.execute(sourceText(of: file), silent: silent)
    }

    /// Imports modules into each engine's namespace: `syncImports("numpy", "scipy.linalg as la")`.
    ///
    /// - Parameter quiet: Whether to import without a line for each module on standard error.
    public func syncImports(_ modules: String..., quiet: Bool = false) async throws {
        for module in modules where !quiet { ProgressLine.write("importing \(module) on engine(s)\n") }
        try await self.execute(modules.map { "import \($0)" }.joined(separator: "\n"))
    }

    /// Makes the engines serialise with Python's own pickle, the default.
    public func usePickle() async throws { try await self.serialize(with: "use_pickle") }

    /// Makes the engines serialise with dill, which can serialise closures.
    public func useDill() async throws { try await self.serialize(with: "use_dill") }

    /// Makes the engines serialise with cloudpickle.
    public func useCloudpickle() async throws { try await self.serialize(with: "use_cloudpickle") }

    private func serialize(with function: String) async throws {
        _ = try await self.apply(
            PythonFunction("ipyparallel.serialize.canning." + function), returning: IgnoredValue.self)
    }
}

extension EngineView {
    /// Runs a local file's source text in the engine's namespace.
    @discardableResult
    public func run(file: String, silent: Bool = true) async throws -> ExecuteReply {
        try await self.execute(sourceText(of: file), silent: silent)
    }
}

private func sourceText(of file: String) throws -> String {
    do { return try String(contentsOfFile: file, encoding: .utf8) } catch {
        throw ApusError(.badArgument, "the file \(file) cannot be read", cause: error)
    }
}

/// Decodes from any result and keeps nothing of it, for calls whose result is not needed.
struct IgnoredValue: Decodable {
    init(from decoder: any Decoder) {}
}
