import ApusController
import ApusStore
import ApusTransport
import ApusWire
import NIOCore
import Testing

@Suite("A controller takes up what the one before it left", .timeLimit(.minutes(1)))
struct RestoringTests {
    private let store = SlowStore(flushesAtOnce: true)
    private let options: ControllerOptions

    init() {
        var options = ControllerOptions()
        options.key = "the same key in both lives"
        self.options = options
    }

    /// A controller that gives the engine ada the first of these tasks, and is gone before any has ended.
    ///
    /// - Returns: The requests as the client sent them, and the first as the engine got it.
    private func firstLife(_ count: Int, metadata: JSONObject = [:]) async throws -> (requests: [Message], received: Message) {
        let world = try await World(self.options, store: self.store)
        let ada = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let requests = (0..<count).map { _ in
            world.message(.applyRequest, session: "customer", metadata: metadata, buffers: [ByteBuffer(string: "function")])
        }
        for request in requests { client.send(request) }
        let received = try await ada.task.next()
        while try await self.store.unfinished().count < count { await Task.yield() }
        await world.stop()
        return (requests, received)
    }

    @Test("A stock engine's answer counts, and what it has not answered before a later question is lost")
    func stockEngine() async throws {
        let (requests, received) = try await self.firstLife(3)
        let world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada", restored: true)
        let probe = try await ada.task.next()
        #expect(probe.type == "kernel_info_request")
        ada.task.send(ada.reply(to: received))
        let first = try await client.next()
        #expect(MessageHeader.messageID(scanning: first.parent) == MessageID(requests[0].id))
        #expect(first.texts == ["result of ada"])
        ada.task.send(
            world.message(
                MessageType(rawValue: "kernel_info_reply"), content: ["status": "ok"], parent: probe.header,
                identities: Array(probe.identities)))
        // The queue goes on in its order.
        for request in requests.dropFirst() {
            let next = try await ada.task.next()
            #expect(next.id == request.id)
            ada.task.send(ada.reply(to: next))
            let answer = try await client.next()
            #expect(MessageHeader.messageID(scanning: answer.parent) == MessageID(request.id))
        }
        #expect(try await self.store.unfinished().isEmpty)
        await world.stop()
    }

    @Test("A task whose answer a stock engine gave to nobody ends as lost, and says so")
    func lostAnswer() async throws {
        _ = try await self.firstLife(1)
        let world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada", restored: true)
        // It may read the messages of its old connection and of the new one in turns, so it is asked once for each task, and once more.
        for _ in 0..<2 {
            let probe = try await ada.task.next()
            ada.task.send(
                world.message(
                    MessageType(rawValue: "kernel_info_reply"), content: ["status": "ok"], parent: probe.header,
                    identities: Array(probe.identities)))
        }
        let answer = try await client.next()
        #expect(answer.json["ename"] == "EngineError")
        #expect(answer.json["evalue"]?.string?.contains("the answer was lost with the controller") == true)
        await world.stop()
    }

    @Test("An engine of ours is asked what it holds: what never reached it is sent again")
    func ourEngine() async throws {
        let (requests, _) = try await self.firstLife(2)
        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada", restored: true)
        let question = try await ada.control.next()
        #expect(question.type == "apus_report_request")
        #expect(question.json["msg_ids"] == [.string(requests[0].id)])
        ada.control.send(
            world.message(
                .reportReply, content: ["status": "ok", "asked": [.string(requests[0].id)], "has": [], "lost": []],
                parent: question.header, identities: Array(question.identities)))
        for request in requests {
            let next = try await ada.task.next()
            #expect(next.id == request.id)
            ada.task.send(ada.reply(to: next))
            _ = try await client.next()
        }
        await world.stop()
    }

