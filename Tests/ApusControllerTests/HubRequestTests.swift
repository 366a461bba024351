import Logging
import ApusController
import ApusCore
import ApusFunctions
import ApusTransport
import ApusStore
import ApusWire
import NIOCore
import Pickle
import Testing

@Suite("A hub request")
struct HubRequestTests {
    @Test(
        "That cannot be answered is answered with an error under Python's name",
        arguments: [
            ("no_such_request", [:], "hub_error", "KeyError"), ("queue_request", [:], "hub_error", "KeyError"),
            ("queue_request", ["targets": []], "hub_error", "IndexError"),
            ("queue_request", ["targets": 7], "hub_error", "IndexError"),
            ("queue_request", ["targets": ["nobody"]], "hub_error", "IndexError"),
            ("load_request", ["targets": 7], "hub_error", "IndexError"),
            ("result_request", ["msg_ids": ["none"]], "result_reply", "KeyError"),
            ("result_request", ["msg_ids": 7], "result_reply", "TypeError"),
            ("purge_request", ["engine_ids": [9]], "purge_reply", "IndexError"),
            ("resubmit_request", ["msg_ids": ["none"]], "resubmit_reply", "KeyError"),
            ("apus_functions_request", ["uuid": "nobody", "functions": []], "hub_error", "KeyError"),
            ("apus_functions_request", ["uuid": "nobody"], "hub_error", "ValueError"),
            ("become_dask_request", [:], "become_dask_reply", "NotImplementedError"),
        ] as [(String, JSONObject, String, String)])
    func errors(type: String, content: JSONObject, reply: String, name: String) async throws {
        let world = try await World()
        let query = world.socket(.dealer, world.client.common.registration)
        let answer = try await query.ask(world.message(MessageType(rawValue: type), content: content))
        #expect(answer.type == reply)
        #expect(answer.json["ename"]?.string == name)
        #expect(answer.json["evalue"]?.string?.isEmpty == false)
        #expect(answer.json["traceback"]?.array != nil)
        await world.stop()
    }

    @Test("From an engine that has loaded functions brings it the tasks that call them")
    func functions() async throws {
        let world = try await World()
        let python = try await world.startEngine("ada", apus: ["python": true, "functions": []])
        let swift = try await world.startEngine("bob", apus: ["python": false, "functions": []])
        let answer = try await swift.registrar.ask(
            world.message(.functionsRequest, content: ["uuid": "bob", "functions": ["Module.square"]]))
        #expect(answer.type == "apus_functions_reply")
        #expect(answer.json["status"] == "ok")
        let client = world.socket(.dealer, world.client.task)
        // More tasks than engines hold at a time.
        let call = ApplyPayload(function: .reference("square"), arguments: [3]).encode()
        let requests = (0..<8).map { _ in world.message(.applyRequest, buffers: call) }
        for request in requests { client.send(request) }
        for request in requests {
            let arrived = try await swift.task.next()
            #expect(arrived.id == request.id)
            swift.task.send(swift.reply(to: arrived))
        }
        #expect(python.task.received == 0)
        await world.stop()
    }

    @Test("About the controller's uptime tells the seconds that it has run, and its version")
    func uptime() async throws {
        let world = try await World()
        let query = world.socket(.dealer, world.client.common.registration)
        var last = 0.0
        for _ in 0..<2 {
            let answer = try await query.ask(world.message(.uptimeRequest))
            #expect(answer.type == "apus_uptime_reply")
            #expect(answer.json["status"] == "ok" && answer.json["version"] == .string(ApusVersion.text))
            let uptime = try #require(answer.json["uptime"]?.double)
            #expect(uptime >= last)
            last = uptime
        }
        await world.stop()
    }

