import ApusCore
import ApusTestKit
import ApusWire
import Testing

@Suite("An engine's life as transcripts")
struct EngineSessionTests {
    private func registered() -> EngineSession {
        var session = EngineSession()
        _ = session.handle(.started)
        _ = session.handle(.registered(7, heartbeatPeriod: 3000))
        _ = session.handle(.connected)
        return session
    }

    @Test("An engine registers, connects, and only then lets its heart beat")
    func registers() {
        var session = EngineSession()
        #expect(session.handle(.started) == [.sendRegistrationRequest, .startTimer(.registration, milliseconds: 10_000)])
        #expect(
            session.handle(.registered(7, heartbeatPeriod: 3000)) == [
                .stopTimer(.registration), .serve(7), .startTimer(.connection, milliseconds: 10_000),
            ])
        #expect(
            session.handle(.connected) == [
                .stopTimer(.connection), .startHeart, .startTimer(.heartbeatCheck, milliseconds: 3500),
            ])
        #expect(session.engineID == 7)
    }

    @Test("An engine whose ports do not all answer never beats: it withdraws, and ends")
    func silentPorts() {
        var session = EngineSession()
        _ = session.handle(.started)
        _ = session.handle(.registered(7, heartbeatPeriod: 1000))
        #expect(
            session.handle(.timerFired(.connection)) == [
                .stopTimer(.connection), .stopTimer(.heartbeatCheck), .sendUnregistrationRequest(7), .finish(.portsSilent),
            ])
        #expect(session.handle(.connected) == [])
    }

    @Test("A refusal ends the engine with the hub's words")
    func refused() {
        var session = EngineSession()
        _ = session.handle(.started)
        #expect(session.handle(.refused("uuid in use")) == [.stopTimer(.registration), .finish(.refused("uuid in use"))])
        #expect(session.handle(.cancelled) == [])
    }

    @Test("A registration that times out is withdrawn, even when the answer comes after all")
    func timesOut() {
        var session = EngineSession()
        _ = session.handle(.started)
        #expect(
            session.handle(.timerFired(.registration)) == [
                .sendUnregistrationRequest(nil), .startTimer(.withdrawal, milliseconds: 1000),
            ])
        #expect(session.handle(.registered(7, heartbeatPeriod: 3000)) == [.sendUnregistrationRequest(7)])
        #expect(session.handle(.timerFired(.withdrawal)) == [.finish(.registrationTimedOut)])
    }

    @Test("A ping forgives all missed ones; the limit in a row ends the engine")
    func watchesHeartbeat() {
        var options = EngineSession.Options()
        options.missedHeartbeatLimit = 2
        var session = EngineSession(options: options)
        _ = session.handle(.started)
        _ = session.handle(.registered(7, heartbeatPeriod: 100))
        _ = session.handle(.connected)
        let again: [EngineSession.Effect] = [.startTimer(.heartbeatCheck, milliseconds: 600)]
        #expect(session.handle(.timerFired(.heartbeatCheck)) == again)
        #expect(session.handle(.pinged) == [])
        #expect(session.handle(.timerFired(.heartbeatCheck)) == again)
        #expect(session.handle(.timerFired(.heartbeatCheck)) == again)
        #expect(
            session.handle(.timerFired(.heartbeatCheck)) == [
                .stopTimer(.connection), .stopTimer(.heartbeatCheck), .sendUnregistrationRequest(7), .finish(.controllerLost),
            ])
    }

    @Test("An engine that the controller does not know any more drops what it has, and registers again when nothing runs")
    func registersAgain() {
        var session = self.registered()
        #expect(session.handle(.requested(.registerAgain(EngineUUID("me")))) == [.stopTimer(.heartbeatCheck), .standDown])
        #expect(session.handle(.requested(.registerAgain(EngineUUID("me")))) == [])
        #expect(session.handle(.pinged) == [])
        let asks: [EngineSession.Effect] = [.sendRegistrationRequest, .startTimer(.registration, milliseconds: 10_000)]
        #expect(session.handle(.workEnded) == asks)
        #expect(session.handle(.timerFired(.registration)) == asks)
        #expect(
            session.handle(.registered(7, heartbeatPeriod: 3000)) == [
                .stopTimer(.registration), .serve(7), .startTimer(.connection, milliseconds: 10_000),
            ])
        #expect(session.handle(.connected).contains(.startHeart))
        #expect(session.engineID == 7)
    }

    @Test("It asks for as long as it waits for a silent controller's heart, and then ends; without that limit, for ever")
    func stopsAsking() {
        var options = EngineSession.Options()
        for (limit, asked) in [(6, 2), (1, 1), (0, 100), (Int.max, 100)] {
            options.missedHeartbeatLimit = limit
            options.registrationTimeout = 10_000
            var session = EngineSession(options: options)
            for event: EngineSession.Event in [.started, .registered(7, heartbeatPeriod: 3000), .connected] {
                _ = session.handle(event)
            }
            _ = session.handle(.requested(.registerAgain(EngineUUID("me"))))
            var effects = session.handle(.workEnded)
            var count = 0
            while effects.first == .sendRegistrationRequest, count < 100 {
                count += 1
                effects = session.handle(.timerFired(.registration))
            }
            #expect(count == asked)
            if asked < 100 { #expect(effects == [.finish(.controllerLost)]) }
        }
    }

    @Test("Refused, or stopped, while it registers again, it ends")
    func endsWhileReturning() {
        var session = self.registered()
        _ = session.handle(.requested(.registerAgain(EngineUUID("me"))))
        var stopped = session
        #expect(stopped.handle(.cancelled) == [.stopTimer(.registration), .finish(.cancelled)])
        _ = session.handle(.workEnded)
        #expect(session.handle(.refused("in use")) == [.stopTimer(.registration), .finish(.refused("in use"))])
    }

    @Test("A shutdown is answered, published and reported before the last task ends")
    func shutsDown() {
        var session = self.registered()
        #expect(
            session.handle(.requested(.shutdown(restart: true))) == [
                .stopTimer(.connection), .stopTimer(.heartbeatCheck), .reply(.shutdown(restart: true)),
                .publishShutdown(restart: true),
                .sendUnregistrationRequest(7), .endWork,
            ])
        #expect(session.handle(.requested(.clear)) == [])
        #expect(session.handle(.workEnded) == [.finish(.shutDown)])
    }

    @Test("Control requests become what is to be done and what is to be said")
    func control() {
        var session = self.registered()
        #expect(
            session.handle(.requested(.abort(.requests([MessageID("a")])))) == [
                .abort(.requests([MessageID("a")])), .reply(.ok(.abort)),
            ])
        #expect(session.handle(.requested(.recall([MessageID("b")]))) == [.giveBack([MessageID("b")])])
        #expect(session.handle(.requested(.clear)) == [.clearNamespace, .reply(.ok(.clear))])
        #expect(session.handle(.requested(.interrupt)) == [.interrupt(.interrupt)])
        #expect(session.handle(.requested(.signal(.interrupt))) == [.interrupt(.signal)])
        #expect(session.handle(.requested(.signal(.other(10)))) == [.raiseSignal(10)])
        #expect(
            session.handle(.requested(.signal(.terminate))) == [
                .reply(.ok(.signal)), .stopTimer(.connection), .stopTimer(.heartbeatCheck), .sendUnregistrationRequest(7),
                .finish(.signalled),
            ])
    }

    @Test("Signals come as numbers or names")
    func signals() {
        func signal(_ value: JSONValue) -> ControlRequest? { ControlRequest(.signalRequest, content: ["sig": value]) }
        #expect(signal(2) == .signal(.interrupt))
        #expect(signal("SIGINT") == .signal(.interrupt))
        #expect(signal("TERM") == .signal(.terminate))
        #expect(signal(9) == .signal(.kill))
        #expect(signal(1) == .signal(.other(1)))
        #expect(signal("SIGFOO") == .signal(.unknown("SIGFOO")))
        #expect(signal(999) == .signal(.unknown("999")))
        #expect(ControlRequest(.signalRequest, content: [:]) == .signal(.unknown("null")))
    }

    @Test("An abort names ids, one id, the executes or everything")
    func abortions() {
        func abortion(_ content: JSONValue) -> ControlRequest? { ControlRequest(.abortRequest, content: content) }
        #expect(abortion(["msg_ids": ["a", "b"]]) == .abort(.requests([MessageID("a"), MessageID("b")])))
        #expect(abortion(["msg_ids": "a"]) == .abort(.requests([MessageID("a")])))
        #expect(abortion(["msg_ids": []]) == .abort(.queuedExecutes))
        #expect(abortion(["msg_ids": nil]) == .abort(.queuedExecutes))
        #expect(abortion(["msg_ids": [], "apus_all": true]) == .abort(.everythingQueued))
        #expect(abortion(["msg_ids": ["a"], "apus_running": true]) == .abortAndInterrupt([MessageID("a")]))
        #expect(ControlRequest(MessageType(rawValue: "debug_request"), content: [:]) == nil)
    }
}

