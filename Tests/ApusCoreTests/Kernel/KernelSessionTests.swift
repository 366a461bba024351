import ApusCore
import Testing

/// A moment, that many milliseconds after the clock's start.
private func at(_ milliseconds: Int) -> MonotonicTime { MonotonicTime(.milliseconds(milliseconds)) }

extension KernelSession {
    /// A session whose process, of number 1, is up and idle.
    fileprivate static func idle(_ change: (inout Options) -> Void = { _ in }) -> KernelSession {
        var options = Options()
        change(&options)
        var session = KernelSession(options: options)
        _ = session.handle(.connected)
        _ = session.handle(.started(process: 1))
        _ = session.handle(.written(process: 1))
        _ = session.handle(.said(.ready(at: at(0)), by: 1))
        return session
    }

    /// A session that runs request 1.
    fileprivate static func running(limit: Double? = nil, _ change: (inout Options) -> Void = { _ in }) -> KernelSession {
        var session = self.idle(change)
        _ = session.handle(.requested(Request(number: 1, limit: limit)))
        _ = session.handle(.written(process: 1))
        if limit != nil { _ = session.handle(.said(.begun, by: 1)) }
        return session
    }

    fileprivate mutating func die(_ process: Int, after milliseconds: Int = 0) -> [Effect] {
        self.handle(.ended(process: process, how: "a fault", isTorn: false, at: at(milliseconds)))
    }
}

@Suite("A kernel's life as transcripts")
struct KernelSessionTests {
    private typealias Request = KernelSession.Request

    private let replied = KernelSession.Saying.replied(stopsOthers: false)
    private let answered = KernelSession.Answer.asPythonSays(stopsOthers: false)

    // MARK: Requests

