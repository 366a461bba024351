import ApusFunctions
import Testing

private func function(_ path: String, module: String = "Program", line: Int = 1) -> FunctionRecord {
    let declaration = RemoteDeclaration(
        fileID: "\(module)/Sums.swift", line: line, column: 1, path: path, signature: "\(path)() -> Int", parameters: [])
    return FunctionRecord(RemoteFunction(__declared: declaration, body: { line }))
}

@Suite("Finding functions by name")
struct FunctionTableTests {
    private func table(_ functions: FunctionRecord...) throws -> FunctionTable {
        var table = FunctionTable()
        try table.add(functions)
        return table
    }

    @Test("A function is found by each of its names")
    func names() throws {
        let table = try self.table(function("Statistics.mean"), function("square"))
        for name in ["Program.Statistics.mean", "Statistics.mean", "mean"] {
            #expect(try table.lookup(name).qualifiedName == "Program.Statistics.mean")
        }
        #expect(table.all.map(\.qualifiedName) == ["Program.Statistics.mean", "Program.square"])
    }

    @Test("Two functions of one qualified name are refused, with both their places")
    func duplicate() throws {
        let error = #expect(throws: FunctionTable.DuplicateName.self) {
            try self.table(function("square", line: 3), function("square", line: 8))
        }
        #expect(
            error?.description == """
                Two remote functions are named Program.square: square() -> Int at Program/Sums.swift:3:1, and \
                square() -> Int at Program/Sums.swift:8:1. Engines find functions by name, so rename one.
                """)
    }

    @Test("The same function found again is no duplicate")
    func again() throws {
        #expect(try self.table(function("square"), function("square")).all.count == 1)
    }

    @Test("A short name that two functions have is ambiguous, and both are named")
    func ambiguous() throws {
        let table = try self.table(function("A.mean", line: 1), function("B.mean", line: 2))
        let error = #expect(throws: FunctionCallError.self) { try table.lookup("mean") }
        #expect(error?.code == .ambiguousName)
        #expect(
            error?.message
                == "'mean' is the name of Program.A.mean (Program/Sums.swift:1:1) and of Program.B.mean (Program/Sums.swift:2:1); call it by its whole name"
        )
        #expect(try table.lookup("B.mean").qualifiedName == "Program.B.mean")
    }

    @Test("A name that is not found comes with those that are near")
    func near() throws {
        let table = try self.table(function("square"), function("Statistics.mean"), function("cube"))
        let error = #expect(throws: FunctionCallError.self) { try table.lookup("sqaure") }
        #expect(error?.code == .notFound)
        #expect(error?.function == "sqaure")
        #expect(error?.nearMatches == ["Program.square"])
        #expect(error?.message == "this engine has no remote function 'sqaure'. Did you mean Program.square?")
        #expect(throws: FunctionCallError.self) { try table.lookup("Other.mean") }
        let other = #expect(throws: FunctionCallError.self) { try table.lookup("Other.mean") }
        #expect(other?.nearMatches == ["Program.Statistics.mean"])
        let far = #expect(throws: FunctionCallError.self) { try table.lookup("integrate") }
        #expect(far?.nearMatches == [])
        #expect(far?.pythonName == "NameError")
    }

    @Test("A closure that is not found tells of another build")
    func closureOfAnotherBuild() throws {
        let error = #expect(throws: FunctionCallError.self) { try self.table().lookup("Program/Sums.swift:3:1#00ff") }
        #expect(error?.message.contains("another build") == true)
    }
}