@Suite("An engine's queue")
struct RequestQueueTests {
    @Test("Requests run in the order they came")
    func order() {
        var queue = RequestQueue<Int>()
        queue.append(contentsOf: [1, 2])
        let first = queue.next()?.request
        queue.append(contentsOf: [3])
        let rest = [queue.next()?.request, queue.next()?.request]
        #expect(first == 1)
        #expect(rest == [2, 3])
        #expect(queue.isRunning)
        #expect(queue.next()?.request == nil)
        #expect(!queue.isRunning)
    }

    @Test("What waits can be taken out; what was handed out cannot")
    func takesOut() {
        var queue = RequestQueue<Int>()
        queue.append(contentsOf: 1...5)
        _ = queue.next()
        #expect(queue.takeOut { $0.isMultiple(of: 2) || $0 == 1 } == [2, 4])
        #expect(queue.next()?.request == 3)
        #expect(queue.count == 1)
    }

    @Test("An id that was aborted before it came is told once, and forgotten in time")
    func abortsEarly() {
        var queue = RequestQueue<Int>(abortedLimit: 2)
        queue.abortEarly(["a", "b", "c"].map { MessageID($0) })
        queue.append(contentsOf: [1])
        #expect(queue.next()?.mayBeAborted == true)
        let aborted = ["a", "b", "b", "c"].map { queue.consumeAbortion(of: MessageID($0)) }
        #expect(aborted == [false, true, false, true])
        queue.append(contentsOf: [2])
        #expect(queue.next()?.mayBeAborted == false)
    }

    @Test("A closed queue takes nothing and has nothing")
    func closes() {
        var queue = RequestQueue<Int>()
        queue.append(contentsOf: [1])
        queue.close()
        queue.append(contentsOf: [2])
        #expect(queue.next() == nil)
        #expect(queue.isClosed)
    }
}
