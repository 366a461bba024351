import CFunctionSection

/// One entry of the binary section that lists remote functions: a mark, the layout's version, and how to get the function.
///
/// The macros write these as constants that the compiler lays out, so the section can be read before any code runs.
public typealias __FunctionSectionEntry = (
    mark: UInt32, version: UInt32, accessor: @convention(c) (UnsafeMutableRawPointer) -> Void
)

/// The binary section that lists the remote functions of each image of this process.
///
/// The linker gathers the entries of all object files, so that no start-up code has to register anything and nothing is
/// forgotten. Public for the macros' expansions only.
public enum __FunctionSection {
    /// "apus" in ASCII; padding between entries has none.
    static let mark: UInt32 = 0x6170_7573
    static let version: UInt32 = 1

    /// The sections of all images loaded now.
    static func all() -> [UnsafeRawBufferPointer] {
        var bounds: [UnsafeRawBufferPointer] = []
        withUnsafeMutablePointer(to: &bounds) { bounds in
            // The visitor only notes the bounds: the loader's lock is held, and accessors may run any code.
            apus_visit_function_sections(
                { start, stop, context in
                    context.assumingMemoryBound(to: [UnsafeRawBufferPointer].self).pointee
                        .append(UnsafeRawBufferPointer(start: start, count: stop - start))
                }, bounds)
        }
        return bounds
    }

    /// Makes the records of all functions in images loaded now, but for libraries that were refused.
    ///
    /// - Throws: ``FunctionLayoutError``.
    static func records() throws(FunctionLayoutError) -> [FunctionRecord] {
        var records: [FunctionRecord] = []
        for section in self.all() where !isRefused(section) { records += try self.records(in: section) }
        return records
    }

    private static func records(in section: UnsafeRawBufferPointer) throws(FunctionLayoutError) -> [FunctionRecord] {
        var records: [FunctionRecord] = []
        for place in try self.entryPlaces(in: section) {
            let entry = section.load(fromByteOffset: place, as: __FunctionSectionEntry.self)
            var slot: FunctionRecord?
            withUnsafeMutablePointer(to: &slot) { entry.accessor($0) }
            if let slot { records.append(slot) }
        }
        return records
    }

    /// Where in the section entries begin that can be called. A section that no compiler of ours aligned has none.
    ///
    /// - Throws: ``FunctionLayoutError`` when an entry is of another version.
    static func entryPlaces(in section: UnsafeRawBufferPointer) throws(FunctionLayoutError) -> [Int] {
        typealias Entry = __FunctionSectionEntry
        guard let start = section.baseAddress, UInt(bitPattern: start) % UInt(MemoryLayout<Entry>.alignment) == 0 else {
            return []
        }
        let stride = MemoryLayout<Entry>.stride
        var places: [Int] = []
        for place in Swift.stride(from: 0, through: section.count - stride, by: stride)
        where section.load(fromByteOffset: place, as: UInt32.self) == self.mark {
            let version = section.load(fromByteOffset: place + MemoryLayout<UInt32>.stride, as: UInt32.self)
            guard version == self.version else { throw FunctionLayoutError(version: version) }
            // An address that the loader never filled in is null.
            if section.load(fromByteOffset: place + 2 * MemoryLayout<UInt32>.stride, as: UInt.self) != 0 { places.append(place) }
        }
        return places
    }

    static func store(_ record: FunctionRecord, into slot: UnsafeMutableRawPointer) {
        slot.assumingMemoryBound(to: FunctionRecord?.self).pointee = record
    }
}

/// Functions that were compiled with the macros of another version of Apus than the library's.
struct FunctionLayoutError: Error, CustomStringConvertible {
    let version: UInt32

    var description: String {
        "it was compiled with Apus macros of layout \(self.version), and linked with a library of \(__FunctionSection.version)"
    }
}

// MARK: - For the macros' expansions

extension __FunctionSection {
    public static func store<Output: Codable & Sendable, each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Output),
        into slot: UnsafeMutableRawPointer
    ) {
        self.store(FunctionRecord(declaration, synchronous: make, result: .value), into: slot)
    }

    @_disfavoredOverload
    public static func store<Output: Codable & Sendable, each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        into slot: UnsafeMutableRawPointer
    ) {
        self.store(FunctionRecord(declaration, asynchronous: make, result: .value), into: slot)
    }

    public static func store<each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) throws -> Void),
        into slot: UnsafeMutableRawPointer
    ) {
        self.store(FunctionRecord(declaration, synchronous: make, result: .nothing), into: slot)
    }

    @_disfavoredOverload
    public static func store<each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Void),
        into slot: UnsafeMutableRawPointer
    ) {
        self.store(FunctionRecord(declaration, asynchronous: make, result: .nothing), into: slot)
    }

    @available(*, unavailable, message: "the result of a remote closure must be Codable and Sendable, or Void")
    public static func store<Output: Sendable, each Capture: Codable & Sendable, each Input: Codable & Sendable>(
        _ declaration: RemoteDeclaration,
        make: @escaping @Sendable (repeat each Capture) -> (@Sendable (repeat each Input) async throws -> Output),
        into slot: UnsafeMutableRawPointer
    ) {
        fatalError("not available")
    }
}