    @Test("An engine that holds several tasks is asked once about each, and not for as long as it holds them")
    func asksOnce() async throws {
        let (requests, _) = try await self.firstLife(2)
        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let ada = try await world.startEngine("ada", restored: true)
        // The store knows only the first task's engine; both are there.
        let held = JSONValue.array(requests.map { .string($0.id) })
        for request in requests {
            let question = try await ada.control.next()
            #expect(question.json["msg_ids"] == [.string(request.id)])
            ada.control.send(
                world.message(
                    .reportReply, content: ["status": "ok", "asked": [.string(request.id)], "has": held, "lost": []],
                    parent: question.header, identities: Array(question.identities)))
        }
        let client = world.socket(.dealer, world.client.control)
        client.send(world.message(.clearRequest, identities: [ByteBuffer(string: "ada")]).frames)
        #expect(try await ada.control.next().type == "clear_request")
        await world.stop()
    }

    @Test("A second try that never reached its engine is signed anew when it is sent again")
    func secondTry() async throws {
        let first = try await World(self.options, store: self.store)
        let client = first.socket(.dealer, first.client.task, identity: "customer")
        let ada = try await first.startEngine("ada")
        client.send(
            first.message(
                .applyRequest, session: "customer", metadata: ["retries": 2], buffers: [ByteBuffer(string: "function")]))
        ada.task.send(ada.reply(to: try await ada.task.next(), status: "error"))
        let secondTry = try await ada.task.next()
        await first.stop()

        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let restored = try await world.startEngine("ada", restored: true)
        let question = try await restored.control.next()
        restored.control.send(
            world.message(
                .reportReply, content: ["status": "ok", "asked": [.string(secondTry.id)], "has": [], "lost": []],
                parent: question.header, identities: Array(question.identities)))
        let again = try await restored.task.next()
        #expect(again.id == secondTry.id)
        // The engine would refuse a signature that it has seen, and a task that is refused never ends.
        #expect(again.signature != secondTry.signature)
        await world.stop()
    }

    @Test("A failure is recorded while the task waits for its next try")
    func failureWhileWaiting() async throws {
        let world = try await World(self.options, store: self.store)
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada")
        client.send(
            world.message(
                .applyRequest, session: "customer", metadata: ["retries": 2, "apus_retry": ["pause": 3600]],
                buffers: [ByteBuffer(string: "function")]))
        ada.task.send(ada.reply(to: try await ada.task.next(), status: "error"))
        while try await self.store.unfinished().first?.failures != 1 { await Task.yield() }
        #expect(try await self.store.unfinished().first?.assignedEngine == nil)
        await world.stop()
    }

    @Test("A task that a client sends again is not run twice when an engine has it")
    func sentAgain() async throws {
        _ = try await self.firstLife(1)
        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada", restored: true)
        let question = try await ada.control.next()
        // The engine has a request that the store never heard of.
        let again = world.message(.applyRequest, session: "customer", buffers: [ByteBuffer(string: "function")])
        let asked = try #require(question.json["msg_ids"])
        ada.control.send(
            world.message(
                .reportReply,
                content: ["status": "ok", "asked": asked, "has": .array((asked.array ?? []) + [.string(again.id)]), "lost": []],
                parent: question.header, identities: Array(question.identities)))
        client.send(again)
        let repetition = try await ada.control.next()
        #expect(repetition.json["msg_ids"] == [.string(again.id)])
        // It answers, though nobody sent it the request in this life.
        var request = again
        request = try Message(frames: [ByteBuffer(string: "customer")] + request.frames)
        ada.task.send(ada.reply(to: request))
        let answer = try await client.next()
        #expect(MessageHeader.messageID(scanning: answer.parent) == MessageID(again.id))
        #expect(ada.task.received == 0)
        await world.stop()
    }

