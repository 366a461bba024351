import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("What a client makes of replies and output")
struct ClientTaskTests {
    private func session() -> SessionTranscript { SessionTranscript(engines: ["0": "ada", "1": "bob"]) }

    // MARK: Replies

    @Test("A reply completes the task that it names; the same again, and replies of nothing, change nothing")
    func replies() {
        var client = self.session()
        #expect(client.submit(a) == [])
        #expect(client.submit(b) == [])
        #expect(client.reply(b) == [.keepReply(of: client[b], .end)])
        #expect(client.reply(b) == [])
        #expect(client.reply(TaskID("unheard of")) == [])
        #expect(client.reply(a) == [.keepReply(of: client[a], .end)])
    }

    @Test("A second reply does not replace the first, which somebody may have read")
    func secondReply() {
        var client = self.session()
        client.submit(a)
        client.submit(b, output: .awaited)
        #expect(client.reply(a, outputs: nil) == [.keepReply(of: client[a], .tell), client.timer(in: .seconds(5))])
        #expect(client.reply(a, outputs: 0) == [])
        #expect(client.reply(b, outputs: nil) == [.keepReply(of: client[b], .wait)])
        #expect(client.reply(b, outputs: nil, isSynthetic: true) == [])
        #expect(client.on(.idled(after: b)) == [.conclude(client[b])])
    }

    @Test("A task for which nobody waits any more is forgotten, and so is its reply")
    func abandoned() {
        var client = self.session()
        client.submit(a, on: .query, output: .ignored)
        #expect(client.on(.abandoned(a)) == [.forget(client[a])])
        #expect(client.on(.abandoned(a)) == [])
        #expect(client.reply(a, outputs: nil) == [])
    }

    @Test("A reply that is too large fails its task, and says how large replies may be")
    func tooLarge() {
        var client = self.session()
        client.submit(a)
        client.submit(b, on: .broadcast, to: [ada, bob], output: .ignored)
        #expect(client.on(.replyWasTooLarge(ClientSession.Reply(to: a), limit: 10)) == [.fail(client[a], .tooLarge(limit: 10))])
        #expect(client.on(.replyWasTooLarge(ClientSession.Reply(to: a), limit: 10)) == [])
        let gathered = ClientSession.Reply(to: TaskID("b_ada"), original: b)
        #expect(client.on(.replyWasTooLarge(gathered, limit: 10)) == [.fail(client[b], .tooLarge(limit: 10))])
    }

    // MARK: Slots

    @Test("A task has a slot of its own until it has ended, and then the next one gets that slot")
    func slots() {
        var client = self.session()
        client.submit(a)
        client.submit(b)
        #expect(client[a] != client[b])
        #expect(client.session.slot(of: a) == client[a])
        client.reply(a)
        #expect(client.session.slot(of: a) == nil)
        client.submit(c)
        #expect(client[c] == client[a])
        #expect(client.reply(a) == [], "a reply to the earlier task means nothing to the later one")
        #expect(client.reply(c) == [.keepReply(of: client[c], .end)])
    }

