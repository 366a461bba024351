import ApusCore
import ApusEngine
import ApusFunctions
import ApusWire
import Foundation
import NIOCore
import NIOPosix
import Pickle
import Testing
import ZMTPTransport

@Remote func say(_ words: String) -> Int {
    print(words)
    return words.count
}

@Remote func sayBoth(_ words: String) {
    print(words)
    FileHandle.standardError.write(Data("not \(words)\n".utf8))
}

@Remote func sayMuch(_ lines: Int) { for line in 0..<lines { print("line \(line) of a lot of text that fills the pipe") } }

@Remote func sayAndWait(_ words: String, file: String) async throws {
    print(words)
    while !FileManager.default.fileExists(atPath: file) { try await Task.sleep(for: .milliseconds(5)) }
}

@MainActor private var calls = 0

@Remote @MainActor func countOnMainActor() async -> Int {
    calls += 1
    return calls
}

@Remote func environment(_ name: String) -> String { ProcessInfo.processInfo.environment[name] ?? "" }

@Remote func trap(_ words: String) -> Int { fatalError(words) }

@Remote func readBeyond(_ index: Int) -> Int { [1, 2, 3][index] }

private func warn(_ words: String) { FileHandle.standardError.write(Data("\(words)\n".utf8)) }

@Remote func raiseSignal(_ number: Int) {
    warn("about to raise")
    // Dispatch's threads block this signal, which `abort` overcomes.
    if number == SIGABRT { abort() }
    raise(Int32(number))
}

@Remote func recurse(_ depth: Int) -> Int {
    if depth == 1 { warn("about to recurse") }
    // Ends, but deeper than any stack. Each call has a kilobyte of it, for the thread sanitizer fails at 65,536 calls within each other.
    return withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 1) { bytes in
        bytes[depth & 1023] = 1
        return depth == .max ? 0 : recurse(depth + 1) + Int(bytes[depth & 1023])
    }
}

@Remote func trapLater(_ words: String) async {
    await Task.yield()
    fatalError(words)
}

@Remote func exitWith(_ code: Int) {
    warn("about to exit")
    exit(Int32(code))
}

/// A process that is an engine because its environment says so: this very test program, started again.
@Suite("A program started in engine mode is an engine", .timeLimit(.minutes(1)))
struct EngineProcessTests {
    /// An engine's process whose controller the test plays.
    struct Child {
        let controller: FakeController
        let process: Process
        let uuid: EngineUUID
        let exit: AsyncStream<Int32>

        func exitCode() async -> Int32? {
            for await code in self.exit { return code }
            return nil
        }
    }

