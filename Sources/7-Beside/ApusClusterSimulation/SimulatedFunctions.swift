internal import ApusClient
internal import ApusEngine
internal import ApusFunctions
internal import Locks

/// The functions that engines of a simulated world can run. The first argument is the number of the request, except in maps.
struct SimulatedFunctions: Sendable {
    /// Returns its second argument times two; fails if the argument is negative.
    let double: RemoteFunction<Int, Int, Int>
    /// Returns the sum of its second and third arguments.
    let add: RemoteFunction<Int, Int, Int, Int>
    /// Returns its argument times two. The argument is an element of a map: the request's number times ``elements``, plus the
    /// element's index.
    let doubleElement: RemoteFunction<Int, Int>
    /// Sleeps for as many milliseconds as its second argument says, and returns the argument.
    let wait: RemoteFunction<Int, Int, Int>
    /// Returns its second argument times two; runs only on engines that own the scarce resource.
    let use: RemoteFunction<Int, Int, Int>
    /// Returns its second argument times two to the power of one more than the third; submits tasks, which may submit more.
    let nest: RemoteFunction<Int, Int, Int, Int>
    private let records: [String: FunctionRecord]

    struct Refusal: Error {}

    /// The largest number of elements in a map.
    static let elements = 1000
    /// The scarce resource, which only some engines own.
    static let resource = "gpu"

    init(_ chronicle: Chronicle) {
        func declaration(_ name: String, _ names: [String]) -> RemoteDeclaration {
            RemoteDeclaration(
                fileID: "World/World.swift", line: 1, column: 1, path: name,
                signature: "\(name)(\(names.map { "_ \($0): Int" }.joined(separator: ", "))) -> Int",
                parameters: names.map { RemoteDeclaration.Parameter(label: nil, name: $0, type: "Int") })
        }
        @Sendable func ran(_ number: Int) { chronicle.ran(number, at: EngineContext.current?.uuid ?? "nobody") }
        let double = RemoteFunction(__declared: declaration("double", ["request", "x"])) {
            (request: Int, x: Int) throws -> Int in
            ran(request)
            if x < 0 { throw Refusal() }
            return x * 2
        }
        self.double = double
        self.add = RemoteFunction(__declared: declaration("add", ["request", "x", "y"])) {
            (request: Int, x: Int, y: Int) throws -> Int in
            ran(request)
            return x + y
        }
        self.doubleElement = RemoteFunction(__declared: declaration("doubleElement", ["element"])) {
            (element: Int) throws -> Int in
            ran(element / Self.elements)
            return element * 2
        }
        self.wait = RemoteFunction(__declared: declaration("wait", ["request", "milliseconds"])) {
            (request: Int, milliseconds: Int) async throws -> Int in
            try await Task.sleep(for: .milliseconds(milliseconds))
            ran(request)
            return milliseconds
        }
        self.use = RemoteFunction(__declared: declaration("use", ["request", "x"])) { (request: Int, x: Int) throws -> Int in
            ran(request)
            let engine = EngineContext.current?.uuid ?? "nobody"
            if !chronicle.isOwner(engine) {
                chronicle.violate("request \(request) runs on \(engine), which does not own what it needs")
            }
            return x * 2
        }
        let again = Mutex<RemoteFunction<Int, Int, Int, Int>?>(nil)
        let nest = RemoteFunction(__declared: declaration("nest", ["request", "x", "depth"])) {
            (request: Int, x: Int, depth: Int) async throws -> Int in
            ran(request)
            let view = try await Self.client().loadBalancedView()
            guard depth > 0, let nest = again.withLock({ $0 }) else { return try await view.apply(double, request, x) }
            async let first = view.apply(nest, request, x, depth - 1)
            async let second = view.apply(nest, request, x, depth - 1)
            return try await first + second
        }
        again.withLock { $0 = nest }
        self.nest = nest
        let all = [
            FunctionRecord(self.double), FunctionRecord(self.add), FunctionRecord(self.doubleElement), FunctionRecord(self.wait),
            FunctionRecord(self.use), FunctionRecord(self.nest),
        ]
        self.records = Dictionary(uniqueKeysWithValues: all.map { ($0.qualifiedName, $0) })
    }

    /// Gives the client that the functions of an engine share, like `EngineContext.client()`, which is on a floor above.
    private static func client() async throws -> Client {
        guard let engine = EngineContext.current, let access = engine.engine as? ClusterAccess, let connection = access.connection
        else { throw ApusError(.notSupported, "no engine of a cluster runs this function") }
        try engine.turn?.expectWait()
        return try await access.shared {
            try await Client(connection, transport: access.transport, eventLoop: access.eventLoop)
        } close: {
            await $0.close(linger: .zero)
        }
    }

    var names: [String] { self.records.keys.sorted() }

    func lookUp(_ name: String) throws(FunctionCallError) -> FunctionRecord {
        if let record = self.records[name] { return record }
        return try FunctionRegistry.shared.lookup(name)
    }
}
