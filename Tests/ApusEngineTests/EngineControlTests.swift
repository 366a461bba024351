import ApusCore
import ApusEngine
import ApusFunctions
import ApusWire
import NIOCore
import Pickle
import Locks
import Testing

/// Holds functions back until the test lets them go, and lets the test wait until one has begun.
final class Gate: Sendable {
    static let shared = Gate()

    private struct State {
        var isOpen = false
        var arrived = 0
        var waitingInside: [CheckedContinuation<Void, Never>] = []
        var waitingOutside: [CheckedContinuation<Void, Never>] = []
    }

    private let gates = Mutex<[String: State]>([:])

    /// Called by a function: stops until ``open(_:)``, or until it is cancelled.
    func pass(_ name: String) async throws {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (goesOn, arrivals) = self.gates.withLock { gates -> (Bool, [CheckedContinuation<Void, Never>]) in
                    let arrivals = gates[name]?.waitingOutside ?? []
                    gates[name, default: State()].waitingOutside = []
                    gates[name]!.arrived += 1
                    if gates[name]!.isOpen || Task.isCancelled { return (true, arrivals) }
                    gates[name]!.waitingInside.append(continuation)
                    return (false, arrivals)
                }
                for arrival in arrivals { arrival.resume() }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            self.release(name, opens: false)
        }
        try Task.checkCancellation()
    }

    func open(_ name: String) { self.release(name, opens: true) }

    private func release(_ name: String, opens: Bool) {
        let waiting = self.gates.withLock { gates in
            if opens { gates[name, default: State()].isOpen = true }
            defer { gates[name]?.waitingInside = [] }
            return gates[name]?.waitingInside ?? []
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Returns once a function is at the gate.
    func arrival(at name: String) async {
        await withCheckedContinuation { continuation in
            let isThere = self.gates.withLock { gates in
                if (gates[name]?.arrived ?? 0) > 0 { return true }
                gates[name, default: State()].waitingOutside.append(continuation)
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}

@Remote func passGate(_ name: String) async throws -> String {
    try await Gate.shared.pass(name)
    return name
}

/// Stands at the gate as if it waited for tasks of its own.
@Remote func pretendToWait(_ name: String) async throws -> String {
    let turn = EngineContext.current?.turn
    try turn?.beginWait()
    try await Gate.shared.pass(name)
    await turn?.endWait()
    return name
}

@Suite("An engine obeys control requests while it runs something")
struct EngineControlTests {
    /// An engine that runs `passGate(name)`, quietly.
    private func withBusyEngine(_ name: String, _ body: (World) async throws -> Void) async throws {
        try await World.with { world in
            try await world.controller.apply(
                .reference("passGate"), .string(name), to: world.uuid, metadata: ["apus_quiet": true])
            await Gate.shared.arrival(at: name)
            try await body(world)
            Gate.shared.open(name)
        }
    }

    @Test("Aborted requests are answered at once, and those that come later when they come", .timeLimit(.minutes(1)))
    func aborts() async throws {
        try await self.withBusyEngine("aborts") { world in
            let controller = world.controller
            let queued = try await controller.apply(.reference("squareOf"), 1.0, to: world.uuid)
            let late = controller.makeRequest(
                .applyRequest, to: world.uuid, buffers: ApplyPayload(function: .reference("squareOf"), arguments: [2.0]).encode())
            let lateID = try MessageHeader(scanning: late.header).id
            let abort = try await controller.request(
                .abortRequest, to: world.uuid, by: "control", content: ["msg_ids": [.string(queued.text), .string(lateID.text)]])
            let reply = try await controller.next("control")
            #expect(reply.type == .abortReply)
            #expect(reply.parent == abort)
            #expect(reply.content == ["status": "ok"])
            #expect(reply.identities == [world.uuid.text, "client"])

            let aborted = try await controller.next("mux")
            #expect(aborted.type == .applyReply)
            #expect(aborted.parent == queued)
            #expect(aborted.content == ["status": "aborted"])
            #expect(aborted.metadata["status"] == "aborted")
            #expect(try await controller.output(of: queued) == ["status busy", "status idle"])

            try await controller.send(late.frames, by: "mux")
            Gate.shared.open("aborts")
            #expect(try await controller.next("mux").value == "aborts")
            let second = try await controller.next("mux")
            #expect(second.parent == lateID)
            #expect(second.content == ["status": "aborted"])
        }
    }

    @Test("An abort without ids means the executes that wait, with apus_all everything", .timeLimit(.minutes(1)))
    func abortsAll() async throws {
        try await self.withBusyEngine("abortsAll") { world in
            let controller = world.controller
            let apply = try await controller.apply(.reference("squareOf"), 1.0, to: world.uuid, metadata: ["apus_quiet": true])
            let execute = try await controller.request(.executeRequest, to: world.uuid, content: ["code": "1"])
            try await controller.request(.abortRequest, to: world.uuid, by: "control", content: ["msg_ids": []])
            let first = try await controller.next("mux")
            #expect(first.parent == execute)
            #expect(first.type == .executeReply)
            #expect(first.content == ["status": "aborted"])
            try await controller.request(
                .abortRequest, to: world.uuid, by: "control", content: ["msg_ids": [], "apus_all": true])
            let second = try await controller.next("mux")
            #expect(second.parent == apply)
            #expect(second.content == ["status": "aborted"])
        }
    }

    @Test("A controller that asks for a report is told which tasks wait for tasks of their own", .timeLimit(.minutes(1)))
    func reportsWaits() async throws {
        try await World.withStarted { world in
            let controller = world.controller
            _ = try await world.request()
            let client = ClientConnectionInfo(
                common: controller.connection.common, control: 1, mux: 2, task: 3, iopub: 4, notification: 5, broadcast: nil,
                taskScheme: "leastload")
            try await world.answer([
                "id": 3, "status": "ok", "hb_period": 60_000, "connection_info": [:], "apus": ["client": client.json],
            ])
            _ = try await controller.nextFrames("hb_ping connected")
            #expect(try await world.beat("1.5") == "1.5")
            _ = try await controller.output(until: .status)
            let task = try await controller.apply(
                .reference("pretendToWait"), .string("reportsWaits"), to: world.uuid, by: "task", metadata: ["apus_quiet": true])
            let waits: JSONValue = ["msg_id": .string(task.text), "waits": true]
            #expect(try await controller.next("task").content == waits)
            try await controller.request(.reportRequest, to: world.uuid, by: "control", content: ["msg_ids": []])
            #expect(try await controller.next("control").content["has"] == [.string(task.text)])
            #expect(try await controller.next("task").content == waits)
            Gate.shared.open("reportsWaits")
            #expect(try await controller.next("task").content["waits"] == false)
            #expect(try await controller.next("task").value == "reportsWaits")
            try await controller.request(.reportRequest, to: world.uuid, by: "control", content: ["msg_ids": []])
            _ = try await controller.next("control")
            #expect(!controller.hasFrames("task"))
        }
    }

    @Test("A recall gives back what has not started; it may come again", .timeLimit(.minutes(1)))
    func recalls() async throws {
        try await self.withBusyEngine("recalls") { world in
            let controller = world.controller
            let request = controller.makeRequest(
                .applyRequest, to: world.uuid, metadata: ["apus_quiet": true],
                buffers: ApplyPayload(function: .reference("squareOf"), arguments: [2.0]).encode())
            let id = try MessageHeader(scanning: request.header).id
            try await controller.send(request.frames, by: "task")
            try await controller.request(
                .recallRequest, to: world.uuid, by: "control", content: ["msg_ids": [.string(id.text), "unknown"]])
            let reply = try await controller.next("control")
            #expect(reply.type == .recallReply)
            #expect(reply.content == ["status": "ok", "msg_ids": [.string(id.text)]])
            try await controller.request(.recallRequest, to: world.uuid, by: "control", content: ["msg_ids": [.string(id.text)]])
            #expect(try await controller.next("control").content == ["status": "ok", "msg_ids": []])
            try await controller.send(request.frames, by: "task")
            Gate.shared.open("recalls")
            #expect(try await controller.next("task").value == 4.0)
        }
    }

    @Test("SIGINT cancels an asynchronous function, which raises KeyboardInterrupt", .timeLimit(.minutes(1)))
    func interrupts() async throws {
        try await self.withBusyEngine("interrupts") { world in
            try await world.controller.request(.signalRequest, to: world.uuid, by: "control", content: ["sig": "SIGINT"])
            let reply = try await world.controller.next("control")
            #expect(reply.type.rawValue == "_request")
            #expect(reply.content == ["status": "ok", "apus_interrupted": true])
            #expect(try await world.controller.next("mux").content["ename"] == "KeyboardInterrupt")
            try await world.controller.request(.signalRequest, to: world.uuid, by: "control", content: ["sig": 2])
            #expect(try await world.controller.next("control").content == ["status": "ok", "apus_interrupted": false])
            try await world.controller.request(.signalRequest, to: world.uuid, by: "control", content: ["sig": "SIGFOO"])
            #expect(try await world.controller.next("control").content["ename"] == "ValueError")
        }
    }

    @Test("A shutdown is answered at once; the running task is finished and its reply sent", .timeLimit(.minutes(1)))
    func shutsDown() async throws {
        try await self.withBusyEngine("shutsDown") { world in
            let controller = world.controller
            let id = try await controller.request(.shutdownRequest, to: world.uuid, by: "control", content: ["restart": false])
            let reply = try await controller.next("control")
            #expect(reply.type == .shutdownReply)
            #expect(reply.content == ["status": "ok", "restart": false])
            let output = try #require(try await controller.output(until: .shutdownReply).last)
            #expect(output.parent == id)
            #expect(output.session == world.uuid.text)
            #expect(output.identities == ["engine.3.shutdown"])
            #expect(try await world.request().content == ["id": 3])
            Gate.shared.open("shutsDown")
            #expect(try await controller.next("mux").value == "shutsDown")
            #expect(await world.running.value == .shutDown)
        }
    }

    @Test("Clear empties the namespace", .timeLimit(.minutes(1)))
    func clears() async throws {
        try await World.with { world in
            #expect(try await world.controller.result(of: "addToTotal", 5.0, to: world.uuid) == 5.0)
            try await world.controller.request(.clearRequest, to: world.uuid, by: "control")
            #expect(try await world.controller.next("control").type == .clearReply)
            #expect(try await world.controller.result(of: "addToTotal", 1.0, to: world.uuid) == 1.0)
        }
    }

    @Test("SIGTERM from a client ends the engine, whatever it runs", .timeLimit(.minutes(1)))
    func terminates() async throws {
        try await self.withBusyEngine("terminates") { world in
            try await world.controller.request(.signalRequest, to: world.uuid, by: "control", content: ["sig": "SIGTERM"])
            #expect(try await world.request().content == ["id": 3])
            #expect(await world.running.value == .signalled)
        }
    }

    @Test("Pings are answered while a function keeps the worker", .timeLimit(.minutes(1)))
    func beatsWhileBusy() async throws {
        try await self.withBusyEngine("beatsWhileBusy") { world in
            let pong = try await world.beat("2.5")
            #expect(pong == "2.5")
        }
    }
}
