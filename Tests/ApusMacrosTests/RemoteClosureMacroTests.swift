import Testing

@Suite("#remote")
struct RemoteClosureMacroTests {
    @Test("The code moves into a type of its own, and what it captured stays as values")
    func closure() {
        let expansion = Expansion("let f = #remote { [k = k as Int] (x: Double) in x * Double(k) }")
        #expect(expansion.problems == [])
        #expect(
            expansion
                == """
                let f = {
                    nonisolated enum __macro_local_7closurefMu_: ApusFunctions.__RemoteEntry {
                        // runs in another process: name what it uses from around it in the capture list, as '[x = x as <its type>]'
                        nonisolated static var function: ApusFunctions.__FoundFunction {
                            ApusFunctions.__FoundFunction(declaration, make: make)
                        }
                        @used nonisolated static func kept() -> any ApusFunctions.__RemoteEntry.Type { Self.self }
                        nonisolated static let declaration = ApusFunctions.RemoteDeclaration(
                            fileID: "Program/Sums.swift", line: 1, column: 9,
                            path: "closure", signature: "(x: Double)",
                            parameters: [.init(label: nil, name: "x", type: "Double")], closureID: "HASH"
                        )
                        nonisolated static let make = { @Sendable (k: Int) in
                            #sourceLocation(file: "/Program/Sums.swift", line: 1)
                            return { @Sendable (x: Double) in x * Double(k) }
                            #sourceLocation()
                        }
                    }
                    #sourceLocation(file: "/Program/Sums.swift", line: 1)
                    return ApusFunctions.RemoteFunction(
                        __closure: __macro_local_7closurefMu_.declaration, make: __macro_local_7closurefMu_.make,
                        capturing: k as Int)
                    #sourceLocation()
                }()
                """.replacing("HASH", with: expansion.closureID))
    }

    @Test("A parameter of the code around is used only by way of the capture list")
    func forgottenParameters() {
        let expansion = Expansion("g { client, n in _ = #remote { [n = n as Int] in client.ids(n) } }")
        #expect(
            expansion.problems == [
                "1:50: 'client' is not known where the closure runs; "
                    + "write it in the capture list: '[client = client as <its type>]'"
            ])
        for body in [
            "{ (j: Int) in j }", "{ (x: Int) in let j = x; return j }", "{ (x: Int) in [x].map { j in j } }",
            "{ (x: P) in x.j }", "{ (x: Int) in g(j: x) }", "{ (x: [Int]) in for j in x { print(j) } }",
        ] {
            #expect(Expansion("func f(_ j: Int) { _ = #remote \(body) }").problems == [])
        }
        #expect(Expansion("func f(_ j: Int) { struct S { let f = #remote { (x: Int) in x + j } } }").problems == [])
    }

    @Test("An id depends on the place, the captures and the body")
    func closureID() {
        let ids = [
            "#remote { 1 }", "#remote { 2 }", " #remote { 1 }", "\n#remote { 1 }", "#remote { [k = 1 as Int] in 1 }",
        ].map { Expansion($0).closureID }
        #expect(Set(ids).count == ids.count)
        #expect(ids.allSatisfy { $0.count == 16 })
        #expect(Expansion("#remote { 1 }").closureID == ids[0])
    }

    @Test("The body's lines stay those of the source, though the capture list is gone")
    func lines() {
        let expansion = Expansion(
            """
            let f = #remote { [
                k = k as Int,
                l = self.l as Int
            ] (x: Int) async throws -> Int in
                return x
            }
            """
        )
        #expect(
            expansion.contains(
                #"(k: Int, l: Int) in #sourceLocation(file: "/Program/Sums.swift", line: 4) return {"#))
        #expect(expansion.contains("capturing: k as Int, self.l as Int)"))
        #expect(expansion.contains("{ @Sendable (x: Int) async throws -> Int in return x }"))
    }

    @Test("A closure without a signature gets one, and its attributes stay")
    func signature() {
        #expect(Expansion("#remote { 42 }").contains("return { @Sendable () in 42 }"))
        #expect(Expansion("#remote { @MainActor (x: Int) in x }").contains("return { @Sendable @MainActor (x: Int) in x }"))
        #expect(Expansion("#remote({ (x: Int) in x })").contains("return { @Sendable (x: Int) in x }"))
    }

    @Test("Types, nested closures and members named self are no use of the object outside")
    func innerSelf() {
        let expansion = Expansion(
            """
            #remote { (xs: [Int]) in
                struct Inner { var x: Int; func f() -> Int { self.x } }
                return xs.map { Inner(x: $0).f() } as [Int].self
            }
            """)
        #expect(expansion.problems == [])
    }

    @Test(
        "What keeps a closure from travelling is told in a sentence",
        arguments: [
            (
                "#remote(square)",
                "1:1: '#remote' takes a closure written in place; for a function that has a name, put '@Remote' on it and use '$name'"
            ),
            (
                "#remote { [k] (x: Int) in k }",
                "1:12: the type of 'k' must be known here, because its value travels; write 'k = k as <its type>'"
            ),
            (
                "#remote { [k = a.b] (x: Int) in k }",
                "1:12: the type of 'k' must be known here, because its value travels; write 'k = a.b as <its type>'"
            ),
            (
                "#remote { [weak k] in k }",
                "1:12: 'k' is captured by reference, and only values travel; capture a value, as 'k = … as <its type>'"
            ),
            (
                "#remote { [self] in 1 }",
                "1:12: 'self' does not travel; capture the values that the closure uses, as 'x = self.x as <its type>'"
            ),
            (
                "#remote { [f = f as (Int) -> Int] in 1 }",
                "1:21: 'f' cannot travel to an engine, because a closure is code, not data; use '@Remote' or '#remote' for the code, and pass what it needs"
            ),
            (
                "#remote { x in x }",
                "1:11: 'x' needs a type, because engines decode its value; write '(x: <its type>) in'"
            ),
            (
                "#remote { (x) in x }",
                "1:12: 'x' needs a type, because engines decode its value; write '(x: <its type>) in'"
            ),
            (
                "#remote { $0 + 1 }",
                "1:11: '$0' needs a type, because engines decode its value; write '(x: <its type>) in'"
            ),
            (
                "#remote { (x: inout Int) in 1 }",
                "1:15: 'x' cannot travel to an engine, because the engine has a copy, whose changes nobody would see; return the new value instead"
            ),
            (
                "#remote { (x: Int...) in 1 }",
                "1:12: 'x' takes any number of arguments, and a remote function takes a fixed number; make it an array"
            ),
            (
                "#remote { self.x }",
                "1:11: 'self' does not travel; capture the values that the closure uses, as '[x = self.x as <its type>]'"
            ),
            (
                "#remote { Self.x }",
                "1:11: 'Self' means another type where the closure's code is kept; write the type's name"
            ),
            (
                "#remote { #remote { 1 } }",
                "1:11: a remote closure cannot hold another, which the compiler would not expand; let a function make the inner one"
            ),
            (
                "func f<T>() { _ = #remote { 1 } }",
                "1:19: '#remote' cannot stand in generic code, because an engine cannot know for which types; move it out"
            ),
            (
                "func f(_ x: some P) { _ = #remote { 1 } }",
                "1:27: '#remote' cannot stand in generic code, because an engine cannot know for which types; move it out"
            ),
            (
                "func f(_ j: Int) { _ = #remote { (x: Int) in x + j } }",
                "1:50: 'j' is not known where the closure runs; write it in the capture list: '[j = j as Int]'"
            ),
            (
                "struct S<T> { func f() { _ = { #remote { 1 } } } }",
                "1:32: '#remote' cannot stand in generic code, because an engine cannot know for which types; move it out"
            ),
        ])
    func diagnostics(source: String, problem: String) {
        let expansion = Expansion(source)
        #expect(expansion.problems == [problem])
        #expect(!expansion.contains("ApusFunctions"))
    }
}

extension Expansion {
    /// The id of the only closure.
    var closureID: String {
        let after = self.text.split(separator: "closureID:\"").last ?? ""
        return String(after.prefix { $0 != "\"" })
    }
}
