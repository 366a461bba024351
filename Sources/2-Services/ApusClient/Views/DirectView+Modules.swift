import ApusFunctions

// What engines that run Swift functions load.
extension DirectView {
    /// Loads a compiled module into each engine's program: a shared library, whose `@Remote` functions the engine has from then on.
    ///
    /// ```swift
    /// try await view.loadModule("/opt/statistics/libStatistics.so")
    /// let mean: [Double] = try await view.apply(.named("Statistics.mean"), [1.0, 2, 4])
    /// ```
    ///
    /// A program that has the module as well calls its functions as its own, with their types. The controller learns which engines
    /// have the functions, and balances tasks that call them among those. A library stays loaded until its engine ends; another build
    /// of it needs new engines.
    ///
    /// The library and the engine's program must share one copy of Apus: both link the product `ApusDynamic` in place of `Apus`.
    ///
    /// - Parameter library: The library's file as the engines see it; a name without a slash is looked for where the system's loader
    ///   looks.
    /// - Returns: The functions that are new, by their whole names.
    /// - Throws: ``CompositeError`` with an error for each engine that cannot load it, and why; ``ApusError`` with code `notSupported`
    ///   where engines are no programs of Apus.
    @discardableResult
    public func loadModule(_ library: String) async throws -> [String] {
        let added: [[String]]
        do { added = try await self.apply(.named("ApusEngine.loadFunctionLibrary"), library) } catch {
            let errors = (error as? CompositeError)?.errors ?? [error]
            guard errors.allSatisfy({ ($0 as? RemoteError)?.name == "NameError" }) else { throw error }
            throw ApusError(
                .notSupported,
                "these engines run Python alone, which imports its modules by syncImports(…); \(library) is Swift's",
                cause: error)
        }
        return Set(added.joined()).sorted()
    }
}