    @Test("About a task: it waits, it runs, it is done, it is looked up, run again and forgotten")
    func lifeOfATask() async throws {
        let world = try await World()
        let query = world.socket(.dealer, world.client.common.registration)
        func ask(_ type: MessageType, _ content: JSONObject) async throws -> Message {
            try await query.ask(world.message(type, content: content))
        }
        let client = world.socket(.dealer, world.client.task)
        let request = world.message(.applyRequest)
        client.send(request)
        let id = JSONValue.string(request.id)
        var status = try await ask(.queueRequest, ["targets": .null, "verbose": true]).json
        while status["unassigned"] != [id] { status = try await ask(.queueRequest, ["targets": .null, "verbose": true]).json }
        #expect(status["apus_waiting"]?[request.id]?.string?.isEmpty == false)

        let engine = try await world.startEngine("ada")
        let arrived = try await engine.task.next()
        #expect(
            try await ask(.queueRequest, ["targets": 0, "verbose": true]).json["0"] == [
                "queue": [], "tasks": [id], "completed": [],
            ])
        #expect(try await ask(.loadRequest, ["targets": .null]).json == ["status": "ok", "0": 1])
        #expect(try await ask(.resultRequest, ["msg_ids": [id], "status_only": true]).json["pending"] == [id])
        #expect(try await ask(.purgeRequest, ["msg_ids": [id]]).json["ename"] == "IndexError")

        engine.task.send(engine.reply(to: arrived))
        _ = try await client.next()
        let result = try await ask(.resultRequest, ["msg_ids": [id], "status_only": false])
        #expect(result.json["completed"] == [id])
        #expect(result.texts == ["result of ada"])
        #expect(try await ask(.historyRequest, [:]).json["history"] == [id])

        let again = try #require(try await ask(.resubmitRequest, ["msg_ids": [id]]).json["resubmitted"]?[request.id]?.string)
        let repeated = try await engine.task.next()
        #expect(repeated.id == again)
        engine.task.send(engine.reply(to: repeated))
        while try await ask(.resultRequest, ["msg_ids": [.string(again)], "status_only": true]).json["completed"] != [
            .string(again)
        ] {}
        let records = try await ask(.databaseRequest, ["query": ["msg_id": id], "keys": ["resubmitted", "engine_uuid"]]).json[
            "records"]
        #expect(records == [["msg_id": id, "resubmitted": .string(again), "engine_uuid": "ada"]])

        #expect(try await ask(.purgeRequest, ["msg_ids": "all"]).json == ["status": "ok"])
        #expect(try await ask(.historyRequest, [:]).json["history"] == [])
        #expect(client.received == 1, "nobody waits for what was run again")
        await world.stop()
    }

    @Test("With a pattern that takes long does not delay other requests")
    func slowPattern() async throws {
        let world = try await World()
        let engine = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task)
        client.send(world.message(.applyRequest))
        let request = try await engine.task.next()
        let text = JSONValue.string(String(repeating: "a", count: 1000))
        engine.iopub.send(world.message(.stream, content: ["name": "stdout", "text": text], parent: request.header))
        engine.task.send(engine.reply(to: request))
        _ = try await client.next()
        let query = world.socket(.dealer, world.client.common.registration)
        // Several hundred states for each letter: seconds, and a match only beyond the end.
        query.send(
            world.message(.databaseRequest, content: ["query": ["stdout": ["$regex": "(?:a?){400}b"]], "keys": ["msg_id"]]))
        let other = world.socket(.dealer, world.client.common.registration)
        #expect(try await other.ask(world.message(.connectionRequest)).json["status"] == "ok")
        #expect(query.received == 0)
        #expect(try await query.next().json["records"] == [])
        await world.stop()
    }

    @Test("To shut down is answered, told to all clients, and followed by the end")
    func shutdown() async throws {
        let world = try await World()
        let notices = world.socket(.subscriber, world.client.notification)
        let query = world.socket(.dealer, world.client.common.registration)
        #expect(try await query.ask(world.message(.shutdownRequest)).json == ["status": "ok"])
        #expect(try await notices.next().type == "shutdown_notification")
        await world.stop()
    }
}
