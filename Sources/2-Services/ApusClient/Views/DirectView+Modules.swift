import ApusFunctions

// Libraries that engines of Apus load while they run.
extension DirectView {
    /// Loads a compiled module, a shared library, into each engine's program; from then on the engine has the module's remote
    /// functions.
    ///
    /// ```swift
    /// try await view.loadModule("/opt/statistics/libStatistics.so")
    /// let mean: [Double] = try await view.apply(.named("Statistics.mean"), [1.0, 2, 4])
    /// ```
    ///
    /// A program that links the module too calls the module's functions like its own, with their types. The controller learns
    /// which engines have the functions, and sends load-balanced tasks that call them to those engines. A library stays loaded
    /// until its engine ends; to load another build of the library, start new engines.
    ///
    /// The library and the engine's program must share one copy of Apus: both link the product `ApusDynamic` in place of `Apus`.
    ///
    /// - Parameter library: The library's file as the engines see it; a name without a slash is looked for where the system's
    ///   loader looks.
    /// - Returns: The functions that are new, by their whole names.
    /// - Throws: ``CompositeError`` with the reason of each engine that cannot load the library; ``ApusError`` with code
    ///   `notSupported` where the engines are not programs of Apus.
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
