import ApusCore
import ApusEngine
import ApusFunctions
import ApusWire
import NIOCore
import Pickle
import Synchronization
import Testing

@Remote func squareOf(_ x: Double) -> Double { x * x }

@Remote func join(_ words: [String], with separator: String) -> String { words.joined(separator: separator) }

@Remote func slowSquare(_ x: Double) async throws -> Double {
    await Task.yield()
    return x * x
}

@Remote func fail(_ message: String) throws -> Int { throw OutOfCheese(message: message) }

struct OutOfCheese: Error, CustomStringConvertible {
    let message: String
    var description: String { "no cheese: \(self.message)" }
}

@Remote func addToTotal(_ x: Double) throws -> Double {
    guard let engine = EngineContext.current else { return x }
    let total = (try engine.namespace.get("total", as: Double.self) ?? 0) + x
    try engine.namespace.set("total", to: total)
    return total
}

@Remote func engineNumber() async -> Int { EngineContext.current?.engineID ?? -1 }

@Suite("An engine runs requests")
struct EngineServiceTests {
    @Test("An engine registers, tells what it can do, and answers pings with the same bytes", .timeLimit(.minutes(1)))
    func registers() async throws {
        try await World.withStarted({ $0.wantedID = 3 }) { world in
            let request = try await world.accept()
            #expect(request.type == .registrationRequest)
            #expect(request.session == world.uuid.text)
            #expect(request.content["uuid"]?.string == world.uuid.text)
            #expect(request.content["id"] == 3)
            #expect(request.content["apus"]?["recall"] == true)
            #expect(request.content["apus"]?["build"]?.string == BuildFingerprint.current)
            #expect(try await world.beat("6.000818934000108") == "6.000818934000108")
        }
    }

    @Test("A refused registration ends the engine with the hub's words", .timeLimit(.minutes(1)))
    func refused() async throws {
        try await World.withStarted { world in
            _ = try await world.request()
            try await world.answer(["status": "error", "ename": "KeyError", "evalue": "uuid in use", "traceback": []])
            #expect(await world.running.value == .refused("KeyError: uuid in use"))
        }
    }

    @Test("A registration that nobody answers is withdrawn, and the engine ends", .timeLimit(.minutes(1)))
    func timesOut() async throws {
        try await World.withStarted({ $0.session.registrationTimeout = 20 }) { world in
            _ = try await world.request()
            let withdrawal = try await world.request()
            #expect(withdrawal.type == .unregistrationRequest)
            #expect(withdrawal.content == ["id": nil])
            #expect(await world.running.value == .registrationTimedOut)
        }
    }

