import Testing

@Suite("@Remote")
struct RemoteMacroTests {
    @Test("A function keeps its place, and gets a remote form and a type by which engines find it")
    func globalFunction() {
        let expansion = Expansion("@Remote func square(_ x: Double) -> Double { x * x }")
        #expect(expansion.problems == [])
        #expect(
            expansion == """
                func square(_ x: Double) -> Double { x * x }

                #sourceLocation(file: "/Program/Sums.swift", line: 1)
                nonisolated var $square: ApusFunctions.RemoteFunction<Double, Double> {
                    /* engines find it by its name, which no overload can share; its parameters and result are Codable & Sendable */
                    ApusFunctions.RemoteFunction(
                        __declared: __macro_local_9remote1_9fMu_.declaration,
                        body: { square($0) } as @Sendable (Double) throws -> Double)
                }
                #sourceLocation()
                private nonisolated enum __macro_local_9remote1_9fMu_: ApusFunctions.__RemoteEntry {
                    nonisolated static var function: ApusFunctions.__FoundFunction { $square.__found }
                    @used nonisolated static func kept() -> any ApusFunctions.__RemoteEntry.Type { Self.self }
                    nonisolated static let declaration = ApusFunctions.RemoteDeclaration(
                        fileID: "Program/Sums.swift", line: 1, column: 9,
                        path: "square", signature: "square(_ x: Double) -> Double",
                        parameters: [.init(label: nil, name: "x", type: "Double")]
                    )
                }
                """)
    }

    @Test("What can be a variable of main.swift is warned of, for engines run no code of that file")
    func topLevelCode() {
        let warning = "so 'limit' has no value there if it is a variable of this file"
        for source in [
            "@Remote func f(_ x: Int) -> Int { x + limit }", "let f = #remote { (x: Int) in x + limit }",
            "@Remote func f(_ xs: [Int]) -> [Int] { xs.map { min($0, limit) } }",
        ] {
            let expansion = Expansion(source, in: "main.swift")
            #expect(expansion.problems.count == 1 && expansion.problems[0].contains(warning))
            #expect(expansion.contains("ApusFunctions.RemoteFunction"))
            #expect(Expansion(source).problems == [])
        }
        for source in [
            "@Remote func f(_ x: Int) -> Int { let limit = 3; return min(x, limit) + Settings.limit }",
            "let f = #remote { [limit = limit as Int] (x: Int) in x + limit }",
        ] {
            #expect(Expansion(source, in: "main.swift").problems == [])
        }
    }

    @Test("A static method is found by the path of its types, and keeps its access level")
    func staticMethod() {
        let expansion = Expansion(
            """
            extension Program.Statistics {
                struct Robust {
                    @Remote public static func mean(of xs: [Double], cut: Double = 0.1) async throws -> Double { 0 }
                }
            }
            """
        )
        #expect(
            expansion.contains(
                "public nonisolated static var $mean: ApusFunctions.RemoteFunction<Double, [Double], Double>"))
        #expect(expansion.contains("{ try await mean(of: $0, cut: $1) } as @Sendable ([Double], Double) async throws -> Double"))
        #expect(expansion.contains("Program.Statistics.Robust.$mean.__found"))
        #expect(expansion.contains(#"path: "Program.Statistics.Robust.mean""#))
        #expect(expansion.contains(#"signature: "mean(of xs: [Double], cut: Double) async throws -> Double""#))
    }

    @Test(
        "A function without a result, or with an empty one, gives nothing", arguments: ["", "-> Void", "-> ()", "-> Swift.Void"])
    func noResult(result: String) {
        let expansion = Expansion("@Remote func report(_ x: Int) \(result) {}")
        #expect(expansion.contains("RemoteFunction<Swift.Void, Int>"))
        #expect(expansion.contains("procedure: { report($0) } as @Sendable (Int) throws -> Swift.Void"))
    }

    @Test("A function on a global actor is called asynchronously, a nonisolated one is not")
    func globalActor() {
        #expect(Expansion("@MainActor @Remote func f() {}").contains("{ await f() } as @Sendable () async throws"))
        #expect(Expansion("@DatabaseActor struct S { @Remote static func f() {} }").contains("async throws"))
        #expect(!Expansion("@MainActor struct S { @Remote nonisolated static func f() {} }").contains("async throws"))
    }

    @Test("Names that are keywords are written as each place wants them")
    func keywords() {
        let expansion = Expansion("@Remote func `repeat`(`in` x: Int, `inout` y: Int) {}")
        #expect(expansion.contains("var $repeat:"))
        #expect(expansion.contains("{ `repeat`(in: $0, `inout`: $1) } as"))
        #expect(expansion.contains(#"label: "in", name: "x""#))
    }

    @Test(
        "What cannot be called on an engine is told in a sentence",
        arguments: [
            ("@Remote var x: Int { 1 }", "1:1: '@Remote' makes a function callable on engines, and this is not a function"),
            (
                "struct S { @Remote static func + (a: S, b: S) -> S { a } }",
                "1:32: engines find functions by name, and an operator's is no identifier; put '@Remote' on a function that uses it"
            ),
            (
                "func outer() { @Remote func inner() {} }",
                "1:29: 'inner' is local, so engines cannot find it; move it out of the function, or write it as '#remote { … }'"
            ),
            (
                "protocol P { @Remote static func f() }",
                "1:34: 'f' is a protocol's requirement and has no code; put '@Remote' on a type's static method"
            ),
            (
                "struct S { @Remote func f() {} }",
                "1:25: 'f' needs its object, which does not travel; make it static and pass it the values it uses"
            ),
            (
                "@Remote func f<T>(_ x: T) {}",
                "1:15: 'f' is generic, and an engine cannot know for which types; name the types"
            ),
            (
                "struct S<T> { @Remote static func f() {} }",
                "1:35: '@Remote' cannot stand in generic code, because an engine cannot know for which types; move it out"
            ),
            (
                "extension Array where Element == Int { @Remote static func f() {} }",
                "1:60: '@Remote' cannot stand in generic code, because an engine cannot know for which types; move it out"
            ),
            (
                "@Remote func f(_ x: Int...) {}",
                "1:16: 'x' takes any number of arguments, and a remote function takes a fixed number; make it an array"
            ),
            (
                "@Remote func f(_ x: inout Int) {}",
                "1:21: 'x' cannot travel to an engine, because the engine has a copy, whose changes nobody would see; return the new value instead"
            ),
            (
                "@Remote func f(_ x: consuming Int) {}",
                "1:21: 'x' cannot travel to an engine, because 'consuming' says what happens to the caller's value, and the engine has a copy; leave it out"
            ),
            (
                "@Remote func f(_ g: @escaping (Int) -> Int) {}",
                "1:21: 'g' cannot travel to an engine, because a closure is code, not data; use '@Remote' or '#remote' for the code, and pass what it needs"
            ),
            (
                "@Remote func f(_ x: some Codable) {}",
                "1:21: 'x' cannot travel to an engine, because a generic function has no one type; name a type that is Codable and Sendable"
            ),
            (
                "@Remote func f(_ x: [any Codable]) {}",
                "1:21: 'x' cannot travel to an engine, because the engine cannot know what type is behind 'any'; name a type that is Codable and Sendable"
            ),
            (
                "@Remote func f() -> (Int, Int) { (1, 2) }",
                "1:21: the result cannot travel back from an engine, because a tuple is not Codable; use a struct that is Codable and Sendable"
            ),
        ])
    func diagnostics(source: String, problem: String) {
        let expansion = Expansion(source)
        #expect(expansion.problems == [problem])
        // Nothing is added that the compiler would complain about a second time.
        #expect(!expansion.contains("ApusFunctions"))
    }
}