    @Test(
        "A process is given its sources, and who it is, before it is handed a request; busy is said when the request is written")
    func start() {
        var session = KernelSession()
        #expect(session.handle(.connected) == [])
        #expect(session.handle(.started(process: 1)) == [.write([.sources, .identity], to: 1)])
        #expect(session.handle(.written(process: 1)) == [])
        #expect(session.handle(.said(.ready(at: at(900)), by: 1)) == [.report(.ready)])
        #expect(session.handle(.requested(Request(number: 1, isQuiet: false))) == [.write([.request(1)], to: 1)])
        #expect(session.handle(.written(process: 1)) == [.tellBusy(1)])
        #expect(session.handle(.said(.published(place: 1), by: 1)) == [.publish(for: 1)])
        #expect(
            session.handle(.said(.replied(stopsOthers: true), by: 1)) == [
                .answer(1, .asPythonSays(stopsOthers: true), outputs: 1)
            ])
        #expect(session.description == "idle, process 1")
    }

    @Test("Busy is said before the first output, and before the answer, however slow the writing thread is")
    func busy() {
        var session = KernelSession.idle()
        _ = session.handle(.requested(Request(number: 1, isQuiet: false)))
        #expect(session.handle(.said(.published(place: 1), by: 1)) == [.tellBusy(1), .publish(for: 1)])
        #expect(session.handle(.said(self.replied, by: 1)) == [.answer(1, self.answered, outputs: 1)])
        #expect(session.handle(.written(process: 1)) == [])
        _ = session.handle(.requested(Request(number: 2, isQuiet: false)))
        #expect(session.handle(.said(self.replied, by: 1)) == [.tellBusy(2), .answer(2, self.answered, outputs: 0)])
    }

    @Test("A request that comes before Python is up waits for that")
    func early() {
        var session = KernelSession()
        _ = session.handle(.connected)
        #expect(session.handle(.requested(Request(number: 1))) == [])
        _ = session.handle(.started(process: 1))
        _ = session.handle(.written(process: 1))
        #expect(session.handle(.said(.ready(at: at(0)), by: 1)) == [.report(.ready), .write([.request(1)], to: 1)])
    }

    @Test("One thread writes at a time: what is to be written meanwhile follows, and a request last")
    func writing() {
        var session = KernelSession.idle()
        #expect(session.handle(.clearAsked) == [.write([.clear], to: 1)])
        #expect(session.handle(.clearAsked) == [])
        #expect(session.handle(.connected) == [])
        #expect(session.handle(.requested(Request(number: 1, isQuiet: false))) == [])
        #expect(session.description == "handing, process 1, request 1")
        #expect(session.handle(.written(process: 1)) == [.write([.identity, .clear, .request(1)], to: 1)])
        #expect(session.handle(.clearAsked) == [])
        #expect(session.handle(.written(process: 1)) == [.tellBusy(1), .write([.clear], to: 1)])
    }

    @Test("A request that was to be written when the process died is handed to the next")
    func diesBeforeHanding() {
        var session = KernelSession.idle()
        _ = session.handle(.clearAsked)
        _ = session.handle(.requested(Request(number: 1)))
        #expect(
            session.die(1) == [
                .report(.restarted(.died(how: "a fault"), after: .milliseconds(500))), .start(after: .milliseconds(500)),
            ])
        #expect(session.handle(.written(process: 1)) == [])
        #expect(session.handle(.started(process: 2)) == [.write([.sources, .identity], to: 2)])
        _ = session.handle(.written(process: 2))
        #expect(session.handle(.said(.ready(at: at(0)), by: 2)) == [.report(.ready), .write([.request(1)], to: 2)])
    }

    @Test("What a task that an earlier request left behind prints is published for that one, and counted for none")
    func leftBehind() {
        var session = KernelSession.running()
        _ = session.handle(.said(self.replied, by: 1))
        #expect(session.handle(.said(.published(place: 1), by: 1)) == [.publish(for: 1)])
        _ = session.handle(.requested(Request(number: 2)))
        #expect(session.handle(.said(.published(place: 1), by: 1)) == [.publish(for: 1)])
        // Output of an unknown request belongs to the last one.
        #expect(session.handle(.said(.published(place: 0), by: 1)) == [.publish(for: 2)])
        #expect(session.handle(.said(self.replied, by: 1)) == [.answer(2, self.answered, outputs: 1)])
    }

    @Test("A process numbers its requests from 1, and output of the first process's is not the second's")
    func places() {
        var session = KernelSession.running()
        _ = session.handle(.said(self.replied, by: 1))
        _ = session.handle(.requested(Request(number: 2)))
        _ = session.die(1)
        _ = session.handle(.started(process: 2))
        _ = session.handle(.written(process: 2))
        _ = session.handle(.said(.ready(at: at(0)), by: 2))
        _ = session.handle(.requested(Request(number: 3)))
        #expect(session.handle(.said(.published(place: 1), by: 2)) == [.publish(for: 3)])
    }

    @Test("Output before the first request is dropped: there is nobody to publish it for")
    func outputBeforeRequests() {
        var session = KernelSession.idle()
        #expect(session.handle(.said(.published(place: 0), by: 1)) == [])
    }

    // MARK: Interrupts

    @Test("An interrupt that comes between two requests is for neither")
    func interruptBetween() {
        var session = KernelSession.running()
        _ = session.handle(.said(self.replied, by: 1))
        #expect(session.handle(.interruptAsked(request: nil)) == [])
        #expect(session.handle(.requested(Request(number: 2))) == [.write([.request(2)], to: 1)])
        #expect(session.description == "running, process 1, request 2")
        #expect(session.handle(.interruptAsked(request: 1)) == [])
        // The signal for the last came when the process had just answered it.
        #expect(session.handle(.said(.missedInterrupt, by: 1)) == [])
    }

    @Test("An interrupt that Python missed is repeated, until the request that it was for has ended")
    func missedInterrupt() {
        var session = KernelSession.running()
        #expect(session.handle(.interruptAsked(request: 1)) == [.interrupt(1)])
        let again = KernelSession.Timer.interruptAgain(request: 1)
        #expect(session.handle(.said(.missedInterrupt, by: 1)) == [.startTimer(again, after: .milliseconds(5))])
        #expect(session.handle(.timerFired(again)) == [.interrupt(1)])
        _ = session.handle(.said(.missedInterrupt, by: 1))
        #expect(session.handle(.said(self.replied, by: 1)) == [.answer(1, self.answered, outputs: 0)])
        #expect(session.handle(.timerFired(again)) == [])
        _ = session.handle(.requested(Request(number: 2)))
        #expect(session.handle(.timerFired(again)) == [])
        _ = session.handle(.interruptAsked(request: 2))
        #expect(session.handle(.timerFired(again)) == [])
    }

    @Test("A request that is interrupted before Python is up is interrupted when that has begun it")
    func earlyInterrupt() {
        var session = KernelSession()
        _ = session.handle(.requested(Request(number: 1)))
        _ = session.handle(.started(process: 1))
        // A signal now would end the process.
        #expect(session.handle(.interruptAsked(request: nil)) == [])
        _ = session.handle(.written(process: 1))
        let again = KernelSession.Timer.interruptAgain(request: 1)
        #expect(
            session.handle(.said(.ready(at: at(0)), by: 1)) == [
                .report(.ready), .write([.request(1)], to: 1), .startTimer(again, after: .milliseconds(5)),
            ])
        #expect(session.handle(.timerFired(again)) == [.interrupt(1)])
    }

    // MARK: Limits

    @Test("A limit counts from when Python begins; at it the request is interrupted, and in the end the process killed")
    func limit() {
        var session = KernelSession.idle { $0.grace = 1 }
        #expect(session.handle(.requested(Request(number: 1, limit: 3))) == [.write([.request(1)], to: 1)])
        _ = session.handle(.written(process: 1))
        #expect(session.handle(.said(.begun, by: 1)) == [.startTimer(.limit(request: 1), after: .seconds(3))])
        #expect(session.handle(.said(.begun, by: 1)) == [])
        #expect(
            session.handle(.timerFired(.limit(request: 1))) == [
                .interrupt(1), .startTimer(.grace(request: 1), after: .seconds(1)),
            ])
        #expect(session.handle(.timerFired(.grace(request: 1))) == [.kill(1)])
        let end = KernelEnd.ignoredInterrupt(limit: 3, grace: 1)
        #expect(
            session.die(1) == [
                .answer(1, .inPlace(end, goesOn: true), outputs: 0), .report(.restarted(end, after: .zero)), .start(after: .zero),
            ])
        #expect("\(end)" == "it did not stop within 1 s of the interrupt at its limit of 3 s, so its kernel was killed")
    }

    @Test("A timer affects no request but its own")
    func lateWatch() {
        var session = KernelSession.running(limit: 1)
        #expect(
            session.handle(.said(self.replied, by: 1)) == [.stopTimer(.limit(request: 1)), .answer(1, self.answered, outputs: 0)])
        #expect(session.handle(.timerFired(.limit(request: 1))) == [])
        _ = session.handle(.requested(Request(number: 2, limit: 1)))
        _ = session.handle(.written(process: 1))
        _ = session.handle(.said(.begun, by: 1))
        #expect(session.handle(.timerFired(.limit(request: 1))) == [])
        #expect(session.handle(.timerFired(.grace(request: 1))) == [])
        #expect(session.description == "running, process 1, request 2")
        // A timer of this request that is not running changes nothing either.
        #expect(session.handle(.timerFired(.grace(request: 2))) == [])
    }

    @Test("A request that ends in its grace is answered as any other, and its kernel lives")
    func endsInGrace() {
        var session = KernelSession.running(limit: 1)
        _ = session.handle(.timerFired(.limit(request: 1)))
        #expect(
            session.handle(.said(self.replied, by: 1)) == [.stopTimer(.grace(request: 1)), .answer(1, self.answered, outputs: 0)])
        #expect(session.handle(.timerFired(.grace(request: 1))) == [])
        #expect(session.description == "idle, process 1")
    }

    @Test("A limit is watched after a client's interrupt as well")
    func limitAfterInterrupt() {
        var session = KernelSession.running(limit: 1)
        _ = session.handle(.interruptAsked(request: nil))
        #expect(
            session.handle(.timerFired(.limit(request: 1))) == [
                .interrupt(1), .startTimer(.grace(request: 1), after: .seconds(2)),
            ])
    }

    // MARK: Ends

    private let fault = KernelEnd.died(how: "a fault")

    @Test("A process that dies with a request is followed at once, and the request answered")
    func diesRunning() {
        var session = KernelSession.running()
        #expect(
            session.die(1) == [
                .answer(1, .inPlace(self.fault, goesOn: true), outputs: 0), .report(.restarted(self.fault, after: .zero)),
                .start(after: .zero),
            ])
        #expect(session.handle(.said(self.replied, by: 1)) == [])
        #expect(session.description == "launching")
    }

    @Test("The same holds for a request that is being interrupted, and its timers end with it")
    func diesInterrupting() {
        var session = KernelSession.running(limit: 1)
        _ = session.handle(.interruptAsked(request: nil))
        #expect(
            session.die(1) == [
                .stopTimer(.limit(request: 1)), .answer(1, .inPlace(self.fault, goesOn: true), outputs: 0),
                .report(.restarted(self.fault, after: .zero)), .start(after: .zero),
            ])
    }

    @Test("Processes that die idle are followed after growing pauses, unless they lived for a while")
    func diesIdle() {
        var session = KernelSession.idle()
        #expect(session.die(1).last == .start(after: .milliseconds(500)))
        for (process, pause) in [(2, 1000), (3, 2000)] {
            _ = session.handle(.started(process: process))
            _ = session.handle(.written(process: process))
            _ = session.handle(.said(.ready(at: at(1000)), by: process))
            #expect(session.die(process, after: 2000).last == .start(after: .milliseconds(pause)))
        }
        _ = session.handle(.started(process: 4))
        _ = session.handle(.written(process: 4))
        _ = session.handle(.said(.ready(at: at(1000)), by: 4))
        #expect(session.die(4, after: 11_000).last == .start(after: .zero))
    }

    @Test("A process that dies before it is up, where none ever was, is the end: what waits is answered")
    func diesStarting() {
        var session = KernelSession()
        _ = session.handle(.requested(Request(number: 1)))
        _ = session.handle(.started(process: 1))
        let end = KernelEnd.endedBeforeReady(how: "a fault")
        #expect(session.die(1) == [.answer(1, .inPlace(end, goesOn: false), outputs: 0), .report(.failed(end))])
        #expect(session.handle(.requested(Request(number: 2))) == [.answer(2, .inPlace(end, goesOn: false), outputs: 0)])
    }

    @Test("Where one was up, failing starts are repeated, then given up; a request waits as long")
    func givesUp() {
        var session = KernelSession.running()
        _ = session.die(1)
        _ = session.handle(.requested(Request(number: 2)))
        let end = KernelEnd.notStarted("no memory")
        for pause in [500, 1000, 2000, 4000, 8000] {
            #expect(
                session.handle(.startFailed("no memory")) == [
                    .report(.restarted(end, after: .milliseconds(pause))), .start(after: .milliseconds(pause)),
                ])
        }
        #expect(
            session.handle(.startFailed("no memory")) == [
                .answer(2, .inPlace(end, goesOn: false), outputs: 0), .report(.failed(end)),
            ])
    }

    @Test("An engine that is to end with its kernel does")
    func endsWithKernel() {
        var session = KernelSession.running { $0.restarts = false }
        #expect(session.die(1) == [.answer(1, .inPlace(self.fault, goesOn: false), outputs: 0), .report(.failed(self.fault))])
    }

    @Test("A process that sends what is no frame has ended by that")
    func torn() {
        var session = KernelSession.running()
        let effects = session.handle(.ended(process: 1, how: "it was killed", isTorn: true, at: at(0)))
        #expect(effects.first == .answer(1, .inPlace(.torn, goesOn: true), outputs: 0))
    }

    // MARK: Restarts

    @Test("A late reply of a killed process is its request's, and the next request waits for the next process")
    func lateReply() {
        var session = KernelSession.running(limit: 9)
        #expect(session.handle(.restartAsked) == [.stopTimer(.limit(request: 1)), .kill(1)])
        #expect(session.handle(.said(self.replied, by: 1)) == [.answer(1, self.answered, outputs: 0)])
        #expect(session.handle(.requested(Request(number: 2))) == [])
        #expect(session.handle(.said(self.replied, by: 1)) == [])
        #expect(session.die(1) == [.report(.restarted(.replaced, after: .zero)), .start(after: .zero)])
        #expect(session.handle(.said(self.replied, by: 1)) == [])
        _ = session.handle(.started(process: 2))
        _ = session.handle(.written(process: 2))
        #expect(session.handle(.said(.ready(at: at(0)), by: 2)).last == .write([.request(2)], to: 2))
        #expect(session.handle(.said(self.replied, by: 1)) == [])
        #expect(session.handle(.said(self.replied, by: 2)) == [.answer(2, self.answered, outputs: 0)])
    }

    @Test("A client's restart kills the process, whatever it does, and none that is not there")
    func restart() {
        var session = KernelSession()
        #expect(session.handle(.restartAsked) == [])
        _ = session.handle(.started(process: 1))
        #expect(session.handle(.restartAsked) == [.kill(1)])
        #expect(session.handle(.restartAsked) == [.kill(1)])
        #expect(session.die(1) == [.report(.restarted(.replaced, after: .zero)), .start(after: .zero)])
    }

    // MARK: exit()

    @Test("An interpreter that user code ends answers its last request and is killed if it lingers; no other is begun")
    func exit() {
        var session = KernelSession.running()
        #expect(session.handle(.said(.leaves, by: 1)) == [])
        let linger = KernelSession.Timer.linger(process: 1)
        #expect(
            session.handle(.said(self.replied, by: 1)) == [
                .answer(1, self.answered, outputs: 0), .startTimer(linger, after: .seconds(2)),
            ])
        #expect(session.handle(.requested(Request(number: 2))) == [])
        #expect(session.handle(.timerFired(linger)) == [.kill(1)])
        #expect(session.die(1) == [.report(.left)])
        #expect(session.description == "left, request 2")
        #expect(session.handle(.stopAsked) == [.answer(2, .inPlace(.stopped, goesOn: false), outputs: 0)])
    }

    @Test("Something in the kernel's event loop may end the interpreter as well; a request without a reply is told so")
    func exitWithoutReply() {
        var session = KernelSession.running()
        _ = session.handle(.said(.leaves, by: 1))
        #expect(session.die(1) == [.answer(1, .inPlace(.left, goesOn: false), outputs: 0), .report(.left)])
        session = .idle()
        #expect(session.handle(.said(.leaves, by: 1)) == [.startTimer(.linger(process: 1), after: .seconds(2))])
        #expect(session.die(1) == [.report(.left)])
    }

    // MARK: Stop

    @Test("An idle process has time to finish, one that runs something has none")
    func stop() {
        var session = KernelSession.idle()
        #expect(session.handle(.stopAsked) == [.letGo(1, isHurried: false)])
        #expect(session.die(1) == [])
        session = .running(limit: 5)
        #expect(session.handle(.stopAsked) == [.letGo(1, isHurried: true), .stopTimer(.limit(request: 1))])
        #expect(session.die(1) == [.answer(1, .inPlace(.stopped, goesOn: false), outputs: 0)])
        #expect(session.handle(.requested(Request(number: 2))) == [.answer(2, .inPlace(.stopped, goesOn: false), outputs: 0)])
    }

    @Test("A stop ends the pause before a start, and a process that is being started is not kept")
    func stopWhileLaunching() {
        var session = KernelSession()
        _ = session.handle(.requested(Request(number: 1)))
        #expect(session.handle(.stopAsked) == [.cancelStart, .answer(1, .inPlace(.stopped, goesOn: false), outputs: 0)])
        #expect(session.handle(.started(process: 1)) == [.letGo(1, isHurried: true)])
        #expect(session.die(1) == [])
        #expect(session.handle(.startFailed("no memory")) == [])
    }

    @Test("What waits for a process is answered at a stop, and what runs may still answer")
    func stopWithReply() {
        var session = KernelSession()
        _ = session.handle(.requested(Request(number: 1)))
        _ = session.handle(.started(process: 1))
        #expect(
            session.handle(.stopAsked) == [
                .letGo(1, isHurried: true), .answer(1, .inPlace(.stopped, goesOn: false), outputs: 0),
            ])
        session = .running()
        _ = session.handle(.stopAsked)
        #expect(session.handle(.said(self.replied, by: 1)) == [.answer(1, self.answered, outputs: 0)])
        #expect(session.die(1) == [])
    }
}
