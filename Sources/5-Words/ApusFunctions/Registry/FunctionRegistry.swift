import Locks

/// The remote functions of this process, found in the binary when first asked for.
///
/// An engine loads the registry when it starts, so that a program with two functions of one name stops then and not at a later
/// task.
package final class FunctionRegistry: Sendable {
    /// The functions of the executable and of the libraries loaded at first use.
    ///
    /// Stops the program if two functions have the same qualified name: it is a mistake in the program's own source.
    package static let shared: FunctionRegistry = {
        let registry = FunctionRegistry()
        do {
            try registry.loadNewImages()
        } catch {
            fatalError("this program's remote functions cannot be used: \(error)")
        }
        return registry
    }()

    private let table = Mutex(FunctionTable())

    package init() {}

    /// Adds the functions of libraries loaded since the last search. Call this after `dlopen`; known functions stay.
    ///
    /// - Throws: ``FunctionTable/DuplicateName``; then no function is added.
    package func loadNewImages() throws {
        let records = FunctionSection.records()
        try self.table.withLock { table in
            var whole = table
            try whole.add(records)
            table = whole
        }
    }

    /// The function of this name, qualified or short.
    ///
    /// - Throws: ``FunctionCallError`` with code `notFound` or `ambiguousName`.
    package func lookup(_ name: String) throws(FunctionCallError) -> FunctionRecord {
        try self.table.withLock { (table) throws(FunctionCallError) in try table.lookup(name) }
    }

    /// All functions, by qualified name.
    package var all: [FunctionRecord] { self.table.withLock { $0.all } }

    /// The whole names of all functions that have names; closures have none.
    package var names: [String] { self.all.filter { $0.declaration.closureID == nil }.map(\.qualifiedName) }
}