    @Test(
        "A task that an engine answers before its client sends it again has that answer, however large", arguments: [0, 1 << 20])
    func answeredBefore(size: Int) async throws {
        _ = try await self.firstLife(1)
        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let ada = try await world.startEngine("ada", restored: true)
        let question = try await ada.control.next()
        let again = world.message(.applyRequest, session: "customer", buffers: [ByteBuffer(string: "function")])
        ada.task.send(ada.reply(to: try Message(frames: [ByteBuffer(string: "old")] + again.frames), size: size))
        let asked = try #require(question.json["msg_ids"])
        ada.control.send(
            world.message(
                .reportReply,
                content: ["status": "ok", "asked": asked, "has": .array((asked.array ?? []) + [.string(again.id)]), "lost": []],
                parent: question.header, identities: Array(question.identities)))
        // A question by the same socket is answered after the reply has been read.
        let query = world.socket(.dealer, world.client.common.registration)
        while try await query.ask(world.message(.queueRequest, content: ["targets": [], "verbose": true])).json["status"] == nil {
        }
        client.send(again)
        let answer = try await client.next()
        #expect(MessageHeader.messageID(scanning: answer.parent) == MessageID(again.id))
        #expect(answer.texts == ["result of ada" + String(repeating: ".", count: size)])
        // Nobody was asked to run it.
        #expect(ada.task.received == 0)
        let queues = try await query.ask(world.message(.queueRequest, content: ["targets": ["ada"]]))
        #expect(queues.json["0"]?["tasks"] == 1)
        await world.stop()
    }

    @Test("The answer to a task that the store never heard of is recorded, and the next controller has it, too")
    func answerWithoutRecord() async throws {
        _ = try await self.firstLife(1)
        var world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        let ada = try await world.startEngine("ada", restored: true)
        let unheard = world.message(.applyRequest, session: "customer", buffers: [ByteBuffer(string: "function")])
        // Output may come first.
        let text = world.message(
            MessageType(rawValue: "stream"), content: ["name": "stdout", "text": "so far"], parent: unheard.header)
        ada.iopub.send(text)
        ada.task.send(ada.reply(to: try Message(frames: [ByteBuffer(string: "old")] + unheard.frames)))
        while try await self.store.states(of: [TaskID(unheard.id)]) != [.finished] { await Task.yield() }
        await world.stop()

        world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        let query = world.socket(.dealer, world.client.common.registration)
        let result = try await query.ask(world.message(.resultRequest, content: ["msg_ids": [.string(unheard.id)]]))
        #expect(result.texts == ["result of ada"])
        #expect(result.json[unheard.id]?["header"]?["session"] == "customer")
        #expect(result.json[unheard.id]?["metadata"] == [:])
        // The request itself is not known.
        let again = try await query.ask(world.message(.resubmitRequest, content: ["msg_ids": [.string(unheard.id)]]))
        #expect(again.json["evalue"]?.string?.contains("its request was lost with a controller that was killed") == true)
        await world.stop()
    }

    @Test("A task of which only the request's header is left ends as lost")
    func headerOnly() async throws {
        let id = TaskID("left")
        let header = JSONValue.object(["msg_id": "left", "msg_type": "apply_request", "session": "customer"]).packed
        self.store.apply([
            .submitted(id, request: .lost(header: header), client: "customer", date: .now, queue: .balanced, engine: nil)
        ])
        let world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        while try await !self.store.unfinished().isEmpty { await Task.yield() }
        let query = world.socket(.dealer, world.client.common.registration)
        let result = try await query.ask(world.message(.resultRequest, content: ["msg_ids": ["left"]]))
        #expect(result.json["left"]?["result_content"]?["evalue"]?.string?.contains("cannot be taken up again") == true)
        await world.stop()
    }

    @Test("A task that is tried again is no replay to an engine that had the same try from the controller before")
    func triedAgain() async throws {
        let (requests, received) = try await self.firstLife(1, metadata: ["retries": 2])
        let world = try await World(self.options, store: self.store, restoring: ["0": "ada", "1": "bob"])
        let (ada, bob) = (
            try await world.startEngine("ada", restored: true), try await world.startEngine("bob", restored: true)
        )
        ada.task.send(ada.reply(to: received, status: "error"))
        var again = try await bob.task.next()
        while again.type == "kernel_info_request" { again = try await bob.task.next() }
        #expect(again.id == requests[0].id)
        #expect(try JSONValue(parsing: again.metadata)["apus_attempt"] == 2)
        // Behind the metadata is white space, which differs from one controller to the next.
        #expect(again.metadata.readableBytesView.last != UInt8(ascii: "}"))
        await world.stop()
    }