    private func withProcess(
        _ variables: [String: String] = [:], log: Pipe = Pipe(), stdin: Pipe? = nil, _ body: (Child) async throws -> Void
    ) async throws {
        let controller = try await FakeController(on: MultiThreadedEventLoopGroup.singleton.next(), network: ZMTPTransport())
        let process = Process()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        var environment = ProcessInfo.processInfo.environment
        environment["APUS_ENGINE_MODE"] = "1"
        environment["IPP_CONNECTION_INFO"] = controller.connection.json.description
        process.environment = environment.merging(variables) { $1 }
        process.standardError = log
        process.standardOutput = FileHandle.nullDevice
        process.standardInput = stdin ?? FileHandle.nullDevice
        let (exit, exits) = AsyncStream<Int32>.makeStream()
        process.terminationHandler = { exits.yield($0.terminationReason == .exit ? $0.terminationStatus : -$0.terminationStatus) }
        try process.run()
        do {
            let request = try await Answer(Array(controller.nextFrames("registration").dropFirst()))
            let uuid = EngineUUID(request.session)
            #expect(request.content["apus"]?["pid"]?.int == Int(process.processIdentifier))
            #expect(request.content["apus"]?["build"]?.string == BuildFingerprint.current)
            try await controller.answerRegistrar(
                controller.makeRequest(.registrationReply, to: uuid, content: ["id": 3, "status": "ok", "hb_period": 60_000]))
            _ = try await controller.nextFrames("hb_ping connected")
            // A subscription arrives after its connection, so the first beat may be missed and is sent again.
            let beats = Task {
                while !Task.isCancelled {
                    try await controller.send([ByteBuffer(string: "1")], by: "hb_ping")
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            _ = try await controller.nextFrames("hb_pong")
            beats.cancel()
            try await body(Child(controller: controller, process: process, uuid: uuid, exit: exit))
        } catch {
            process.terminate()
            throw error
        }
        process.terminate()
        await controller.close()
    }

    @Test("What a function prints comes as output of its request, before idle")
    func output() async throws {
        try await self.withProcess { child in
            let id = try await child.controller.apply(.reference("sayBoth"), "hello", to: child.uuid)
            let lines = try await child.controller.output(of: id)
            #expect(lines == ["status busy", "stdout hello\n", "stderr not hello\n", "status idle"])
            try await child.controller.apply(.reference("say"), "quiet", to: child.uuid, metadata: ["apus_quiet": true])
            _ = try await child.controller.next("mux")
            let reply = try await child.controller.next("mux")
            #expect(reply.metadata["apus_outputs"] == 1)
        }
    }

    @Test("More output than a pipe holds arrives whole and in order")
    func muchOutput() async throws {
        try await self.withProcess { child in
            let count = 30_000
            let id = try await child.controller.apply(.reference("sayMuch"), .int(count), to: child.uuid)
            let lines = try await child.controller.output(of: id)
            let text = lines.filter { $0.hasPrefix("stdout ") }.map { $0.dropFirst("stdout ".count) }.joined()
            let expected = (0..<count).map { "line \($0) of a lot of text that fills the pipe\n" }.joined()
            #expect(text == expected)
        }
    }

    @Test("A long function's output is seen while it runs")
    func liveOutput() async throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
        try await self.withProcess { child in
            let id = try await child.controller.apply(.reference("sayAndWait"), "soon", .string(file), to: child.uuid)
            var answer = try await child.controller.next("iopub")
            while answer.type != .stream { answer = try await child.controller.next("iopub") }
            #expect(answer.line == "stdout soon\n")
            _ = FileManager.default.createFile(atPath: file, contents: nil)
            let rest = try await child.controller.output(of: id)
            #expect(rest == ["status idle"])
        }
        try FileManager.default.removeItem(atPath: file)
    }

    @Test("Functions on the main actor run, and the environment of engine mode is not passed on")
    func mainActor() async throws {
        try await self.withProcess { child in
            for count in 1...2 {
                let value = try await child.controller.result(of: "countOnMainActor", to: child.uuid)
                #expect(value == .int(count))
            }
            for name in ["APUS_ENGINE_MODE", "IPP_CONNECTION_INFO"] {
                let value = try await child.controller.result(of: "environment", .string(name), to: child.uuid)
                #expect(value == "")
            }
        }
    }

    @Test("A shutdown ends the process with code 0")
    func shutsDown() async throws {
        try await self.withProcess { child in
            try await child.controller.request(.shutdownRequest, to: child.uuid, by: "control", content: ["restart": false])
            _ = try await child.controller.next("control")
            let code = await child.exitCode()
            #expect(code == 0)
        }
    }

    @Test("SIGTERM ends the process cleanly, and the hub hears of it")
    func terminates() async throws {
        try await self.withProcess { child in
            kill(child.process.processIdentifier, SIGTERM)
            let farewell = try await Answer(Array(child.controller.nextFrames("registration").dropFirst()))
            #expect(farewell.type == .unregistrationRequest)
            let code = await child.exitCode()
            #expect(code == 0)
        }
    }

    @Test("SIGINT is ignored when nothing runs, and interrupts what does")
    func interrupts() async throws {
        try await self.withProcess { child in
            kill(child.process.processIdentifier, SIGINT)
            let id = try await child.controller.apply(.reference("sayAndWait"), "running", "/nowhere", to: child.uuid)
            var answer = try await child.controller.next("iopub")
            while answer.type != .stream { answer = try await child.controller.next("iopub") }
            #expect(answer.parent == id)
            kill(child.process.processIdentifier, SIGINT)
            let reply = try await child.controller.next("mux")
            #expect(reply.content["ename"] == "KeyboardInterrupt")
        }
    }

    @Test("The process ends when the one that started it is gone")
    func losesParent() async throws {
        // The child's standard input is the pipe, as descriptors above 2 are closed for it.
        let parent = Pipe()
        try await self.withProcess(["APUS_PARENT_FD": "0"], stdin: parent) { child in
            try parent.fileHandleForWriting.close()
            let code = await child.exitCode()
            #expect(code == 0)
        }
    }

    @Test("What a function prints before it crashes reaches the process's log")
    func crash() async throws {
        let log = Pipe()
        try await self.withProcess(["SWIFT_BACKTRACE": "enable=no"], log: log) { child in
            try await child.controller.apply(.reference("trap"), "out of cheese", to: child.uuid)
            let code = try #require(await child.exitCode())
            #expect(code < 0)
        }
        let text = String(decoding: log.fileHandleForReading.availableData, as: UTF8.self)
        #expect(text.contains("out of cheese"), "\(text)")
    }

    /// Ways in which a function ends its process, and what the engine must say of it.
    struct Ending: Sendable, CustomTestStringConvertible {
        let function: String
        let argument: PickleValue
        /// One of these signals.
        var signals: [Int] = []
        var code: Int?
        let words: String

        var testDescription: String { self.function }

        static let all = [
            Ending(function: "trap", argument: "out of cheese", signals: [4, 5], words: "Fatal error: out of cheese"),
            Ending(function: "readBeyond", argument: .int(7), signals: [4, 5], words: "Fatal error: Index out of range"),
            Ending(function: "raiseSignal", argument: .int(Int(SIGSEGV)), signals: [11], words: "about to raise"),
            Ending(function: "raiseSignal", argument: .int(Int(SIGABRT)), signals: [6], words: "about to raise"),
            Ending(function: "recurse", argument: .int(1), signals: [11, 7], words: "about to recurse"),
            Ending(function: "trapLater", argument: "no cheese", signals: [4, 5], words: "Fatal error: no cheese"),
            Ending(function: "exitWith", argument: .int(3), code: 3, words: "about to exit"),
        ]
    }

    @Test("An engine tells the scheduler how its process ends, before it does, and with which task", arguments: Ending.all)
    func tellsItsEnd(_ ending: Ending) async throws {
        // Without a backtrace, whose program would keep the pipe open by which Foundation notices the end.
        try await self.withProcess(["SWIFT_BACKTRACE": "enable=no"]) { child in
            // The first is answered, the second ends the process, the third waits.
            let quiet: JSONObject = ["apus_quiet": true]
            let (task, controller) = ("task", child.controller)
            let first = try await controller.apply(.reference("say"), "hello", to: child.uuid, by: task, metadata: quiet)
            let second = try await controller.apply(
                .reference(ending.function), ending.argument, to: child.uuid, by: task, metadata: quiet)
            try await controller.apply(.reference("say"), "never", to: child.uuid, by: task, metadata: quiet)
            #expect(try await controller.next(task).parent == first)
            let last = try await controller.next(task)
            #expect(last.type == .engineEnded)
            #expect(last.session == child.uuid.text)
            #expect(last.content["code"]?.int == ending.code)
            #expect(ending.signals.isEmpty || ending.signals.contains(last.content["signal"]?.int ?? 0), "\(last.content)")
            #expect(
                last.content["lines"]?.array?.contains { $0.string?.contains(ending.words) == true } == true, "\(last.content)")
            #expect(last.content["begun"] == [.string(second.text)])
            kill(child.process.processIdentifier, SIGKILL)
            _ = await child.exitCode()
            #expect(!controller.hasFrames(task))
        }
    }

