internal import ApusClient
internal import ApusEngine
internal import ApusFunctions
internal import Locks

/// Functions that engines of a simulated world have. The first argument of each is the number of the request, but for those of maps.
struct SimulatedFunctions: Sendable {
    /// Gives its second argument times two; fails if that is negative.
    let double: RemoteFunction<Int, Int, Int>
    /// Gives the sum of the other two.
    let add: RemoteFunction<Int, Int, Int, Int>
    /// Gives its argument times two, which is an element of a map: the number of the request times ``elements``, and a number within.
    let doubleElement: RemoteFunction<Int, Int>
    /// Gives its second argument when so many milliseconds have passed as it says.
    let wait: RemoteFunction<Int, Int, Int>
    /// Gives its second argument times two, at an engine that owns what few own.
    let use: RemoteFunction<Int, Int, Int>
    /// Gives its second argument times two to the power of one more than the third, by tasks of its own within each other.
    let nest: RemoteFunction<Int, Int, Int, Int>
    private let records: [String: FunctionRecord]

    struct Refusal: Error {}

    /// How many elements a map may have.
    static let elements = 1000
    /// What few engines own.
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

    /// The client that the functions of an engine share: what `EngineContext.client()` gives, which stands on a floor above.
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