    @Test("Tasks of an engine that does not come back end or go elsewhere")
    func engineStaysAway() async throws {
        let (requests, _) = try await self.firstLife(1)
        let world = try await World(self.options, store: self.store, restoring: ["0": "eve"])
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        // Ada is not among the engines that are expected: the task ended while the controller started.
        let query = world.socket(.dealer, world.client.common.registration)
        let result = try await query.ask(
            world.message(.resultRequest, content: ["msg_ids": [.string(requests[0].id)], "status_only": true]))
        #expect(result.json["completed"] == [.string(requests[0].id)])
        client.close()
        await world.stop()
    }

    @Test("A task that is run again ends at a controller that takes up tasks, too")
    func resubmitted() async throws {
        let world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        let ada = try await world.startEngine("ada", restored: true)
        let probe = try await ada.task.next()
        ada.task.send(
            world.message(
                MessageType(rawValue: "kernel_info_reply"), content: ["status": "ok"], parent: probe.header,
                identities: Array(probe.identities)))
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let request = world.message(.applyRequest, session: "customer", buffers: [ByteBuffer(string: "function")])
        client.send(request)
        ada.task.send(ada.reply(to: try await ada.task.next()))
        _ = try await client.next()
        let query = world.socket(.dealer, world.client.common.registration)
        let answer = try await query.ask(world.message(.resubmitRequest, content: ["msg_ids": [.string(request.id)]]))
        let again = try #require(answer.json["resubmitted"]?[request.id]?.string)
        ada.task.send(ada.reply(to: try await ada.task.next()))
        while try await !self.store.unfinished().isEmpty { await Task.yield() }
        let result = try await query.ask(
            world.message(.resultRequest, content: ["msg_ids": [.string(again)], "status_only": true]))
        #expect(result.json["completed"] == [.string(again)])
        await world.stop()
    }

    @Test("A new task may depend on tasks that ended under the controller before, and learns why they failed")
    func dependsOnEarlierTasks() async throws {
        let (requests, received) = try await self.firstLife(2)
        var world = try await World(self.options, store: self.store, restoring: ["0": "ada"])
        var ada = try await world.startEngine("ada", restored: true)
        let call = [ByteBuffer(string: "function")]
        // Both end under this controller, and under the next one they are known from the store only.
        ada.task.send(ada.reply(to: received))
        var next = try await ada.task.next()
        while next.type != "apply_request" {
            ada.task.send(
                world.message(
                    MessageType(rawValue: "kernel_info_reply"), content: ["status": "ok"], parent: next.header,
                    identities: Array(next.identities)))
            next = try await ada.task.next()
        }
        ada.task.send(
            world.message(
                .applyReply, content: ["status": "error", "ename": "ValueError", "evalue": "no such number"],
                metadata: ["status": "error", "engine": "ada", "dependencies_met": true], parent: next.header,
                identities: Array(next.identities)))
        while try await !self.store.unfinished().isEmpty { await Task.yield() }
        await world.stop()

        world = try await World(self.options, store: self.store)
        ada = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        client.send(world.message(.applyRequest, metadata: ["after": [.string(requests[0].id)]], buffers: call))
        ada.task.send(ada.reply(to: try await ada.task.next()))
        #expect(try await client.next().json["status"] == "ok")
        client.send(world.message(.applyRequest, metadata: ["follow": [.string(requests[0].id)]], buffers: call))
        ada.task.send(ada.reply(to: try await ada.task.next()))
        #expect(try await client.next().json["status"] == "ok")
        let impossible = try await client.ask(
            world.message(.applyRequest, metadata: ["after": [.string(requests[1].id)]], buffers: call))
        #expect(impossible.json["ename"] == "ImpossibleDependency")
        #expect(impossible.json["evalue"]?.string?.contains("failed: ValueError: no such number") == true)
        let unknown = try await client.ask(world.message(.applyRequest, metadata: ["after": ["never heard of"]], buffers: call))
        #expect(unknown.json["ename"] == "InvalidDependency")
        await world.stop()
    }