    @Test("An engine that ends in order tells nobody but the hub")
    func endsInOrder() async throws {
        try await self.withProcess { child in
            kill(child.process.processIdentifier, SIGTERM)
            #expect(await child.exitCode() == 0)
            #expect(!child.controller.hasFrames("task"))
        }
    }

    @Test("Without connection information the process ends with code 1 and says where it looked")
    func noFile() async throws {
        var place = EngineProcess.Place()
        place.file = "/nowhere/ipcontroller-engine.json"
        place.patience = .zero
        let code = await EngineProcess.run(place, takesOver: false)
        #expect(code == 1)
    }

    @Test(
        "Resources in the environment that make no sense end the process with code 1 and one line that says how they are written")
    func resourcesWithTypo() async throws {
        let process = Process()
        let log = Pipe()
        process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["APUS_ENGINE_MODE": "1", "APUS_ENGINE_RESOURCES": "gpu:1"]
        ) { $1 }
        process.standardError = log
        process.standardInput = FileHandle.nullDevice
        let (exit, exits) = AsyncStream<Int32>.makeStream()
        process.terminationHandler = { exits.yield($0.terminationStatus) }
        try process.run()
        for await code in exit {
            #expect(code == 1)
            break
        }
        let lines = String(decoding: log.fileHandleForReading.availableData, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 1)
        #expect(
            lines.first?.contains("APUS_ENGINE_RESOURCES is a list such as 'gpu=1,memory=64', not 'gpu:1'") == true, "\(lines)")
    }
}