    @Test("A task that is submitted under the id of a pending one takes its place")
    func sameID() {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada])
        let slot = client[a]
        client.submit(a, on: .mux, to: [bob])
        #expect(client[a] == slot)
        #expect(!client.session.isAwaiting(anyOf: [ada]))
        #expect(client.reply(a) == [.keepReply(of: slot, .end)])
        #expect(client.reply(a) == [])
    }

    @Test("Of thousands of pending tasks each is found by its id, in whatever order they end", arguments: UInt64(0)..<5)
    func many(seed: UInt64) {
        var client = self.session()
        var random = SeededGenerator(seed: seed)
        var pending: [TaskID] = []
        for round in 0..<10 {
            let tasks = (0..<300).map { TaskID(String(repeating: "x", count: $0 % 20) + "\(round)_\($0)") }
            client.submit(tasks)
            pending = (pending + tasks).shuffled(using: &random)
            for task in pending.suffix(200) {
                let slot = client.session.slot(of: task)
                #expect(slot == client[task])
                #expect(client.replyUnchecked(task) == [.keepReply(of: client[task], .end)])
            }
            pending.removeLast(200)
            #expect(throws: Never.self) { try client.session.checkInvariants() }
        }
        #expect(pending.allSatisfy { client.session.slot(of: $0) == client[$0] })
    }

    // MARK: Broadcasts

    @Test("Each copy of a broadcast is a task of its own")
    func broadcast() {
        var client = self.session()
        let (first, second) = (TaskID("x_ada"), TaskID("x_bob"))
        client.submit(first, on: .broadcast, to: [ada])
        client.submit(second, on: .broadcast, to: [bob])
        #expect(client.reply(second, original: TaskID("x")) == [.keepReply(of: client[second], .end)])
        #expect(client.reply(second, original: TaskID("x")) == [])
        #expect(client.reply(first, original: TaskID("x")) == [.keepReply(of: client[first], .end)])
    }

    @Test("Replies that became one name a copy as their parent, and answer the request that all are copies of")
    func coalesced() {
        var client = self.session()
        client.submit(a, on: .broadcast, to: [ada, bob], output: .ignored)
        // Nobody counts the output of many engines.
        #expect(client.reply(TaskID("a_bob"), original: a, outputs: 3) == [.keepReply(of: client[a], .end)])
        #expect(client.reply(TaskID("a_bob"), original: a, outputs: 3) == [])
    }

    // MARK: Output

    @Test("A reply that says how much output there is waits for that much, whichever comes first")
    func counted() {
        var client = self.session()
        client.submit(a)
        client.submit(b)
        #expect(client.reply(a, outputs: 2) == [.keepReply(of: client[a], .wait), client.timer(in: .seconds(5))])
        #expect(client.on(.outputCame(of: a)) == [.keepOutput(of: client[a], .wait)])
        #expect(client.on(.outputCame(of: a)) == [.keepOutput(of: client[a], .end)])
        #expect(client.on(.outputCame(of: a)) == [])
        #expect(client.on(.outputCame(of: b)) == [.keepOutput(of: client[b], .wait)])
        #expect(client.reply(b, outputs: 1) == [.keepReply(of: client[b], .end)])
    }

    @Test("Where an engine does not say how much there is, the result is there with the reply, and output may follow for a while")
    func uncounted() {
        var client = self.session()
        client.submit(a)
        client.submit(b)
        #expect(client.reply(a, outputs: nil) == [.keepReply(of: client[a], .tell), client.timer(in: .seconds(5))])
        client.wait(.seconds(1))
        #expect(client.reply(b, outputs: nil) == [.keepReply(of: client[b], .tell)])
        #expect(client.on(.outputCame(of: a)) == [.keepOutput(of: client[a], .wait)])
        #expect(client.on(.idled(after: a)) == [.conclude(client[a])])
        #expect(client.on(.outputCame(of: a)) == [])
        #expect(client.fire(after: .seconds(4)) == [client.timer(in: .seconds(1))])
        #expect(client.on(.outputCame(of: b)) == [.keepOutput(of: client[b], .wait)])
        #expect(client.fire(after: .seconds(1)) == [.conclude(client[b])])
    }

    @Test("A caller that wants all output waits for the reply and for idle, in either order, but not for ever")
    func awaited() {
        var client = self.session()
        for task in [a, b, c] { client.submit(task, output: .awaited) }
        #expect(client.reply(a, outputs: nil) == [.keepReply(of: client[a], .wait), client.timer(in: .seconds(5))])
        #expect(client.on(.outputCame(of: a)) == [.keepOutput(of: client[a], .wait)])
        #expect(client.on(.idled(after: a)) == [.conclude(client[a])])
        #expect(client.on(.idled(after: b)) == [])
        #expect(client.reply(b, outputs: nil) == [.keepReply(of: client[b], .end)])
        #expect(client.reply(c, outputs: nil) == [.keepReply(of: client[c], .wait)])
        #expect(client.fire(after: .seconds(5)) == [.conclude(client[c])])
    }

    @Test("Nobody waits for the output of a reply that no engine made")
    func synthetic() {
        var client = self.session()
        client.submit(a, output: .awaited)
        #expect(client.reply(a, outputs: nil, isSynthetic: true) == [.keepReply(of: client[a], .end)])
    }

    // MARK: Engines that end

    @Test("A dead engine's last replies get a moment; what it still owes then has failed")
    func engineDeath() {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada])
        client.submit(b, on: .mux, to: [ada])
        client.submit(c, on: .mux, to: [bob])
        client.submit(d, on: .broadcast, to: [ada, bob], output: .ignored)
        client.submit(e)
        #expect(client.on(.engineNews(.removed(0, ada))) == [.announceChange, client.timer(in: .milliseconds(100))])
        #expect(client.reply(a) == [.keepReply(of: client[a], .end)])
        #expect(client.fire(after: .milliseconds(100)) == [.fail(client[b], .engineDied(0)), .fail(client[d], .engineDied(0))])
    }

    @Test("An engine that comes back under its uuid has only the tasks that are sent to it from then on")
    func engineReturn() {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada])
        client.on(.engineNews(.removed(0, ada)))
        client.on(.engineNews(.added(0, ada, [:])))
        client.submit(b, on: .mux, to: [ada])
        #expect(client.fire(after: .milliseconds(100)) == [.fail(client[a], .engineDied(0))])
        #expect(client.session.isAwaiting(anyOf: [ada]))
    }

    @Test("A reply counts even if its engine dies before all output has come")
    func deathAfterReply() {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada], output: .awaited)
        client.reply(a, outputs: nil)
        client.on(.engineNews(.removed(0, ada)))
        #expect(client.fire(after: .milliseconds(100)).first == .conclude(client[a]))
    }

    @Test("Tasks with a run limit fail when an engine that was to keep it says that it does not")
    func limitsAreNotKept() {
        var client = self.session()
        client.submit(a)
        client.submit(b)
        #expect(client.on(.engineTold(ada, keepsLimits: false)) == [])
        #expect(client.session.directory.keepsLimits(ada) == false)
        #expect(client.on(.limitsAreNotKept(by: 0, [a, TaskID("gone")])) == [.fail(client[a], .limitNotKept(by: 0))])
        #expect(client.reply(b) == [.keepReply(of: client[b], .end)])
    }

    @Test("The client waits for an engine while a request to it has no answer")
    func awaiting() {
        var client = self.session()
        client.submit(a, on: .mux, to: [ada])
        client.submit(b)
        #expect(client.session.isAwaiting(anyOf: [ada, bob]))
        #expect(!client.session.isAwaiting(anyOf: [bob]))
        client.reply(a, outputs: nil)
        #expect(!client.session.isAwaiting(anyOf: [ada]), "what may follow is output")
    }
}