    /// A request that depends on a task that this controller does not know.
    private func dependentTask(in world: World) -> Message {
        world.message(.applyRequest, metadata: ["after": ["an earlier task"]], buffers: [ByteBuffer(string: "function")])
    }

    @Test("A task that overtakes a request which its client sends again waits for it", arguments: ["after", "follow"])
    func overtakes(member: String) async throws {
        let world = try await World(self.options, store: self.store, restoring: [:])
        let ada = try await world.startEngine("ada")
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let call = [ByteBuffer(string: "function")]
        let again = world.message(.applyRequest, buffers: call)
        let other = world.socket(.dealer, world.client.common.registration)
        client.send(world.message(.applyRequest, metadata: [member: [.string(again.id)]], buffers: call))
        // The records have been asked when they say to another that there is no such task.
        while try await other.ask(world.message(.resultRequest, content: ["msg_ids": [.string(again.id)]])).json["status"] == "ok"
        {}
        client.send(again)
        for _ in 0..<2 {
            ada.task.send(ada.reply(to: try await ada.task.next()))
            #expect(try await client.next().json["status"] == "ok")
        }
        await world.stop()
    }

    @Test("A store that cannot be read for a moment only delays a task whose dependency is looked up there")
    func fullStore() async throws {
        let world = try await World(self.options, store: self.store)
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        self.store.failLookUps(TaskStoreError(.valueError, "the disk is full"))
        client.send(self.dependentTask(in: world))
        while self.store.failedLookUps == 0 { await Task.yield() }
        self.store.failLookUps(nil)
        let answer = try await client.next()
        #expect(answer.json["evalue"]?.string?.contains("was never given to this scheduler") == true)
        await world.stop()
    }

    @Test("A task whose dependency cannot be looked up in the store ends after some seconds, and says so")
    func unreadableStore() async throws {
        let world = try await World(self.options, store: self.store)
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        self.store.failLookUps(TaskStoreError(.valueError, "the disk is gone"))
        let answer = try await client.ask(self.dependentTask(in: world))
        #expect(answer.json["ename"] == "InvalidDependency")
        #expect(answer.json["evalue"]?.string?.contains("the disk is gone") == true)
        await world.stop()
    }

    @Test("A task is aborted while its dependency is being looked up, and queue status tells of it")
    func abortedWhileLookedUp() async throws {
        let world = try await World(self.options, store: self.store)
        let client = world.socket(.dealer, world.client.task, identity: "customer")
        let control = world.socket(.dealer, world.client.control, identity: "customer")
        let query = world.socket(.dealer, world.client.common.registration)
        _ = try await world.startEngine("ada")
        self.store.holdLookUps(true)
        let task = self.dependentTask(in: world)
        client.send(task)
        var queues = try await query.ask(world.message(.queueRequest, content: ["targets": ["ada"], "verbose": true]))
        while queues.json["unassigned"] != [.string(task.id)] {
            queues = try await query.ask(world.message(.queueRequest, content: ["targets": ["ada"], "verbose": true]))
        }
        let identities = [ByteBuffer(string: "ada")]
        control.send(world.message(.abortRequest, content: ["msg_ids": [.string(task.id)]], identities: identities))
        #expect(try await client.next().json["status"] == "aborted")
        self.store.holdLookUps(false)
        let later = try await client.ask(
            world.message(.applyRequest, metadata: ["after": ["an earlier task"]], buffers: [ByteBuffer(string: "function")]))
        #expect(later.json["ename"] == "InvalidDependency")
        await world.stop()
    }