    @Test(
        "An engine beats only when every port is connected, so that what is sent to it at its first beat arrives",
        .timeLimit(.minutes(1)), arguments: ["mux", "task", "control", "broadcast", "iopub"])
    func latePort(late: String) async throws {
        try await World.withStarted(unbound: [late]) { world in
            _ = try await world.request()
            try await world.admit()
            for name in ["mux", "task", "control", "broadcast", "iopub"] where name != late {
                _ = try await world.controller.nextFrames(name + " connected")
            }
            #expect(!world.controller.hasFrames("hb_ping connected"))
            try await world.controller.bind(late)
            _ = try await world.controller.nextFrames("hb_ping connected")
            _ = try await world.controller.nextFrames(late + " connected")
            #expect(try await world.beat("1.5") == "1.5")
            try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: ["apus_quiet": true])
            #expect(try await world.controller.next("mux").value == .float(9))
        }
    }

    @Test("An engine that finds a port silent for too long never beats: it unregisters and ends", .timeLimit(.minutes(1)))
    func silentPort() async throws {
        try await World.withStarted(unbound: ["mux"], { $0.session.connectionTimeout = 20 }) { world in
            _ = try await world.request()
            try await world.admit()
            let farewell = try await world.request()
            #expect(farewell.type == .unregistrationRequest)
            #expect(await world.running.value == .portsSilent)
            #expect(!world.controller.hasFrames("hb_ping connected"))
        }
    }

    @Test("An engine that hears no ping for long enough unregisters and ends", .timeLimit(.minutes(1)))
    func losesController() async throws {
        try await World.withStarted({ $0.session.missedHeartbeatLimit = 1 }) { world in
            _ = try await world.accept(period: 1)
            #expect(try await world.request().content == ["id": 3])
            #expect(await world.running.value == .controllerLost)
        }
    }

    @Test(
        "An engine that its controller gave up registers again when told, with its id and names, without what it held",
        .timeLimit(.minutes(1)))
    func registersAgain() async throws {
        try await World.with { world in
            #expect(try await world.controller.result(of: "addToTotal", 2.0, to: world.uuid) == .float(2))
            // It runs one request, and one waits behind it.
            for _ in 0..<2 {
                try await world.controller.apply(
                    .reference("passGate"), "given up", to: world.uuid, metadata: ["apus_quiet": true])
            }
            await Gate.shared.arrival(at: "given up")
            try await world.controller.request(
                .registerAgainRequest, to: world.uuid, by: "control", content: ["uuid": "another engine's"])
            try await world.controller.request(
                .registerAgainRequest, to: world.uuid, by: "control", content: ["uuid": .string(world.uuid.text)])
            let request = try await world.accept()
            #expect(request.type == .registrationRequest)
            #expect(request.content["uuid"]?.string == world.uuid.text)
            #expect(request.content["id"] == 3)
            // Neither of the two is ever answered; the same message may come again, as the task's second attempt.
            #expect(try await world.controller.result(of: "addToTotal", 1.0, to: world.uuid) == .float(3))
            #expect(!world.controller.hasFrames("mux"))
        }
    }

    @Test("Absurd numbers of the controller's and of requests stop nothing", .timeLimit(.minutes(1)))
    func absurdNumbers() async throws {
        for period in [JSONValue.int(.max), .int(.min), .double(1e300), "soon", .null] {
            try await World.withStarted { world in
                _ = try await world.request()
                try await world.answer(["id": -1, "status": "ok", "hb_period": period])
                try await world.answer(["id": 3, "status": "ok", "hb_period": period, "connection_info": [:]])
                _ = try await world.controller.nextFrames("hb_ping connected")
                #expect(try await world.beat("1.5") == "1.5")
            }
        }
        try await World.with { world in
            for number in [JSONValue.double(1e300), .int(.max), .int(.min), .double(-1.5), "x"] {
                let metadata: JSONObject = ["apus_quiet": true, "apus_limit": number, "apus_depth": number]
                try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: metadata)
                _ = try await world.controller.next("mux")
                let mapped: JSONObject = ["apus_quiet": true, "apus_captures": number]
                try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: mapped)
                _ = try await world.controller.next("mux")
            }
        }
    }

    @Test("A function is called by name; the reply says all that schedulers and clients need", .timeLimit(.minutes(1)))
    func applies() async throws {
        try await World.with { world in
            let metadata: JSONObject = [
                "label": ["a", 1], "is_broadcast": true, "is_coalescing": false, "original_msg_id": "abc", "targets": [],
            ]
            let id = try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: metadata)
            let reply = try await world.controller.next("mux")
            #expect(reply.type == .applyReply)
            #expect(reply.identities == [world.uuid.text, "client"])
            #expect(reply.session == world.uuid.text)
            #expect(reply.parent == id)
            #expect(try reply.value == 9.0)
            #expect(reply.content == ["status": "ok"])
            var members = try #require(reply.metadata.object)
            #expect(members.removeValue(forKey: "started")?.string.flatMap { WireDate($0) } != nil)
            #expect(
                members == [
                    "dependencies_met": true, "engine": .string(world.uuid.text), "is_broadcast": true, "is_coalescing": false,
                    "original_msg_id": "abc", "label": ["a", 1], "status": "ok",
                ])
            #expect(try await world.controller.output(of: id) == ["status busy", "status idle"])
        }
    }

    @Test("Requests may come by three ways, and each is answered by its own", arguments: ["mux", "task", "broadcast"])
    func channels(socket: String) async throws {
        try await World.with { world in
            try await world.controller.apply(.reference("squareOf"), 4.0, to: world.uuid, by: socket)
            #expect(try await world.controller.next(socket).value == 16.0)
        }
    }

    @Test("A quiet request publishes nothing, and its reply counts the output", .timeLimit(.minutes(1)))
    func quiet() async throws {
        try await World.with { world in
            try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: ["apus_quiet": true])
            let reply = try await world.controller.next("mux")
            #expect(reply.metadata["apus_outputs"] == 0)
            let id = try await world.controller.apply(.reference("fail"), "now", to: world.uuid, metadata: ["apus_quiet": true])
            #expect(try await world.controller.next("mux").metadata["apus_outputs"] == 1)
            let output = try await world.controller.next("iopub")
            #expect(output.parent == id)
            #expect(output.line == "error OutOfCheese")
        }
    }

    @Test("Keywords, asynchronous functions and the engine's own context work", .timeLimit(.minutes(1)))
    func functions() async throws {
        try await World.with { world in
            try await world.controller.apply(
                .reference("join"), ["a", "b"], keywords: [("with", "-")], to: world.uuid)
            #expect(try await world.controller.next("mux").value == "a-b")
            #expect(try await world.controller.result(of: "slowSquare", 5.0, to: world.uuid) == 25.0)
            #expect(try await world.controller.result(of: "engineNumber", to: world.uuid) == 3)
            #expect(try await world.controller.result(of: "addToTotal", 1.5, to: world.uuid) == 1.5)
            #expect(try await world.controller.result(of: "addToTotal", 2.0, to: world.uuid) == 3.5)
        }
    }

    @Test("An error says what was called, with what, and where", .timeLimit(.minutes(1)))
    func errors() async throws {
        try await World.with { world in
            let id = try await world.controller.apply(.reference("fail"), "today", to: world.uuid)
            let reply = try await world.controller.next("mux")
            #expect(reply.content["status"] == "error")
            #expect(reply.content["ename"] == "OutOfCheese")
            #expect(reply.content["evalue"] == "no cheese: today")
            #expect(reply.content["engine_info"] == ["engine_uuid": .string(world.uuid.text), "engine_id": 3, "method": "apply"])
            let traceback = reply.content["traceback"]?.array?.compactMap { $0.string } ?? []
            #expect(traceback.contains("OutOfCheese in fail(_ message: String) throws -> Int"), "\(traceback)")
            #expect(traceback.contains { $0.contains("EngineServiceTests.swift") && $0.contains("engine 3") }, "\(traceback)")
            #expect(traceback.contains("  called with 'today'"), "\(traceback)")
            #expect(reply.metadata["status"] == "error")
            #expect(reply.metadata["dependencies_met"] == true)
            #expect(reply.message.buffers.isEmpty)
            #expect(try await world.controller.output(of: id) == ["status busy", "error OutOfCheese", "status idle"])
        }
    }

    @Test("What an engine cannot call is an error that says what to do", .timeLimit(.minutes(1)))
    func unknownFunctions() async throws {
        try await World.with { world in
            func error(_ function: PickleValue, _ metadata: JSONObject = [:]) async throws -> (String?, String) {
                try await world.controller.apply(function, 1.0, to: world.uuid, metadata: metadata)
                let content = try await world.controller.next("mux").content
                return (content["ename"]?.string, content["evalue"]?.string ?? "")
            }
            var (name, text) = try await error(.reference("squaerOf"))
            #expect(name == "FunctionNotFound")
            #expect(text.contains("squareOf"))
            (name, text) = try await error(.global(module: "math", name: "sqrt"))
            #expect(name == "TypeError")
            #expect(text.contains("'sqrt' of 'math' is Python's"))
            (name, text) = try await error(.reference("squareOf"), ["apus_build": "another"])
            #expect(name == "FunctionNotFound")
            #expect(text.contains("Restart the engines"))
            (name, _) = try await error(.reference("join"))
            #expect(name == "TypeError")
            (name, text) = try await error(42)
            #expect(name == "TypeError")
        }
    }

    @Test("Shared memory that is gone is an error, and the next request is answered", .timeLimit(.minutes(1)))
    func sharedMemoryIsGone() async throws {
        try await World.with { world in
            let gone: JSONObject = ["buffer": 2, "process": 1, "descriptor": 1, "token": "none", "size": 300_000]
            for metadata: JSONObject in [["apus_shared": [.object(gone)]], ["apus_shared": 7]] {
                try await world.controller.apply(.reference("squareOf"), 3.0, to: world.uuid, metadata: metadata)
                let reply = try await world.controller.next("mux")
                #expect(reply.content["ename"] == "EngineError")
                #expect(reply.type == .applyReply)
            }
            #expect(try await world.controller.result(of: "squareOf", 3.0, to: world.uuid) == 9.0)
        }
    }

    @Test("A map calls the function for each place and replies with the list", .timeLimit(.minutes(1)))
    func maps() async throws {
        try await World.with { world in
            let metadata: JSONObject = ["apus_quiet": true, "apus_map": true]
            #expect(
                try await world.controller.result(of: "squareOf", [1.0, 2.0, 3.0], to: world.uuid, metadata: metadata) == [
                    1.0, 4.0, 9.0,
                ])
            #expect(
                try await world.controller.result(of: "slowSquare", [1.0, 2.0], to: world.uuid, metadata: metadata) == [1.0, 4.0])
            #expect(
                try await world.controller.result(
                    of: "join", [["a", "b"], ["c"]], ["-", "+"], to: world.uuid, metadata: metadata)
                    == ["a-b", "c"])
            try await world.controller.apply(PythonCall.mapFunction, .reference("squareOf"), [2.0, 3.0], to: world.uuid)
            #expect(try await world.controller.next("mux").value == [4.0, 9.0])
        }
    }

    @Test("A closure gets what it captured before its arguments", .timeLimit(.minutes(1)))
    func closures() async throws {
        let factor = 3
        let scale = #remote { [factor = factor as Int] (x: Double) in x * Double(factor) }
        try await World.with { world in
            let metadata: JSONObject = [
                "apus_quiet": true, "apus_captures": 1, "apus_build": .string(BuildFingerprint.current),
            ]
            let one = try await world.controller.result(of: scale.name, 3, 2.0, to: world.uuid, metadata: metadata)
            #expect(one == 6.0)
            let each = try await world.controller.result(
                of: scale.name, 3, [1.0, 2.0], to: world.uuid, metadata: metadata.merging(["apus_map": true]) { $1 })
            #expect(each == [3.0, 6.0])
        }
    }

    @Test("Push and pull reach the namespace; references among arguments are its values", .timeLimit(.minutes(1)))
    func namespace() async throws {
        try await World.with { world in
            try await world.controller.apply(PythonCall.pushFunction, keywords: [("a", 7.0), ("b", "text")], to: world.uuid)
            #expect(try await world.controller.next("mux").value == .none)
            try await world.controller.apply(PythonCall.pullFunction, "a", to: world.uuid)
            #expect(try await world.controller.next("mux").value == 7.0)
            try await world.controller.apply(PythonCall.pullFunction, ["b", "a"], to: world.uuid)
            #expect(try await world.controller.next("mux").value == ["text", 7.0])
            #expect(try await world.controller.result(of: "squareOf", .reference("a"), to: world.uuid) == 49.0)
            try await world.controller.apply(PythonCall.pullFunction, "missing", to: world.uuid)
            let error = try await world.controller.next("mux").content
            #expect(error["ename"] == "NameError")
            #expect(error["evalue"] == "name 'missing' is not defined")
        }
    }

    @Test("Source text is for Python engines, and the error says so", .timeLimit(.minutes(1)))
    func execute() async throws {
        try await World.with { world in
            try await world.controller.request(.executeRequest, to: world.uuid, content: ["code": "1 + 1", "silent": true])
            let reply = try await world.controller.next("mux")
            #expect(reply.type == .executeReply)
            #expect(reply.content["ename"] == "NotImplementedError")
            #expect(reply.content["execution_count"] == 0)
            #expect(reply.content["engine_info"]?["method"] == "execute")
        }
    }

    @Test("Front ends get their answers, and unknown requests are passed over", .timeLimit(.minutes(1)))
    func kernelRequests() async throws {
        try await World.with { world in
            let unknown = try await world.controller.request(MessageType(rawValue: "comm_open"), to: world.uuid)
            #expect(try await world.controller.output(of: unknown) == ["status busy", "status idle"])
            try await world.controller.request(MessageType(rawValue: "kernel_info_request"), to: world.uuid)
            let reply = try await world.controller.next("mux")
            #expect(reply.type.rawValue == "kernel_info_reply")
            #expect(reply.content["language_info"]?["name"] == "swift")
        }
    }

    @Test("Bad bytes change nothing: unsigned, replayed, torn or absurd requests", .timeLimit(.minutes(1)))
    func badBytes() async throws {
        try await World.with { world in
            let payload = ApplyPayload(function: .reference("addToTotal"), arguments: [1.0]).encode()
            let good = world.controller.makeRequest(.applyRequest, to: world.uuid, buffers: payload)
            var unsigned = good.frames
            unsigned[3] = ByteBuffer(string: String(repeating: "0", count: 64))
            try await world.controller.send(unsigned, by: "mux")
            try await world.controller.send([ByteBuffer(string: world.uuid.text), ByteBuffer(string: "?")], by: "mux")
            try await world.controller.send(good.frames, by: "mux")
            #expect(try await world.controller.next("mux").value == 1.0)
            try await world.controller.send(good.frames, by: "mux")

            var torn = payload
            torn[2] = torn[2].getSlice(at: 0, length: torn[2].readableBytes - 2)!
            try await world.controller.request(.applyRequest, to: world.uuid, buffers: torn)
            #expect(try await world.controller.next("mux").content["ename"] == "TypeError")
            try await world.controller.request(.applyRequest, to: world.uuid, buffers: [])
            #expect(try await world.controller.next("mux").content["status"] == "error")
            try await world.controller.apply(.reference("addToTotal"), 1.0, to: world.uuid, metadata: ["apus_captures": -5])
            #expect(try await world.controller.next("mux").content["ename"] == "TypeError")
            #expect(try await world.controller.result(of: "addToTotal", 1.0, to: world.uuid) == 2.0)
        }
    }
}
