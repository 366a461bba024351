import ApusFunctions
import Pickle
import Testing

/// The function of this name, as an engine finds it.
func record(_ name: String) throws -> FunctionRecord { try FunctionRegistry.shared.lookup(name) }

@Suite("Functions marked @Remote")
struct RemoteDeclaredTests {
    @Test("A remote function stays callable as ever, and its remote form runs here too")
    func callable() async throws {
        #expect(squaredNumber(3) == 9)
        #expect(try await $squaredNumber(3) == 9)
        #expect(try await $move(Point(x: 1, y: 2), 3, "y") == Point(x: 1, y: 5))
    }

    @Test("An engine finds a function by its short name and by its qualified name")
    func foundByName() throws {
        #expect(try record("squaredNumber").qualifiedName == "ApusFunctionsTests.squaredNumber")
        #expect(try record("ApusFunctionsTests.squaredNumber") === record("squaredNumber"))
        #expect(try record("Statistics.Weighted.total") === record("total"))
        #expect($squaredNumber.name == "ApusFunctionsTests.squaredNumber")
        #expect(Statistics.$mean.name == "ApusFunctionsTests.Statistics.mean")
        #expect($repeat.name == "ApusFunctionsTests.repeat")
    }

    @Test("Arguments go in and the result comes out as pickled values")
    func invoke() throws {
        #expect(try record("squaredNumber").invokeSynchronously(FunctionCall(arguments: [.float(3)])) == .float(9))
        let call = FunctionCall(arguments: [.string("ab"), .int(2)])
        #expect(try record("repeat").invokeSynchronously(call) == .string("abab"))
    }

    @Test("A value of any Codable type travels")
    func codable() throws {
        let point = Point(x: 1, y: 2)
        let arguments = try $move.encodeArguments(point, 3, "x")
        let reply = try record("move").invokeSynchronously(FunctionCall(arguments: arguments))
        #expect(try $move.decodeResult(reply) == Point(x: 4, y: 2))
        #expect(try $move.decodeResult($move.encodeResult(point)) == point)
    }

    @Test("A function without a result gives None")
    func noResult() throws {
        #expect(try record("doNothing").invokeSynchronously(FunctionCall()) == PickleValue.none)
        // A Python function of the same purpose may return anything.
        try $doNothing.decodeResult(.int(3))
    }

    @Test("Python may name arguments by label, and by the parameter's name")
    func keywords() throws {
        let root = try record("squareRoot")
        #expect(try root.invokeSynchronously(FunctionCall(keywords: ["of": .float(4)])) == .float(2))
        #expect(try root.invokeSynchronously(FunctionCall(keywords: ["x": .float(4)])) == .float(2))
        let mixed = FunctionCall(arguments: [.string("a")], keywords: ["times": .int(3)])
        #expect(try record("repeat").invokeSynchronously(mixed) == .string("aaa"))
        #expect(try record("squaredNumber").invokeSynchronously(FunctionCall(keywords: ["x": .float(4)])) == .float(16))
    }

    @Test("An asynchronous function is awaited, and says that it must be")
    func asynchronous() async throws {
        #expect(try record("successor").isAsynchronous)
        #expect(try !record("squaredNumber").isAsynchronous)
        #expect(try await record("successor").invoke(FunctionCall(arguments: [.int(1)])) == .int(2))
        #expect(try await record("squaredNumber").invoke(FunctionCall(arguments: [.float(2)])) == .float(4))
    }

    @Test("A function that belongs to a global actor runs on it")
    func globalActor() async throws {
        #expect(try record("onMainActor").isAsynchronous)
        #expect(try await record("onMainActor").invoke(FunctionCall(arguments: [.int(1)])) == .int(2))
        #expect(try await record("draw").invoke(FunctionCall(arguments: [.string("abc")])) == .int(3))
    }

    @Test("What the function throws comes out untouched")
    func throwing() async throws {
        #expect(throws: NegativeInput(value: -1)) {
            try record("squareRoot").invokeSynchronously(FunctionCall(arguments: [.float(-1)]))
        }
        await #expect(throws: NegativeInput(value: 2)) {
            try await record("failLater").invoke(FunctionCall(arguments: [.float(2)]))
        }
    }

    @Test("Static methods of structs, classes, actors and extensions are found")
    func methods() async throws {
        let weighted = FunctionCall(arguments: try Statistics.Weighted.remoteMean.encodeArguments([1, 2], [1, 3]))
        #expect(
            try record("ApusFunctionsTests.Statistics.Weighted.mean").invokeSynchronously(weighted) == .float(1.75))
        #expect(try record("half").invokeSynchronously(FunctionCall(arguments: [.float(3)])) == .float(1.5))
        #expect(try record("identity").invokeSynchronously(FunctionCall(arguments: [.bool(true)])) == .bool(true))
        #expect(try await Counter.$half(5) == 2.5)
    }

    @Test("A record shows its declaration, without defaults")
    func description() throws {
        #expect(
            try record("move").description
                == "ApusFunctionsTests.move: move(_ point: Point, by distance: Double, `in` direction: String) -> Point")
        #expect(try record("move").declaration.fileID == "ApusFunctionsTests/RemoteFixtures.swift")
    }
}

@Suite("Calls that do not fit")
struct MisfitTests {
    private func failure(_ name: String, _ call: FunctionCall) throws -> FunctionCallError? {
        #expect(throws: FunctionCallError.self) { try record(name).invokeSynchronously(call) }
    }

    @Test("A missing argument is named, with its type")
    func missing() throws {
        let error = try self.failure("repeat", FunctionCall(arguments: [.string("a")]))
        #expect(error?.code == .wrongArguments)
        #expect(
            error?.message
                == "ApusFunctionsTests.repeat(_:times:) needs argument 2 ('times') of type Int, and the call gives none")
        #expect(error?.pythonName == "TypeError")
    }

    @Test("Too many arguments are counted")
    func tooMany() throws {
        let error = try self.failure("squaredNumber", FunctionCall(arguments: [.float(1), .float(2)]))
        #expect(error?.message == "ApusFunctionsTests.squaredNumber(_:) takes one argument, and the call gives 2")
    }

    @Test("A name that no parameter has is told, with those there are")
    func unknownKeyword() throws {
        let error = try self.failure("repeat", FunctionCall(arguments: [.string("a")], keywords: ["count": .int(2)]))
        #expect(
            error?.message
                == "ApusFunctionsTests.repeat(_:times:) has no parameter 'count'; its parameters are 'text', 'times'")
    }

    @Test("An argument given by position and by name is refused")
    func twice() throws {
        let error = try self.failure("squaredNumber", FunctionCall(arguments: [.float(1)], keywords: ["x": .float(2)]))
        #expect(error?.message == "ApusFunctionsTests.squaredNumber(_:) is given argument 1 ('x') twice: by position and as 'x'")
    }

    @Test("An argument of another type is named, with the type it should have and the value it has")
    func wrongType() throws {
        let error = try self.failure("repeat", FunctionCall(arguments: [.string("a"), .string("b")]))
        #expect(error?.code == .wrongType)
        #expect(
            error?.message.hasPrefix(
                "ApusFunctionsTests.repeat(_:times:) takes Int as argument 2 ('times'), and the call gives the string 'b'")
                == true)
        #expect(error?.cause != nil)
    }
}