    /// A controller that restores the engine ada, which says what it holds; and a direct request to ada.
    private func directLife() async throws -> (world: World, direct: Peer, request: Message) {
        let world = try await World(
            self.options, store: self.store, restoring: ["0": "ada"],
            describedAs: ["ada": ["reports": true, "recall": true, "python": true]])
        let request = world.message(
            .applyRequest, session: "customer", identities: [ByteBuffer(string: "ada")], buffers: [ByteBuffer(string: "function")]
        )
        return (world, world.socket(.dealer, world.client.mux, identity: "customer"), request)
    }

    /// Answers the controller's next question what ada holds.
    private func report(_ world: World, _ ada: FakeEngine, asked: [String], has: [String] = []) async throws {
        let question = try await ada.control.next()
        #expect(question.json["msg_ids"] == .array(asked.map { .string($0) }))
        ada.control.send(
            world.message(
                .reportReply,
                content: [
                    "status": "ok", "asked": .array(asked.map { .string($0) }), "has": .array(has.map { .string($0) }),
                    "lost": [],
                ],
                parent: question.header, identities: Array(question.identities)))
    }

    @Test("A direct request that comes before its engine is back is sent once the engine has said that it does not have it")
    func directToExpected() async throws {
        let (world, direct, request) = try await self.directLife()
        let query = world.socket(.dealer, world.client.common.registration)
        let words = try await query.ask(world.message(.connectionRequest)).json["apus"]
        #expect(words?["reports"] == ["ada"])
        direct.send(request)
        while try await self.store.states(of: [TaskID(request.id)]) != [.unfinished] { await Task.yield() }
        let ada = try await world.startEngine("ada", restored: true)
        try await self.report(world, ada, asked: [request.id])
        let arrived = try await ada.mux.next()
        #expect(arrived.id == request.id)
        ada.mux.send(ada.reply(to: arrived))
        #expect(try await direct.next().texts == ["result of ada"])
        await world.stop()
    }

    @Test("A direct request that the engine has from the controller before is not sent when its client sends it again")
    func directHeld() async throws {
        let (world, direct, request) = try await self.directLife()
        let ada = try await world.startEngine("ada", restored: true)
        try await self.report(world, ada, asked: [], has: [request.id])
        direct.send(request)
        try await self.report(world, ada, asked: [request.id], has: [request.id])
        ada.mux.send(ada.reply(to: try Message(frames: [ByteBuffer(string: "old")] + request.frames.dropFirst())))
        #expect(try await direct.next().texts == ["result of ada"])
        #expect(ada.mux.received == 0)
        await world.stop()
    }

    @Test("A direct request that the engine answers before its client sends it again has that answer, also from the records")
    func directAnsweredBefore() async throws {
        let (world, direct, request) = try await self.directLife()
        let ada = try await world.startEngine("ada", restored: true)
        ada.mux.send(ada.reply(to: try Message(frames: [ByteBuffer(string: "old")] + request.frames.dropFirst())))
        // The connection has shown no session, so it may be the client's.
        #expect(try await direct.next().texts == ["result of ada"])
        while try await self.store.states(of: [TaskID(request.id)]) != [.finished] { await Task.yield() }
        direct.send(request)
        let again = try await direct.next()
        #expect(again.texts == ["result of ada"])
        #expect(MessageHeader.messageID(scanning: again.parent) == MessageID(request.id))
        #expect(ada.mux.received == 0)
        await world.stop()
    }

    @Test("A recorded direct request that never came to its engine is sent again")
    func directNeverArrived() async throws {
        let first = try await World(self.options, store: self.store)
        _ = try await first.startEngine("ada")
        let client = first.socket(.dealer, first.client.mux, identity: "customer")
        let request = first.message(
            .applyRequest, session: "customer", identities: [ByteBuffer(string: "ada")], buffers: [ByteBuffer(string: "function")]
        )
        client.send(request)
        while try await self.store.unfinished().isEmpty { await Task.yield() }
        await first.stop()

        let (world, direct, _) = try await self.directLife()
        let ada = try await world.startEngine("ada", restored: true)
        try await self.report(world, ada, asked: [request.id])
        let arrived = try await ada.mux.next()
        #expect(arrived.id == request.id)
        ada.mux.send(ada.reply(to: arrived))
        #expect(try await direct.next().texts == ["result of ada"])
        await world.stop()
    }

