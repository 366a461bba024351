import CFunctionSection

/// A type that stands for a remote function, so that the running program finds the function.
///
/// The macros write one for each function. The compiler lists every conformance in a section of the binary, and the linker
/// gathers the sections of all object files, so no start-up code has to register a function. A constant in a section of our own
/// (`@section`) would do as well, but after any error that the compiler finds late (a value that is used before it is set, one
/// that is sent while it is used) the compiler also reports every such constant as not constant.
public protocol __RemoteEntry {
    /// The function. Reading this property may run code of the program.
    static var function: __FoundFunction { get }
}

/// A remote function as an engine keeps it. Public for the macros' expansions only.
public struct __FoundFunction: Sendable {
    let record: FunctionRecord
}

/// The remote functions of each image of this process, as the compiler left them in the binaries.
enum FunctionSection {
    /// A type that stands for a function, by its descriptor in the image that has it.
    struct Entry {
        let descriptor: UnsafeRawPointer

        /// Where the image begins.
        var image: UInt { UInt(bitPattern: apus_image_of(self.descriptor)) }

        var function: FunctionRecord? {
            let type = unsafeBitCast(apus_metadata_of_type(self.descriptor), to: Any.Type.self)
            return (type as? any __RemoteEntry.Type)?.function.record
        }
    }

    /// The entries of all images loaded now.
    static func all() -> [Entry] {
        // The metadata of an existential type holds its kind, its flags, the number of its protocols, and the protocols.
        let existential = unsafeBitCast((any __RemoteEntry).self as Any.Type, to: UnsafeRawPointer.self)
        let descriptor = existential.load(fromByteOffset: 2 * MemoryLayout<UInt>.stride, as: UnsafeRawPointer.self)
        var entries: [Entry] = []
        withUnsafeMutablePointer(to: &entries) { entries in
            // The visitor only notes the types: the loader's lock is held, and their functions may run any code.
            apus_visit_conforming_types(
                descriptor,
                { type, context in
                    context.assumingMemoryBound(to: [Entry].self).pointee.append(Entry(descriptor: type))
                }, entries)
        }
        return entries
    }

    /// Makes the records of all functions in images loaded now, except those of libraries that were refused.
    static func records() -> [FunctionRecord] { self.all().filter { !isRefused($0) }.compactMap(\.function) }
}

// MARK: - For the macros' expansions

extension __FoundFunction {
    /// A closure that gives a value. `make` holds its code: given the captured values, it gives the closure.
    public init<Output: Codable & Sendable, each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Output)
    ) {
        self.init(record: FunctionRecord(declaration, synchronous: make, result: .value))
    }

    /// An asynchronous closure that gives a value.
    @_disfavoredOverload
    public init<Output: Codable & Sendable, each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output)
    ) {
        self.init(record: FunctionRecord(declaration, asynchronous: make, result: .value))
    }

    /// A closure that gives nothing.
    public init<each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Void)
    ) {
        self.init(record: FunctionRecord(declaration, synchronous: make, result: .nothing))
    }

    /// An asynchronous closure that gives nothing.
    @_disfavoredOverload
    public init<each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Void)
    ) {
        self.init(record: FunctionRecord(declaration, asynchronous: make, result: .nothing))
    }

    /// A closure with a value that cannot travel. The compiler reports the error where the closure stands; with this initializer
    /// it reports no second one in the expansion.
    @_disfavoredOverload
    public init<Output, each Capture, each Input>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output)
    ) {
        fatalError("\(declaration.qualifiedName) was not compiled")
    }
}