    @Test(
        "The answer to a copy of a broadcast goes to its client after the controller's death; a part of a coalesced one is recorded",
        arguments: [false, true])
    func broadcast(isCoalescing: Bool) async throws {
        let first = try await World(self.options, store: self.store)
        let ada = try await first.startEngine("ada")
        let client = first.socket(.dealer, try #require(first.client.broadcast), identity: "customer")
        let request = first.message(
            .applyRequest, session: "customer",
            metadata: [
                "targets": [["ada", 0]], "is_broadcast": true, "is_coalescing": .bool(isCoalescing), "apus_copies": true,
            ], buffers: [ByteBuffer(string: "function")])
        client.send(request)
        let copy = try await ada.broadcast.next()
        #expect(copy.id == "\(request.id)_ada")
        while try await self.store.unfinished().isEmpty { await Task.yield() }
        await first.stop()

        let (world, _, _) = try await self.directLife()
        let again = world.socket(.dealer, try #require(world.client.broadcast), identity: "customer")
        let restored = try await world.startEngine("ada", restored: true)
        try await self.report(world, restored, asked: [copy.id], has: [copy.id])
        restored.broadcast.send(
            restored.reply(
                to: copy,
                more: ["is_broadcast": true, "is_coalescing": .bool(isCoalescing), "original_msg_id": .string(request.id)]))
        while try await self.store.states(of: [TaskID(copy.id)]) != [.finished] { await Task.yield() }
        if isCoalescing {
            // The next answer to the client is to its next request.
            again.send(
                world.message(
                    .applyRequest, session: "customer",
                    metadata: ["targets": [["eve", 1]], "is_broadcast": true, "apus_copies": true]))
            #expect(try await again.next().json["ename"] == "EngineError")
        } else {
            let answer = try await again.next()
            #expect(answer.texts == ["result of ada"])
            #expect(answer.parent.textMember("msg_id") == copy.id)
        }
        await world.stop()
    }

    @Test("A copy of a broadcast that never came to its engine is sent again")
    func broadcastNeverArrived() async throws {
        let first = try await World(self.options, store: self.store)
        let ada = try await first.startEngine("ada")
        let client = first.socket(.dealer, try #require(first.client.broadcast), identity: "customer")
        client.send(
            first.message(
                .applyRequest, session: "customer",
                metadata: ["targets": [["ada", 0]], "is_broadcast": true, "is_coalescing": false, "apus_copies": true],
                buffers: [ByteBuffer(string: "function")]))
        let copy = try await ada.broadcast.next()
        while try await self.store.unfinished().isEmpty { await Task.yield() }
        await first.stop()

        let (world, _, _) = try await self.directLife()
        let again = world.socket(.dealer, try #require(world.client.broadcast), identity: "customer")
        let restored = try await world.startEngine("ada", restored: true)
        try await self.report(world, restored, asked: [copy.id])
        let arrived = try await restored.broadcast.next()
        #expect(arrived.id == copy.id)
        restored.broadcast.send(
            restored.reply(
                to: arrived, more: ["is_broadcast": true, "is_coalescing": false, "original_msg_id": .string(copy.id)]))
        #expect(try await again.next().texts == ["result of ada"])
        await world.stop()
    }

    @Test("Clients are told that tasks outlive this controller")
    func feature() async throws {
        let world = try await World(self.options, store: self.store, restoring: ["0": "eve"])
        let query = world.socket(.dealer, world.client.common.registration)
        let features = try await query.ask(world.message(.connectionRequest)).json["apus"]?["features"]?.array ?? []
        #expect(features.contains("restoration"))
        await world.stop()
        let other = try await World(self.options)
        let otherQuery = other.socket(.dealer, other.client.common.registration)
        let less = try await otherQuery.ask(other.message(.connectionRequest)).json["apus"]?["features"]?.array ?? []
        #expect(!less.contains("restoration"))
        await other.stop()
    }
}
